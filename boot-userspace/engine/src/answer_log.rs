//! What the log says about answers: a line for each, as long as somebody can read them.

use std::net::Ipv4Addr;

use boot_common::class::{Class, Stage};
use boot_common::respond::Answered;
use boot_common::tables::Hook;
use boot_common::{Mac, Reason};
use tracing::{info, warn};

use crate::command::Told;
use crate::shares::Shares;
use crate::{Engine, STEP};

/// How many answers get a line of their own within a second: two for each of 5,000 machines that are powered on at
/// once. The kernel half gives fifty times as many, and a line costs more than its answer.
const MOST: u32 = 10_000;
/// How many get one at once over more seconds than one, and how many more in each second after that: enough for thousands
/// of machines that boot and tens of thousands that renew their leases.
const MOST_AT_ONCE: u32 = 60_000;
const MOST_GOING_ON: u32 = 100;
/// How many answers to one machine get a line within a minute: a boot has a dozen.
const MOST_OF_ONE: u32 = 60;
const MINUTE: u32 = 60;
/// How many machines with more than that are named in each minute.
const MOST_NAMED: usize = 20;

/// Counts the lines of the current second and minute.
#[derive(Debug)]
pub(super) struct AnswerLog {
    written: u32,
    left: u32,
    /// Answers of the second that got no line: offers, and everything else.
    offers: u64,
    others: u64,
    /// By machine and interface.
    shares: Shares<(Mac, u32)>,
    seconds: u32,
}

impl Default for AnswerLog {
    fn default() -> Self {
        let shares = Shares::new(MOST_OF_ONE);
        Self { written: 0, left: MOST_AT_ONCE, offers: 0, others: 0, shares, seconds: 0 }
    }
}

impl AnswerLog {
    /// Whether an answer gets a line.
    fn admit(&mut self, reason: Reason, mac: Mac, ifindex: u32) -> bool {
        // In a storm no machine is looked up for a line that is not written.
        if self.written >= MOST || self.left == 0 {
            match reason {
                Reason::Offered => self.offers += 1,
                _ => self.others += 1,
            }
            return false;
        }
        if !self.shares.admit((mac, ifindex)) {
            return false;
        }
        self.written += 1;
        self.left -= 1;
        true
    }

    /// Begins a new second, and says how many answers the last one had beyond those with lines. Gives the machines that
    /// had more answers than lines in the minute that ends with it.
    fn next_second(&mut self) -> Vec<((Mac, u32), u64)> {
        let [written, offers, others] = [
            u64::from(std::mem::take(&mut self.written)),
            std::mem::take(&mut self.offers),
            std::mem::take(&mut self.others),
        ];
        self.left = MOST_AT_ONCE.min(self.left + MOST_GOING_ON);
        if offers + others > 0 {
            info!(
                step = "summary",
                offers,
                acks = others,
                "{} more answers within this second than the {written} that were logged: {offers} offers, {others} acknowledgements",
                offers + others
            );
        }
        self.seconds += 1;
        if self.seconds < MINUTE {
            return Vec::new();
        }
        self.seconds = 0;
        self.shares.next_minute()
    }
}

impl Engine {
    /// Ends a second of the log, and names machines that ask without end.
    pub(super) fn end_answer_log(&mut self) {
        let floods = self.answer_log.next_second();
        let unnamed = floods.len().saturating_sub(MOST_NAMED);
        for ((mac, ifindex), more) in floods.into_iter().take(MOST_NAMED) {
            let name = self.policy.name(mac).unwrap_or_default();
            let interface = self.policy.port(ifindex).map_or("", |(_, port)| port.name.as_str());
            let answers = more + u64::from(MOST_OF_ONE);
            let a_second = answers.div_ceil(u64::from(MINUTE));
            warn!(
                step = "flood",
                %mac,
                name,
                interface,
                answers,
                a_second,
                "{mac} on {interface} was answered {answers} times within a minute ({a_second} a second), and the first {MOST_OF_ONE} have a line: it asks in a loop, or somebody does in its name; look at its console and its switch port"
            );
        }
        if unnamed > 0 {
            warn!(step = "flood", unnamed, "and {unnamed} more machines asked as often");
        }
    }

    /// Takes down whom the daemon answers, so that its next steps are known for its own.
    pub(super) fn take_down(&mut self, Told { mac, answered, .. }: &Told) {
        let address = Ipv4Addr::from(answered.address);
        self.note_ipxe(*mac, answered.class);
        if answered.reason == Reason::Refused {
            return;
        }
        if address.is_unspecified() {
            self.machines.meet(*mac);
        } else {
            self.machines.put(address, *mac);
        }
    }

    /// Logs and counts an answer that has left by this interface.
    pub fn sent(&mut self, told: &Told, ifindex: u32) {
        let Told { mac, answered, refused } = told;
        self.count(answered.reason);
        if let Some(why) = refused {
            let name = self.policy.name(*mac).unwrap_or_default();
            info!(step = "nak", by = "daemon", %mac, name, "refused: {why}");
        } else {
            self.say(*mac, answered, Hook::Daemon, ifindex);
        }
    }

    /// Takes down whom the kernel half answered, where that is news: a machine with an address got its entry, and
    /// was taken down, by the daemon.
    pub(super) fn meet(&mut self, mac: Mac, address: [u8; 4]) {
        if address == [0; 4] {
            self.machines.meet(mac);
        } else if self.machines.shares_addresses() {
            self.machines.put(address.into(), mac);
        }
    }

    /// Logs who was answered, by whom.
    pub(super) fn say(&mut self, mac: Mac, answered: &Answered, by: Hook, ifindex: u32) {
        if !self.answer_log.admit(answered.reason, mac, ifindex) {
            return;
        }
        let address = Ipv4Addr::from(answered.address);
        let (step, verb) = match answered.reason {
            Reason::Offered => ("offer", "offered"),
            Reason::Acked => ("ack", "acknowledged"),
            Reason::Informed => ("ack", "gave the options to"),
            Reason::Bootp => ("bootp", "gave"),
            _ => ("ack", "told the boot file to"),
        };
        let name = self.policy.name(mac).unwrap_or_default();
        let (class, by) = (describe(answered.class), by.name());
        let boots = self.boots(mac, answered.class, ifindex, address);
        let boot = if boots.is_empty() { String::new() } else { format!(": boot {boots}") };
        if address.is_unspecified() {
            info!(name: STEP, step, by, %mac, name, class, "{verb} {class}{boot}");
        } else {
            info!(name: STEP, step, by, %mac, name, class, %address, "{verb} {address} to {class}{boot}");
        }
    }

    fn boots(&self, mac: Mac, class: Class, ifindex: u32, address: Ipv4Addr) -> String {
        let Some((_, port)) = self.policy.port(ifindex) else { return String::new() };
        let subnet = self.policy.subnet_of(address).and_then(|index| self.policy.subnets().get(index));
        match self.policy.boot_file(class, port.http, &self.policy.differences(mac), subnet) {
            Ok(Some(file)) => file.describe(),
            Ok(None) | Err(_) => String::new(),
        }
    }
}

/// A class in words.
pub(super) fn describe(class: Class) -> String {
    match class.stage {
        Stage::Rom if class == Class::LOADER => "a boot loader".to_owned(),
        Stage::Rom => class.firmware.name().to_owned(),
        Stage::ReducedIpxe => format!("a reduced iPXE on {}", class.firmware.name()),
        Stage::Ipxe if class == Class::IPXE => "iPXE".to_owned(),
        Stage::Ipxe => format!("iPXE on {}", class.firmware.name()),
        Stage::Os => "an operating system".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(number: u32) -> Mac {
        let [a, b, c, d] = number.to_be_bytes();
        Mac([2, 0, a, b, c, d])
    }

    #[test]
    fn a_second_has_so_many_lines_and_then_a_number() {
        let mut lines = AnswerLog::default();
        assert!((0..MOST).all(|number| lines.admit(Reason::Offered, machine(number), 7)));
        let more = [Reason::Offered, Reason::Acked, Reason::Acked];
        assert!(more.into_iter().all(|reason| !lines.admit(reason, machine(1), 7)));
        assert_eq!((lines.offers, lines.others), (1, 2));
        lines.next_second();
        assert!(lines.admit(Reason::Acked, machine(1), 7));
        assert_eq!((lines.written, lines.offers, lines.others), (1, 0, 0));
    }

    /// What 78,600 answers a second to one machine leave in the log, and to any number of machines.
    #[test]
    fn a_flood_of_one_machine_is_a_line_a_minute_and_pushes_nobody_out() {
        let mut lines = AnswerLog::default();
        let mut written = 0;
        let mut named = Vec::new();
        for second in 0..2 * MINUTE {
            written += (0..78_600).filter(|_| lines.admit(Reason::Acked, machine(1), 7)).count();
            assert!(
                lines.admit(Reason::Offered, machine(1000 + second), 7),
                "another machine in second {second}"
            );
            named.extend(lines.next_second());
        }
        let more = 60 * 78_600 - u64::from(MOST_OF_ONE);
        assert_eq!(named, [((machine(1), 7), more), ((machine(1), 7), more)]);
        assert_eq!(written, 2 * MOST_OF_ONE as usize);
    }

    #[test]
    fn a_flood_in_the_name_of_many_machines_is_short_in_the_long_run() {
        let mut lines = AnswerLog::default();
        let day = (0..3600).map(|second| {
            let written = (0..20_000)
                .filter(|number| lines.admit(Reason::Offered, machine(second * 20_000 + number), 7))
                .count();
            lines.next_second();
            written as u64
        });
        let written: u64 = day.sum();
        assert!(written <= u64::from(MOST_AT_ONCE + 3600 * MOST_GOING_ON), "{written} lines in an hour");
    }
}
