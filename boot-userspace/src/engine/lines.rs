//! What the log says about answers: a line for each, as long as somebody can read them.

use std::net::Ipv4Addr;

use boot_common::class::{Class, Stage};
use boot_common::respond::Answered;
use boot_common::tables::Hook;
use boot_common::{Mac, Reason};
use tracing::info;

use crate::engine::{Engine, STEP};

/// How many answers get a line of their own within a second: two for each of 5,000 machines that are powered on at
/// once. The kernel half gives fifty times as many, and a line costs more than its answer.
const MOST: u32 = 10_000;

/// Counts the lines of the current second.
#[derive(Debug, Default)]
pub(super) struct Lines {
    written: u32,
    /// Answers of the second that got no line: offers, and everything else.
    offers: u64,
    others: u64,
}

impl Lines {
    /// Whether an answer gets a line.
    fn admit(&mut self, reason: Reason) -> bool {
        if self.written < MOST {
            self.written += 1;
            return true;
        }
        match reason {
            Reason::Offered => self.offers += 1,
            _ => self.others += 1,
        }
        false
    }

    /// Begins a new second, and says how many answers the last one had beyond those with lines.
    pub(super) fn next_second(&mut self) {
        let Self { written, offers, others } = std::mem::take(self);
        if offers + others > 0 {
            info!(
                step = "summary",
                offers,
                acks = others,
                "{} more answers within this second than the {written} that were logged: {offers} offers, {others} acknowledgements",
                offers + others
            );
        }
    }
}

impl Engine {
    /// Takes down and logs what the daemon answered.
    pub(super) fn answered(&mut self, mac: Mac, answered: &Answered, ifindex: u32) {
        let address = Ipv4Addr::from(answered.address);
        if address.is_unspecified() {
            self.roster.meet(&self.policy.client(mac));
        } else {
            self.roster.put(address, self.policy.client(mac));
        }
        self.say(mac, answered, Hook::Daemon, ifindex);
    }

    /// Takes down whom the kernel half answered, where that is news: a machine with an address got its entry, and
    /// was taken down, by the daemon.
    pub(super) fn meet(&mut self, mac: Mac, address: [u8; 4]) {
        if address == [0; 4] {
            if !self.roster.is_client(mac) {
                self.roster.meet(&self.policy.client(mac));
            }
        } else if self.policy.shares_addresses() {
            self.roster.put(address.into(), self.policy.client(mac));
        }
    }

    /// Logs who was answered, by whom.
    pub(super) fn say(&mut self, mac: Mac, answered: &Answered, by: Hook, ifindex: u32) {
        if !self.lines.admit(answered.reason) {
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
        let name = self.policy.name(mac).unwrap_or("");
        let (class, by) = (describe(answered.class), by.name());
        let boots = self.boots(mac, answered.class, ifindex, address);
        if address.is_unspecified() {
            info!(name: STEP, step, by, %mac, name, class, "{verb} {class}: boot {boots}");
        } else if boots.is_empty() {
            info!(name: STEP, step, by, %mac, name, class, %address, "{verb} {address} to {class}");
        } else {
            info!(name: STEP, step, by, %mac, name, class, %address, "{verb} {address} to {class}: boot {boots}");
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
        Stage::Rom => class.firmware.name().to_owned(),
        Stage::Ipxe if class == Class::IPXE => "iPXE".to_owned(),
        Stage::Ipxe => format!("iPXE on {}", class.firmware.name()),
        Stage::Os => "an operating system".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_then_a_number() {
        let mut lines = Lines::default();
        for _ in 0..MOST {
            assert!(lines.admit(Reason::Offered));
        }
        assert!(!lines.admit(Reason::Offered) && !lines.admit(Reason::Acked) && !lines.admit(Reason::Acked));
        assert_eq!((lines.offers, lines.others), (1, 2));
        lines.next_second();
        assert!(lines.admit(Reason::Acked));
        assert_eq!((lines.written, lines.offers, lines.others), (1, 0, 0));
    }
}
