//! Answer sets: which machines get the same answers, and preparing those answers.
//!
//! A set is a subnet (or a proxy's interface) together with whatever makes a machine different from its
//! neighbours there: options or boot files of its own, of its profile, or of its maker.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use boot_common::class::{Class, Stage};
use boot_common::decide::message;
use boot_common::facts::wanted;
use boot_common::tables::{ANSWER_OPTIONS, Answer, AnswerKey};
use tracing::warn;

use crate::engine::answers::{Parts, prepare};
use crate::engine::command::Command;
use crate::engine::policy::{Differences, Policy};
use crate::engine::tables::Tables;

/// How many answers are kept for the parameter request lists of operating systems, over all sets. They differ by
/// client software, not by machine; a flood of invented lists must not push the useful ones out.
const MOST_LISTS: usize = 1024;

/// The parameter request lists of operating systems that boot from a network everywhere, as captured from them: so
/// that the kernel has their answers before the first one asks. All others it learns when they do.
const COMMON_LISTS: [&[u8]; 2] = [
    // BusyBox udhcpc 1.35, as in initramfs images.
    &[1, 3, 6, 12, 15, 28, 42],
    // ISC dhclient 4.4 with Debian's configuration.
    &[1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42],
];

/// What makes a set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Set {
    /// Position of the interface.
    pub(super) position: usize,
    /// Index of the subnet; `None` for answers without an address.
    pub(super) subnet: Option<usize>,
    /// Our address there.
    pub(super) server: Ipv4Addr,
    /// What makes machines different.
    pub(super) differences: Differences,
}

/// All sets by number.
#[derive(Debug, Default)]
pub(super) struct Sets {
    numbers: HashMap<Set, u32>,
    sets: Vec<Set>,
    lists: usize,
}

impl Sets {
    /// The set's number; its answers for firmware, and for clients that want everything, are prepared.
    pub(super) fn number(
        &mut self,
        set: Set,
        policy: &Policy,
        tables: &mut Tables,
        commands: &mut Vec<Command>,
    ) -> u32 {
        if let Some(number) = self.numbers.get(&set) {
            return *number;
        }
        let number = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        let messages: &[u8] = if set.subnet.is_some() {
            &[message::OFFER, message::ACK, message::INFORM, message::BOOT_ACK]
        } else {
            &[message::OFFER, message::BOOT_ACK]
        };
        for class in Class::all() {
            for &message in messages {
                // Without a loader there is no answer here: `dhcp` says so when such a machine asks.
                let Some(answer) = compose(&set, policy, class, message, None, ANSWER_OPTIONS) else {
                    continue;
                };
                let key = AnswerKey { set: number, wanted: 0, class: class.key(), message, reserved: [0; 2] };
                tables.answers.insert(key, answer);
                commands.push(Command::PutAnswer(key, Box::new(answer)));
            }
        }
        let lists = if set.subnet.is_some() { &COMMON_LISTS[..] } else { &[] };
        self.sets.push(set.clone());
        self.numbers.insert(set, number);
        for list in lists {
            for message in [message::OFFER, message::ACK, message::INFORM] {
                let key = AnswerKey {
                    set: number,
                    wanted: wanted(list),
                    class: Class::OS.key(),
                    message,
                    reserved: [0; 2],
                };
                self.by_list(key, list, policy, tables, commands);
            }
        }
        number
    }

    /// An answer by a client's own list, kept for the next one with that list.
    pub(super) fn by_list(
        &mut self,
        key: AnswerKey,
        list: &[u8],
        policy: &Policy,
        tables: &mut Tables,
        commands: &mut Vec<Command>,
    ) -> Option<Answer> {
        let set = self.sets.get(key.set as usize)?;
        let class = Class::from_key(key.class)?;
        let answer = compose(set, policy, class, key.message, Some(list), ANSWER_OPTIONS)?;
        if self.lists < MOST_LISTS {
            self.lists += 1;
            tables.answers.insert(key, answer);
            commands.push(Command::PutAnswer(key, Box::new(answer)));
        }
        Some(answer)
    }

    /// An answer for a client that takes little: with `room` bytes of options.
    pub(super) fn in_room(
        &self,
        key: AnswerKey,
        list: Option<&[u8]>,
        policy: &Policy,
        room: usize,
    ) -> Option<Answer> {
        compose(
            self.sets.get(key.set as usize)?,
            policy,
            Class::from_key(key.class)?,
            key.message,
            list,
            room,
        )
    }
}

fn compose(
    set: &Set,
    policy: &Policy,
    class: Class,
    message: u8,
    list: Option<&[u8]>,
    room: usize,
) -> Option<Answer> {
    let needs_boot_file = set.subnet.is_none() || message == message::BOOT_ACK;
    if needs_boot_file && class.stage == Stage::Os {
        return None;
    }
    let http = policy.ports().get(set.position)?.http;
    let boot = policy.boot_file(class, http, &set.differences).ok()?;
    let subnet = set.subnet.and_then(|index| policy.subnets().get(index));
    let custom = policy.options(&set.differences, subnet);
    let parts = Parts {
        class,
        message,
        subnet: subnet.filter(|_| message != message::BOOT_ACK),
        server: set.server,
        boot: boot.as_ref(),
        custom: &custom,
        wanted: list,
        room,
    };
    match prepare(&parts) {
        Ok(answer) => Some(answer),
        Err(error) => {
            warn!("{error}");
            None
        }
    }
}
