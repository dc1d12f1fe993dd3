//! Answer sets: which machines get the same answers, and preparing those answers.
//!
//! A set is a subnet (or a proxy's interface) together with whatever makes a machine different from its
//! neighbours there: options or boot files of its own, of its profile, or of its maker.

use std::collections::{HashSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use boot_common::class::{Class, Firmware, Program, Stage};
use boot_common::decide::message;
use boot_common::facts::wanted;
use boot_common::tables::{ANSWER_OPTIONS, Answer, AnswerKey};
use tracing::warn;

use crate::answers::prepare::{Parts, Prepared, prepare};
use crate::command::Command;
use crate::maps::HashMap;
use crate::policy::{Differences, Policy};

/// How many answers are kept for the parameter request lists of operating systems, over all sets. They differ by
/// client software, not by machine; a flood of invented lists must not push the useful ones out.
const MOST_LISTS: usize = 1024;
/// So old an answer by a list makes room for another one. The kernel half does not say what it uses: what is asked for again
/// is learned again.
const LIST_STAYS: Duration = Duration::from_secs(600);

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
pub(crate) struct Set {
    /// Position of the interface.
    pub(crate) position: usize,
    /// Index of the subnet; `None` for answers without an address.
    pub(crate) subnet: Option<usize>,
    /// Our address there.
    pub(crate) server: Ipv4Addr,
    /// What makes machines different.
    pub(crate) differences: Differences,
}

/// The prepared answers, and the sets that they are of, by number.
///
/// Every change of an answer is queued as a command, so that who carries the commands out has the same answers.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// By set, request list, class and message.
    by_key: HashMap<AnswerKey, Arc<Answer>>,
    numbers: HashMap<Set, u32>,
    sets: Vec<Set>,
    lists: usize,
    /// The answers by lists that clients have sent, the oldest first, and since when; some are no more.
    learned: VecDeque<(Duration, AnswerKey)>,
    /// The parameter request lists of the answers that are by one, by their hash in the key.
    by_hash: HashMap<u32, Box<[u8]>>,
    /// Numbers of sets that are no more. They are given again only after the next reload: by then no machine's entry in
    /// the kernel has one of them.
    gone: Vec<u32>,
    free: Vec<u32>,
    /// What was said about options that do not fit: by set, and which.
    said: HashSet<(u32, Vec<u8>)>,
}

/// How often it is said that options do not fit: by then nobody reads it.
const MOST_SAID: usize = 256;

impl Answers {
    /// An answer that is ready.
    pub(crate) fn get(&self, key: &AnswerKey) -> Option<&Answer> {
        self.by_key.get(key).map(Arc::as_ref)
    }

    /// The same for longer than this may be looked at.
    pub(crate) fn shared(&self, key: &AnswerKey) -> Option<Arc<Answer>> {
        self.by_key.get(key).cloned()
    }

    /// The keys of all answers.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> impl Iterator<Item = &AnswerKey> {
        self.by_key.keys()
    }

    /// The set's number; its answers for firmware, and for clients that want everything, are prepared.
    pub(crate) fn number(&mut self, set: Set, policy: &Policy, commands: &mut Vec<Command>) -> u32 {
        if let Some(number) = self.numbers.get(&set) {
            return *number;
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None => u32::try_from(self.sets.len()).unwrap_or(u32::MAX),
        };
        match self.sets.get_mut(number as usize) {
            Some(place) => *place = set.clone(),
            None => self.sets.push(set.clone()),
        }
        for key in common_keys(number, &set) {
            // Without a loader there is no answer here: `dhcp` says so when such a machine asks.
            if let Some(answer) = self.in_room(key, None, policy, ANSWER_OPTIONS) {
                self.by_key.insert(key, Arc::new(answer));
                commands.push(Command::PutAnswer(key, Box::new(answer)));
            }
        }
        let lists = if set.subnet.is_some() { &COMMON_LISTS[..] } else { &[] };
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
                self.put_list(key, list, policy, commands);
            }
        }
        number
    }

    /// Whether there is an answer for a class, which is prepared now if that was not worth while before anybody asked.
    /// What is the daemon's alone is in no table.
    pub(crate) fn has(&mut self, key: AnswerKey, policy: &Policy, commands: &mut Vec<Command>) -> bool {
        if self.by_key.contains_key(&key) {
            return true;
        }
        let Some(answer) = self.in_room(key, None, policy, ANSWER_OPTIONS) else { return false };
        if !Class::from_key(key.class).is_some_and(Class::is_the_daemons) {
            self.by_key.insert(key, Arc::new(answer));
            commands.push(Command::PutAnswer(key, Box::new(answer)));
        }
        true
    }

    /// Forgets the sets of an interface, whose addresses are others now.
    pub(crate) fn forget(&mut self, position: usize) {
        self.numbers.retain(|set, _| set.position != position);
        let Self { by_key, sets, lists, .. } = self;
        by_key.retain(|key, _| {
            let set = usize::try_from(key.set).ok().and_then(|number| sets.get(number));
            let is_kept = set.is_some_and(|set| set.position != position);
            *lists -= usize::from(!is_kept && key.wanted != 0);
            is_kept
        });
    }

    /// Gives subnets other indices. Sets of subnets that have none any more are no more.
    pub(crate) fn renumber(&mut self, new: impl Fn(usize) -> Option<usize>) -> Vec<AnswerKey> {
        let mut gone = HashSet::new();
        for (set, number) in std::mem::take(&mut self.numbers) {
            let subnet = set.subnet.map(&new);
            let Some(place) = self.sets.get_mut(number as usize).filter(|_| subnet != Some(None)) else {
                gone.insert(number);
                continue;
            };
            place.subnet = subnet.flatten();
            self.numbers.insert(place.clone(), number);
        }
        self.drop(&gone)
    }

    /// What a set is of.
    pub(crate) fn set(&self, number: u32) -> Option<&Set> {
        self.sets.get(number as usize)
    }

    /// Prepares the answers of sets anew that are not as they were, and writes those that are others now. Gives the answers
    /// that there are no more.
    pub(crate) fn prepare_anew(
        &mut self,
        is_stale: impl Fn(&Set) -> bool,
        policy: &Policy,
        commands: &mut Vec<Command>,
    ) -> Vec<AnswerKey> {
        let stale: HashMap<u32, Set> = self
            .numbers
            .iter()
            .filter(|(set, _)| is_stale(set))
            .map(|(set, number)| (*number, set.clone()))
            .collect();
        let mut keys: HashSet<AnswerKey> =
            self.by_key.keys().filter(|key| stale.contains_key(&key.set)).copied().collect();
        keys.extend(stale.iter().flat_map(|(number, set)| common_keys(*number, set)));
        self.said.retain(|(number, _)| !stale.contains_key(number));
        let mut gone = Vec::new();
        for key in keys {
            let list = self.by_hash.get(&key.wanted).cloned().filter(|_| key.wanted != 0);
            let prepared = match (key.wanted, list) {
                (0, _) => self.in_room(key, None, policy, ANSWER_OPTIONS),
                (_, Some(list)) => self.in_room(key, Some(&list), policy, ANSWER_OPTIONS),
                (_, None) => None,
            };
            match prepared {
                Some(answer) => {
                    if self.by_key.insert(key, Arc::new(answer)).as_deref() != Some(&answer) {
                        commands.push(Command::PutAnswer(key, Box::new(answer)));
                    }
                }
                None => gone.extend(self.by_key.remove(&key).map(|_| key)),
            }
        }
        self.lists -= gone.iter().filter(|key| key.wanted != 0).count();
        gone
    }

    /// Drops the sets that nobody uses. Gives their answers.
    pub(crate) fn keep(&mut self, used: &HashSet<u32>) -> Vec<AnswerKey> {
        let gone: HashSet<u32> =
            self.numbers.extract_if(|_, number| !used.contains(number)).map(|(_, number)| number).collect();
        self.drop(&gone)
    }

    /// Has the numbers given again of sets that were dropped before: nobody has them any more.
    pub(crate) fn free_numbers(&mut self) {
        self.free.append(&mut self.gone);
    }

    fn drop(&mut self, numbers: &HashSet<u32>) -> Vec<AnswerKey> {
        self.gone.extend(numbers);
        let of_gone: Vec<AnswerKey> =
            self.by_key.extract_if(|key, _| numbers.contains(&key.set)).map(|(key, _)| key).collect();
        self.lists -= of_gone.iter().filter(|key| key.wanted != 0).count();
        let used: HashSet<u32> = self.by_key.keys().map(|key| key.wanted).collect();
        self.by_hash.retain(|hash, _| used.contains(hash));
        self.said.retain(|(number, _)| !numbers.contains(number));
        of_gone
    }

    /// Whether a set is of an interface.
    pub(crate) fn is_of(&self, number: u32, position: usize) -> bool {
        let set = usize::try_from(number).ok().and_then(|number| self.sets.get(number));
        set.is_some_and(|set| set.position == position)
    }

    /// An answer by a client's own list, kept for the next one with that list. `now` runs with the boot clock.
    pub(crate) fn by_list(
        &mut self,
        key: AnswerKey,
        list: &[u8],
        policy: &Policy,
        now: Duration,
        commands: &mut Vec<Command>,
    ) -> Option<Answer> {
        if self.lists >= MOST_LISTS {
            self.forget_oldest(now, commands);
        }
        let answer = self.put_list(key, list, policy, commands)?;
        if self.by_key.contains_key(&key) {
            self.learned.push_back((now, key));
        }
        Some(answer)
    }

    fn put_list(
        &mut self,
        key: AnswerKey,
        list: &[u8],
        policy: &Policy,
        commands: &mut Vec<Command>,
    ) -> Option<Answer> {
        let answer = self.in_room(key, Some(list), policy, ANSWER_OPTIONS)?;
        if self.lists < MOST_LISTS {
            self.lists += 1;
            self.by_hash.entry(key.wanted).or_insert_with(|| list.into());
            self.by_key.insert(key, Arc::new(answer));
            commands.push(Command::PutAnswer(key, Box::new(answer)));
        }
        Some(answer)
    }

    /// Makes room for one list, if the oldest has been here for long enough.
    fn forget_oldest(&mut self, now: Duration, commands: &mut Vec<Command>) {
        while let Some((since, key)) = self.learned.front().copied() {
            let is_gone = !self.by_key.contains_key(&key);
            if !is_gone && now.saturating_sub(since) < LIST_STAYS {
                return;
            }
            self.learned.pop_front();
            if is_gone {
                continue;
            }
            self.by_key.remove(&key);
            self.lists -= 1;
            commands.push(Command::DeleteAnswer(key));
            let is_common = COMMON_LISTS.iter().any(|list| wanted(list) == key.wanted);
            if !is_common && !self.learned.iter().any(|(_, other)| other.wanted == key.wanted) {
                self.by_hash.remove(&key.wanted);
            }
            return;
        }
    }

    /// An answer for a client that takes little: with `room` bytes of options.
    pub(crate) fn in_room(
        &mut self,
        key: AnswerKey,
        list: Option<&[u8]>,
        policy: &Policy,
        room: usize,
    ) -> Option<Answer> {
        let set = self.sets.get(key.set as usize)?.clone();
        let class = Class::from_key(key.class)?;
        let prepared = compose(&set, policy, class, key.message, list, room);
        self.taken(key.set, &set, class, policy, prepared)
    }

    /// The answer, after what is missing in it was said once.
    fn taken(
        &mut self,
        number: u32,
        set: &Set,
        class: Class,
        policy: &Policy,
        prepared: Option<Prepared>,
    ) -> Option<Answer> {
        let Prepared { answer, left_out } = prepared?;
        if !left_out.is_empty() && self.said.len() < MOST_SAID && self.said.insert((number, left_out.clone()))
        {
            let subnet = set.subnet.and_then(|index| policy.subnets().get(index));
            let place = subnet.map_or_else(String::new, |subnet| format!(" in {}", subnet.cidr));
            let client = crate::boot::class_name(class);
            warn!(
                "{} for {client}{place}: the answer is as long as the client accepts; configure fewer or shorter options",
                no_room(&left_out)
            );
        }
        Some(answer)
    }
}

/// The answers that a set has from the start.
fn common_keys(number: u32, set: &Set) -> impl Iterator<Item = AnswerKey> + use<> {
    let messages: &[u8] = if set.subnet.is_some() {
        &[message::OFFER, message::ACK, message::INFORM, message::BOOT_ACK]
    } else {
        &[message::OFFER, message::BOOT_ACK]
    };
    let classes = Class::answered().filter(|class| is_common(*class));
    classes.flat_map(move |class| {
        let key = move |message: &u8| AnswerKey {
            set: number,
            wanted: 0,
            class: class.key(),
            message: *message,
            reserved: [0; 2],
        };
        messages.iter().map(key)
    })
}

/// Whether machines of a class may ask at any time: half of the architectures have no iPXE, and hardly a machine.
fn is_common(class: Class) -> bool {
    class.stage != Stage::Rom
        || class.firmware == Firmware::RaspberryPi
        || class.firmware.program() != Program::Else
}

/// Which options have no room, in words.
pub(crate) fn no_room(codes: &[u8]) -> String {
    match codes {
        [code] => format!("option {code} has no room and is left out"),
        codes => {
            let codes: Vec<String> = codes.iter().map(u8::to_string).collect();
            format!("options {} have no room and are left out", codes.join(", "))
        }
    }
}

fn compose(
    set: &Set,
    policy: &Policy,
    class: Class,
    message: u8,
    list: Option<&[u8]>,
    room: usize,
) -> Option<Prepared> {
    let needs_boot_file = set.subnet.is_none() || message == message::BOOT_ACK;
    if needs_boot_file && class.stage == Stage::Os {
        return None;
    }
    let http = policy.links().get(set.position)?.http;
    let subnet = set.subnet.and_then(|index| policy.subnets().get(index));
    let boot = policy.boot_file(class, http, &set.differences, subnet).ok()?;
    let stage = if class.stage == Stage::ReducedIpxe { Stage::Ipxe } else { class.stage };
    let custom = policy.options(&set.differences, subnet, Class { stage, ..class });
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
        Ok(prepared) => Some(prepared),
        Err(error) => {
            warn!("{error}");
            None
        }
    }
}
