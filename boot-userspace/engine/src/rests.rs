//! Addresses that nobody gets for a while.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use boot_common::Mac;

use crate::Engine;
use crate::command::{Command, Now};
use crate::record::{Change, Lease, LeaseState};

/// Why nobody gets an address, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Who found it in use, or was promised it and has another one now.
    pub mac: Mac,
    /// Unix seconds.
    pub until: u64,
}

/// All addresses that rest.
#[derive(Debug, Default)]
pub struct Rests {
    by_address: HashMap<Ipv4Addr, Rest>,
    /// Those that the store does not have yet, by machine: each is stored with what replaces the machine's lease there.
    unsaved: HashMap<Mac, Vec<Ipv4Addr>>,
    /// No rest ends before that second.
    next_end: u64,
}

impl Rests {
    /// Whether nobody gets the address at this second.
    #[must_use]
    pub fn has(&self, address: Ipv4Addr, now: u64) -> bool {
        self.by_address.get(&address).is_some_and(|rest| rest.until > now)
    }

    /// Every address that rests at this second.
    pub fn iter(&self, now: u64) -> impl Iterator<Item = (Ipv4Addr, Rest)> {
        let rests = self.by_address.iter().filter(move |(_, rest)| rest.until > now);
        rests.map(|(address, rest)| (*address, *rest))
    }

    /// From the store.
    pub(super) fn restore(&mut self, address: Ipv4Addr, rest: Rest) {
        let known = self.by_address.entry(address).or_insert(rest);
        if rest.until >= known.until {
            *known = rest;
        }
        self.next_end = self.next_end.min(rest.until);
    }

    /// What is to be stored.
    pub(super) fn begin(&mut self, address: Ipv4Addr, rest: Rest) {
        self.restore(address, rest);
        let unsaved = self.unsaved.entry(rest.mac).or_default();
        if !unsaved.contains(&address) {
            unsaved.push(address);
        }
    }

    /// Ends a rest before its time.
    pub(super) fn lift(&mut self, address: Ipv4Addr) {
        self.by_address.remove(&address);
    }

    /// Forgets what is over, and gives it.
    fn end(&mut self, now: u64) -> Vec<Ipv4Addr> {
        if now < self.next_end {
            return Vec::new();
        }
        let over = self.by_address.extract_if(|_, rest| rest.until <= now);
        let over = over.map(|(address, _)| address).collect();
        self.next_end = self.by_address.values().map(|rest| rest.until).min().unwrap_or(u64::MAX);
        over
    }

    fn take_unsaved(&mut self, mac: Mac) -> Vec<(Ipv4Addr, Rest)> {
        let addresses = self.unsaved.remove(&mac).unwrap_or_default();
        let rest = |address| Some((address, self.by_address.get(&address).copied()?));
        addresses.into_iter().filter_map(rest).collect()
    }
}

impl Engine {
    /// Stores the rests that a machine has brought about.
    pub(super) fn store_rests(&mut self, mac: Mac, now: Now) {
        for (address, rest) in self.bindings.rests.take_unsaved(mac) {
            let subnet = self.policy.subnet_of(address).and_then(|subnet| self.policy.subnets().get(subnet));
            // Who has it is in the store, and one row is enough.
            let Some(subnet) = subnet.filter(|_| self.bindings.owner(address).is_none()) else { continue };
            let seconds = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            self.commands.push(Command::Persist(Change::Put(Lease {
                mac: rest.mac,
                address,
                subnet: subnet.cidr,
                state: LeaseState::Resting,
                expires: seconds(rest.until),
                hostname: None,
                updated: seconds(now.seconds()),
            })));
        }
    }

    /// Forgets the rests that are over, here and in the store.
    pub(super) fn end_rests(&mut self, now: Now) {
        let over = self.bindings.rests.end(now.seconds());
        self.commands.extend(over.into_iter().map(|address| Command::Persist(Change::Lift(address))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_end_in_time_and_the_longer_one_counts() {
        let mut rests = Rests::default();
        let [a, b] = [1, 2].map(|last| Ipv4Addr::new(10, 0, 0, last));
        let rest = |until| Rest { mac: Mac([2, 0, 0, 0, 0, 1]), until };
        assert!(rests.end(99).is_empty());
        rests.begin(a, rest(100));
        rests.begin(b, rest(200));
        rests.begin(b, rest(150));
        assert_eq!(rests.take_unsaved(rest(0).mac), [(a, rest(100)), (b, rest(200))]);
        assert!(rests.take_unsaved(rest(0).mac).is_empty());
        assert!(rests.end(99).is_empty() && rests.has(a, 99) && !rests.has(a, 100));
        assert_eq!(rests.end(100), [a]);
        assert!(rests.end(199).is_empty());
        rests.lift(b);
        assert!(!rests.has(b, 0) && rests.end(200).is_empty());
        rests.begin(a, rest(120));
        assert_eq!(rests.end(200), [a], "a later one may end sooner");
    }
}
