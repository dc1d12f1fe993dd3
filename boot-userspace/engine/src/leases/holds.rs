//! Addresses that nobody gets for a while.

use std::net::Ipv4Addr;

use boot_common::Mac;

use crate::Engine;
use crate::command::{Command, Now};
use crate::leases::record::{Change, Lease};
use crate::leases::state::{HoldCause, LeaseState};
use crate::maps::HashMap;

/// Nobody gets an address, for this cause and until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Who found it in use, or was promised it and has another one now.
    pub mac: Mac,
    /// Unix seconds.
    pub until: u64,
    /// Why.
    pub cause: HoldCause,
}

/// All held addresses.
#[derive(Debug, Default)]
pub struct Holds {
    by_address: HashMap<Ipv4Addr, Hold>,
    /// The same addresses by the machines that they are held because of.
    by_machine: HashMap<Mac, Vec<Ipv4Addr>>,
    /// Those that the store does not have yet, by machine: each is stored with what replaces the machine's lease there.
    unsaved: HashMap<Mac, Vec<Ipv4Addr>>,
    /// No hold ends before that second.
    next_end: u64,
}

impl Holds {
    /// Whether nobody gets the address at this second.
    #[must_use]
    pub fn has(&self, address: Ipv4Addr, now: u64) -> bool {
        self.by_address.get(&address).is_some_and(|hold| hold.until > now)
    }

    /// Who was promised an address that it does not have any more, while that promise lasts.
    #[must_use]
    pub fn promised_to(&self, address: Ipv4Addr, now: u64) -> Option<Mac> {
        let hold = self.by_address.get(&address)?;
        (hold.cause == HoldCause::Promised && hold.until > now).then_some(hold.mac)
    }

    /// The addresses that are held because of a machine, for whatever cause.
    pub fn of(&self, mac: Mac) -> impl Iterator<Item = Ipv4Addr> {
        self.by_machine.get(&mac).into_iter().flatten().copied()
    }

    /// Every address that is held at this second.
    pub fn iter(&self, now: u64) -> impl Iterator<Item = (Ipv4Addr, Hold)> {
        let holds = self.by_address.iter().filter(move |(_, hold)| hold.until > now);
        holds.map(|(address, hold)| (*address, *hold))
    }

    /// From the store.
    pub(crate) fn restore(&mut self, address: Ipv4Addr, hold: Hold) {
        if self.by_address.get(&address).is_none_or(|known| hold.until >= known.until) {
            self.lift(address);
            self.by_address.insert(address, hold);
            self.by_machine.entry(hold.mac).or_default().push(address);
        }
        self.next_end = self.next_end.min(hold.until);
    }

    /// What is to be stored.
    pub(crate) fn begin(&mut self, address: Ipv4Addr, hold: Hold) {
        self.restore(address, hold);
        let unsaved = self.unsaved.entry(hold.mac).or_default();
        if !unsaved.contains(&address) {
            unsaved.push(address);
        }
    }

    /// Ends a hold before its time.
    pub(crate) fn lift(&mut self, address: Ipv4Addr) {
        let Some(Hold { mac, .. }) = self.by_address.remove(&address) else { return };
        if let Some(addresses) = self.by_machine.get_mut(&mac) {
            addresses.retain(|other| *other != address);
            if addresses.is_empty() {
                self.by_machine.remove(&mac);
            }
        }
    }

    /// Forgets what is over, and gives it.
    pub(crate) fn end(&mut self, now: u64) -> Vec<Ipv4Addr> {
        if now < self.next_end {
            return Vec::new();
        }
        let over = self.by_address.iter().filter(|(_, hold)| hold.until <= now);
        let over: Vec<Ipv4Addr> = over.map(|(address, _)| *address).collect();
        for address in &over {
            self.lift(*address);
        }
        self.next_end = self.by_address.values().map(|hold| hold.until).min().unwrap_or(u64::MAX);
        over
    }

    pub(crate) fn take_unsaved(&mut self, mac: Mac) -> Vec<(Ipv4Addr, Hold)> {
        let addresses = self.unsaved.remove(&mac).unwrap_or_default();
        let hold = |address| Some((address, self.by_address.get(&address).copied()?));
        addresses.into_iter().filter_map(hold).collect()
    }
}

impl Engine {
    /// Stores the holds that a machine has brought about.
    pub(crate) fn store_holds(&mut self, mac: Mac, now: Now) {
        for (address, hold) in self.bindings.take_unsaved_holds(mac) {
            let subnet = self.policy.subnet_of(address).and_then(|subnet| self.policy.subnets().get(subnet));
            // Who has it is in the store, and one row is enough.
            let Some(subnet) = subnet.filter(|_| self.bindings.owner(address).is_none()) else { continue };
            let seconds = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            self.commands.push(Command::Persist(Change::Put(Lease {
                mac: hold.mac,
                address,
                subnet: subnet.cidr,
                state: LeaseState::OnHold(hold.cause),
                expires: seconds(hold.until),
                hostname: None,
                recognised_by: None,
                updated: seconds(now.seconds()),
            })));
        }
    }

    /// Forgets the holds that are over, here and in the store.
    pub(crate) fn end_holds(&mut self, now: Now) {
        let over = self.bindings.end_holds(now.seconds());
        self.commands.extend(over.into_iter().map(|address| Command::Persist(Change::Lift(address))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_end_in_time_and_the_longer_one_counts() {
        let mut holds = Holds::default();
        let [a, b] = [1, 2].map(|last| Ipv4Addr::new(10, 0, 0, last));
        let hold = |until| Hold { mac: Mac([2, 0, 0, 0, 0, 1]), until, cause: HoldCause::InUse };
        assert!(holds.end(99).is_empty());
        holds.begin(a, hold(100));
        holds.begin(b, hold(200));
        holds.begin(b, hold(150));
        assert_eq!(holds.take_unsaved(hold(0).mac), [(a, hold(100)), (b, hold(200))]);
        assert!(holds.take_unsaved(hold(0).mac).is_empty());
        assert!(holds.end(99).is_empty() && holds.has(a, 99) && !holds.has(a, 100));
        assert_eq!(holds.end(100), [a]);
        assert!(holds.end(199).is_empty());
        holds.lift(b);
        assert!(!holds.has(b, 0) && holds.end(200).is_empty());
        holds.begin(a, hold(120));
        assert_eq!(holds.end(200), [a], "a later one may end sooner");
    }

    #[test]
    fn a_machine_s_holds_are_found_until_they_end_or_are_another_s() {
        let mut holds = Holds::default();
        let [a, b] = [1, 2].map(|last| Ipv4Addr::new(10, 0, 0, last));
        let [one, other] = [1, 2].map(|last| Mac([2, 0, 0, 0, 0, last]));
        let hold = |mac, until, cause| Hold { mac, until, cause };
        let of = |holds: &Holds, mac| holds.of(mac).collect::<Vec<_>>();
        holds.begin(a, hold(one, 100, HoldCause::Promised));
        holds.begin(b, hold(one, 200, HoldCause::Declined));
        holds.begin(a, hold(one, 120, HoldCause::Promised));
        assert_eq!(of(&holds, one), [b, a]);
        assert_eq!([119, 120].map(|now| holds.promised_to(a, now)), [Some(one), None]);
        assert_eq!(holds.promised_to(b, 0), None, "nobody was promised it");
        holds.restore(a, hold(other, 150, HoldCause::Promised));
        assert_eq!((of(&holds, one), of(&holds, other)), (vec![b], vec![a]));
        assert_eq!(holds.end(150), [a]);
        holds.lift(b);
        assert!(of(&holds, one).is_empty() && holds.by_machine.is_empty());
    }
}
