//! Who an address is kept for. Every place asks here that gives a machine the one address which the configuration has for it: a
//! start, a reload, a change of the registry, a machine that comes back to its subnet, a card that was recognised.
//!
//! A pool asks otherwise ([`Bindings::bind`](super::bindings::Bindings::bind)): it may give any of many addresses, and so none
//! that anybody has or that rests, for whatever cause. A REQUEST gets only what is bound to its machine already.

use std::net::Ipv4Addr;
use std::time::Duration;

use boot_common::Mac;
use tracing::warn;

use crate::Engine;
use crate::command::{Command, Now};
use crate::config::Machine;
use crate::leases::binding::{Binding, State};
use crate::leases::record::Change;

impl Engine {
    /// The machine that an address is kept for, if that is another one: it has the address by the configuration, a lease or an
    /// offer, or it was promised the address and has another one now, and that promise still runs.
    pub(crate) fn kept_for_another(&self, mac: Mac, address: Ipv4Addr, now: Now) -> Option<Mac> {
        let owner = self.bindings.owner(address).filter(|owner| self.still_has(*owner, address, now));
        let is_other = |other: &Mac| !self.are_one(mac, *other);
        owner.filter(is_other).or_else(|| self.bindings.promised_to(address, now.seconds()).filter(is_other))
    }

    /// Whether a machine was promised an address for longer, or the configuration has it for its MAC.
    fn still_has(&self, mac: Mac, address: Ipv4Addr, now: Now) -> bool {
        match self.bindings.with(mac, address) {
            None => false,
            // Recognised by another identity.
            Some(Binding { state: State::Reserved, .. }) if !self.machines.is_named(mac) => {
                self.cards.claimed(mac).is_some_and(|until| until > now.seconds())
            }
            Some(binding) => !binding.is_free(now.seconds()),
        }
    }

    /// Whether two MACs are one machine's by the configuration: its cards share the address that is reserved for it.
    pub(crate) fn are_one(&self, one: Mac, other: Mac) -> bool {
        let is_of = |machine: &Machine| machine.macs.contains(&one) && machine.macs.contains(&other);
        one == other || self.policy.machine(one).is_some_and(|machine| is_of(&machine))
    }

    /// Until which second a card was promised the address that is reserved for its machine; 0 if it was not, and nothing if
    /// nobody knows.
    pub(crate) fn promised_until(&self, mac: Mac, address: Ipv4Addr, now: Now) -> Option<u64> {
        let stored = self.entry(mac, address).map(|host| {
            let left = Duration::from_nanos(host.durable_until).saturating_sub(now.boot).as_secs();
            // Whole seconds: it may end one later.
            if left == 0 { 0 } else { now.seconds() + left + 1 }
        });
        let until = stored.max(self.cards.claimed(mac)).max(self.promises.refused(mac, address));
        until.map(|until| if until > now.seconds() { until } else { 0 })
    }

    /// A reservation of an address that was promised to another machine waits until that gives it up, or the promise ends.
    pub(crate) fn put_off_reservation(&mut self, address: Ipv4Addr, holder: Mac) {
        let owner = self.bindings.owner(address).filter(|owner| !self.are_one(*owner, holder));
        let Some(owner) = owner else { return };
        say_put_off(address, owner, holder);
        // All of its cards share the address.
        let cards = self.policy.machine(owner).map(|machine| machine.macs.clone()).unwrap_or_default();
        // The owner may have been recognised by another identity than its MAC.
        for mac in cards.into_iter().chain([owner]) {
            self.free(mac, address);
        }
    }

    /// The same, unless the address is its owner's by more than a reservation.
    pub(crate) fn put_off_mere_reservation(&mut self, address: Ipv4Addr, holder: Mac) {
        let owner = self.bindings.owner(address).and_then(|owner| self.bindings.with(owner, address));
        if owner.is_some_and(|binding| binding.state == State::Reserved) {
            self.put_off_reservation(address, holder);
        }
    }

    /// Says that a reservation waits, if that is for a promise and not only for an offer.
    pub(crate) fn say_that_it_waits(&self, mac: Mac, address: Ipv4Addr, holder: Mac) {
        if self.bindings.with(holder, address).is_none_or(|binding| binding.is_promised()) {
            say_put_off(address, mac, holder);
        }
    }

    /// Whether an address rests because it was promised to this machine, and a reservation waits for it.
    pub(crate) fn is_waited_for(&self, mac: Mac, address: Ipv4Addr, now: Now) -> bool {
        self.bindings.promised_to(address, now.seconds()) == Some(mac) && self.bindings.is_excluded(address)
    }

    /// A machine has shown by a REQUEST or a RELEASE that it leaves such an address. False if it is none.
    pub(crate) fn give_up(&mut self, mac: Mac, address: Ipv4Addr, now: Now) -> bool {
        let is_given_up = self.is_waited_for(mac, address, now);
        if is_given_up {
            self.bindings.lift(address);
            // The store may still have the lease that the hold came from.
            self.commands.push(Command::Persist(Change::Delete(mac, address)));
            self.commands.push(Command::Persist(Change::Lift(address)));
        }
        is_given_up
    }

    /// The same for what was promised to a machine in the place of the address that it requests now.
    pub(crate) fn give_up_others(&mut self, mac: Mac, binding: &Binding, now: Now) {
        let is_instead =
            |address: &Ipv4Addr| *address != binding.address && self.is_instead(*address, binding);
        let others: Vec<Ipv4Addr> = self.bindings.resting_because_of(mac).filter(is_instead).collect();
        for address in others {
            self.give_up(mac, address, now);
        }
    }
}

fn say_put_off(address: Ipv4Addr, owner: Mac, holder: Mac) {
    warn!(%address, "{address} is reserved for {owner}, but the lease of {holder} still runs: {owner} gets another address until that lease ends or {holder} gives it up");
}
