//! Promises that depend on the store: those that wait for it, those that it refused, and those that the kernel half makes
//! by itself.
//!
//! The engine decides as if every change were stored. When the disk refuses, each machine that was to be promised
//! something has again what it had before, and its answer is not sent.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use boot_common::tables::{ALWAYS, Host, HostKey};
use boot_common::{Mac, Reason};
use tracing::debug;

use super::confirmed::Confirmed;
use crate::Engine;
use crate::command::{Now, Told};
use crate::leases::binding::Binding;
use crate::leases::holds::Hold;
use crate::leases::record::{Change, Lease};
use crate::leases::state::LeaseState;

/// For how many seconds a promise that was taken back is remembered: longer than the kernel half's events take to be
/// read.
const REMEMBERED: u8 = 10;

/// After how many seconds the disk is asked again to store what it has refused.
const AGAIN: u64 = 10;

/// What a machine had before it was promised more.
#[derive(Debug)]
struct Before {
    mac: Mac,
    binding: Binding,
    claimed: Option<u64>,
    host: Option<Host>,
}

impl Before {
    fn place(&self) -> (Mac, Ipv4Addr) {
        (self.mac, self.binding.address)
    }
}

/// What machines had before some commands promise them more.
#[derive(Debug, Default)]
pub struct Promised(Vec<Before>);

impl Promised {
    /// Adds what was promised later.
    pub fn extend(&mut self, later: Self) {
        self.0.extend(later.0);
    }
}

/// All promises that are not simply stored.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    /// What the machines had that the queued commands promise something, and those that the commands taken last promise
    /// something.
    queued: Vec<Before>,
    taken: Vec<Before>,
    /// Machines whose promise was taken back a moment ago, and the seconds for which this is remembered: the kernel
    /// half may have made it once more before it knew.
    withdrawn: HashMap<Mac, u8>,
    /// For how many seconds any machine may be one of them: the last daemon may have ended while it took a promise
    /// back.
    any_withdrawn: u8,
    confirmed: Confirmed,
    /// Leases of reserved addresses that the disk refused, and that the kernel half may have given all the same: up to when.
    unstored: HashMap<(Mac, Ipv4Addr), u64>,
    /// Until which second offers from before the last reload are honoured, though the configuration has it otherwise now.
    honoured_until: Option<u64>,
}

impl Promises {
    fn queue(&mut self, before: Before) {
        self.queued.push(before);
    }

    /// The queued commands are taken, and with them what they promise.
    pub(crate) fn take_commands(&mut self) {
        self.taken = std::mem::take(&mut self.queued);
    }

    fn taken(&mut self) -> Promised {
        Promised(std::mem::take(&mut self.taken))
    }

    /// A promise is taken back.
    pub(crate) fn withdraw(&mut self, mac: Mac) {
        self.withdrawn.insert(mac, REMEMBERED);
    }

    /// Tables of an earlier daemon are taken over, which may have been taking any promise back.
    pub(crate) fn adopt(&mut self) {
        self.any_withdrawn = REMEMBERED;
    }

    /// The kernel half has confirmed a lease. Whether that may have been after the promise was taken back.
    pub(crate) fn confirm(&mut self, mac: Mac) -> bool {
        self.confirmed.add(mac);
        self.any_withdrawn > 0 || self.withdrawn.contains_key(&mac)
    }

    /// Whether the kernel half may have confirmed a machine's lease a moment ago.
    pub(crate) fn may_be_confirmed(&self, mac: Mac) -> bool {
        self.confirmed.has(mac)
    }

    /// Until which second the kernel half may have given a reserved address by a lease that the disk refused.
    pub(crate) fn refused(&self, mac: Mac, address: Ipv4Addr) -> Option<u64> {
        self.unstored.get(&(mac, address)).copied()
    }

    /// Begins a new second.
    pub(crate) fn next_second(&mut self) {
        self.withdrawn.retain(|_, seconds| {
            *seconds -= 1;
            *seconds > 0
        });
        self.any_withdrawn = self.any_withdrawn.saturating_sub(1);
        self.confirmed.next_second();
    }

    /// Offers from before a reload are honoured until that second, or not at all.
    pub(crate) fn honour_offers(&mut self, until: Option<u64>) {
        self.honoured_until = until;
    }

    /// Whether an offer from before the last reload may be open that the configuration has otherwise now.
    pub(crate) fn honours_offers(&self) -> bool {
        self.honoured_until.is_some()
    }

    /// True once, when no offer from before the last reload can be open any more.
    pub(crate) fn ends_honouring(&mut self, now: u64) -> bool {
        self.honoured_until.take_if(|until| *until <= now).is_some()
    }
}

impl Engine {
    /// Keeps what a machine has, until the changes of this round are stored.
    pub(crate) fn keep_before(&mut self, mac: Mac, binding: Binding) {
        let host = self.entries.host(mac).copied();
        let claimed = self.cards.claimed(mac);
        self.promises.queue(Before { mac, binding, claimed, host });
    }

    /// What the commands that were taken last promise.
    pub fn promised(&mut self) -> Promised {
        self.promises.taken()
    }

    /// Takes back what the commands that were taken last promise: their changes could not be stored.
    pub fn not_stored(&mut self, changes: &[Change]) {
        let promised = self.promised();
        self.take_back(changes, promised);
    }

    /// Takes back what commands promise whose changes could not be stored: the latest that were taken, in their order,
    /// without a gap for any machine that they are about.
    pub fn take_back(&mut self, changes: &[Change], Promised(promised): Promised) {
        let places: HashSet<(Mac, Ipv4Addr)> = promised.iter().map(Before::place).collect();
        for change in changes {
            match change {
                Change::Put(Lease { mac, address, state: LeaseState::OnHold(cause), expires, .. }) => {
                    // With what the machine has stored next.
                    let until = u64::try_from(*expires).unwrap_or(0);
                    self.bindings.hold(*address, Hold { mac: *mac, until, cause: *cause });
                }
                Change::Put(lease)
                    if lease.state == LeaseState::Leased && places.contains(&(lease.mac, lease.address)) =>
                {
                    // That of a pool nobody was told of: its ACK waits for the disk.
                    let host = self.entry(lease.mac, lease.address);
                    if host.is_some_and(|host| host.bound_until == ALWAYS) {
                        let until = u64::try_from(lease.expires).unwrap_or(0);
                        self.promises.unstored.insert((lease.mac, lease.address), until);
                    }
                }
                Change::Put(lease) => self.withdraw(lease.mac, lease.address),
                Change::Delete(..) | Change::Lift(_) => {}
            }
        }
        // A machine may be in it twice: what it had first counts.
        for before in promised.into_iter().rev() {
            self.take_one_back(before);
        }
    }

    /// Stores what the disk has refused of reserved addresses: their machines may have the ACK, and not ask again for hours.
    pub(crate) fn store_what_was_refused(&mut self, now: Now) {
        if !now.seconds().is_multiple_of(AGAIN) {
            return;
        }
        for ((mac, address), until) in std::mem::take(&mut self.promises.unstored) {
            let left = until.saturating_sub(now.seconds() + 1);
            let durable_until = u64::try_from((now.boot + Duration::from_secs(left)).as_nanos()).unwrap_or(0);
            let is_stored = |host: Host| host.bound_until != ALWAYS || host.durable_until >= durable_until;
            let Some(binding) = self.bindings.with(mac, address) else { continue };
            if left == 0 || self.entry(mac, address).is_none_or(is_stored) {
                continue;
            }
            self.keep_before(mac, binding);
            self.store_again(mac, &binding, until, now);
            self.set_durable(mac, address, durable_until);
        }
    }

    fn take_one_back(&mut self, Before { mac, binding, claimed, host }: Before) {
        // Within the same round it may have lost the address.
        if self.bindings.with(mac, binding.address).is_none() {
            return;
        }
        self.bindings.put(mac, binding);
        self.cards.set_claim(mac, claimed);
        // The entry may have been for another subnet that the machine is in.
        match host.filter(|host| self.bindings.with(mac, host.address.into()).is_some()) {
            Some(host) => self.insert_host(mac, host),
            None => self.entries.remove_host(mac, &mut self.commands),
        }
    }

    /// The machine's entry as it is now.
    #[must_use]
    pub fn host_of(&self, key: &HostKey) -> Option<Host> {
        self.entries.host(key.mac).copied()
    }

    /// An answer has not left, for this reason: it is counted as that, and no log line says that it was given.
    pub fn not_sent(&mut self, told: &Told, reason: Reason) {
        debug!(reason = reason.name(), mac = %told.mac, "not answered: {}", reason.says());
        self.count(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn what_was_taken_back_is_looked_at_again_for_a_while() {
        let mut promises = Promises::default();
        assert!(!promises.confirm(MAC));
        promises.withdraw(MAC);
        for _ in 0..REMEMBERED {
            assert!(promises.confirm(MAC) && !promises.confirm(OTHER));
            promises.next_second();
        }
        assert!(!promises.confirm(MAC));
        promises.adopt();
        assert!(promises.confirm(OTHER), "the last daemon may have taken any promise back");
        (0..REMEMBERED).for_each(|_| promises.next_second());
        assert!(!promises.confirm(OTHER));
    }

    #[test]
    fn offers_are_honoured_until_their_time_and_end_once() {
        let mut promises = Promises::default();
        assert!(!promises.honours_offers() && !promises.ends_honouring(100));
        promises.honour_offers(Some(100));
        assert!(promises.honours_offers() && !promises.ends_honouring(99));
        assert!(promises.ends_honouring(100) && !promises.ends_honouring(101) && !promises.honours_offers());
    }

    #[test]
    fn what_is_promised_goes_with_the_commands_that_promise_it() {
        let binding = |last: u8| Binding {
            address: Ipv4Addr::new(10, 0, 0, last),
            subnet: 0,
            state: crate::leases::binding::State::Idle,
        };
        let mut promises = Promises::default();
        promises.queue(Before { mac: MAC, binding: binding(1), claimed: None, host: None });
        assert!(promises.taken().0.is_empty(), "its commands were not taken yet");
        promises.take_commands();
        promises.queue(Before { mac: OTHER, binding: binding(2), claimed: None, host: None });
        let Promised(taken) = promises.taken();
        assert_eq!(taken.iter().map(Before::place).collect::<Vec<_>>(), [(MAC, binding(1).address)]);
        assert!(promises.taken().0.is_empty());
    }
}
