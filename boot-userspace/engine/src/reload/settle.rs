//! Who has which address after a reload.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use boot_common::Mac;

use crate::Engine;
use crate::command::Now;
use crate::config::Machine;
use crate::leases::binding::{Binding, State};
use crate::leases::bindings::{OFFER_HOLDS, in_pool};
use crate::leases::record::Lease;

impl Engine {
    /// Whether a machine is to have another address than this one, as soon as it asks for one: the one that is reserved for it,
    /// for example.
    pub(crate) fn is_to_move(&self, reserved: Option<Ipv4Addr>, binding: &Binding) -> bool {
        if binding.state == State::Reserved {
            return false;
        }
        let reserved = reserved.filter(|address| *address != binding.address);
        self.is_unfit(binding) || reserved.is_some_and(|address| self.is_instead(address, binding))
    }

    /// Whether an address is to be nobody's, or another machine's.
    pub(super) fn is_unfit(&self, binding: &Binding) -> bool {
        binding.state != State::Reserved
            && (!self.fits(binding) || self.bindings.is_excluded(binding.address))
    }

    /// Whether an address would be in the place of a binding: in its subnet, or another one on the same wire.
    pub(crate) fn is_instead(&self, address: Ipv4Addr, binding: &Binding) -> bool {
        let subnet = self.policy.subnet_of(address);
        subnet.is_some_and(|other| {
            other == binding.subnet || self.policy.are_on_one_wire(other, binding.subnet)
        })
    }

    fn fits(&self, binding: &Binding) -> bool {
        let subnet = self.policy.subnets().get(binding.subnet);
        subnet.is_some_and(|subnet| in_pool(subnet, binding.address))
    }

    /// Gives everybody what the configuration says. With `honour`, who was promised or offered an address keeps it for now;
    /// it has the addresses whose machine is the same as before, and only has other cards perhaps. True if anybody waits.
    pub(super) fn settle(&mut self, honour: Option<&HashSet<Ipv4Addr>>, now: Now) -> bool {
        let mut waits = false;
        let mut all: Vec<(Mac, Binding)> = self.bindings.iter().collect();
        if self.part_cards(&all, honour, now) {
            all = self.bindings.iter().collect();
        }
        for (mac, binding) in all {
            waits |= self.settle_one(mac, binding, honour, now);
        }
        // Cards that were recognised by something else get what is reserved when they ask next.
        let all: Vec<Arc<Machine>> = self.machines.all().into_iter().map(|known| known.machine).collect();
        // Who has left its address for one of its own leaves it to a machine that may have been looked at before.
        let rounds = if honour.is_some() { 1 } else { 2 };
        for machine in std::iter::repeat_n(&all, rounds).flatten() {
            for mac in &machine.macs {
                waits |= machine.ip.is_some_and(|address| self.reserve(*mac, address, machine, honour, now));
            }
        }
        self.forget_unfit(now);
        waits
    }

    /// The same for one address of one machine.
    pub(super) fn settle_one(
        &mut self,
        mac: Mac,
        binding: Binding,
        honour: Option<&HashSet<Ipv4Addr>>,
        now: Now,
    ) -> bool {
        let binding = match binding.state {
            State::Reserved if self.policy.reserved(mac) != Some(binding.address) => {
                let is_card_gone = honour.is_none_or(|same| same.contains(&binding.address));
                self.unreserve(mac, binding, is_card_gone, now)
            }
            _ => binding,
        };
        if !self.is_unfit(&binding) {
            return false;
        }
        let is_live = !binding.is_free(now.seconds());
        // A reservation waits for whom its address is promised to, wherever it is.
        let is_waited_for = binding.is_promised() && self.bindings.is_excluded(binding.address);
        if !is_live || !(honour.is_some() || self.fits(&binding) || is_waited_for) {
            self.free(mac, binding.address);
            self.cards.lose(mac, binding.subnet, binding.address);
            // It may be reserved for another machine before the promise ends.
            if is_live && binding.is_promised() {
                self.bindings.hold_promised(binding.address, mac, binding.ends());
            }
        }
        is_live
    }

    /// Binds what is reserved for a machine to it. True if that has to wait for what it, or another one, was promised. `honour`
    /// as in [`settle`](Self::settle).
    pub(super) fn reserve(
        &mut self,
        mac: Mac,
        address: Ipv4Addr,
        machine: &Machine,
        honour: Option<&HashSet<Ipv4Addr>>,
        now: Now,
    ) -> bool {
        let Some(subnet) = self.policy.subnet_of(address) else { return false };
        let binding = Binding { address, subnet, state: State::Reserved };
        if self.bindings.with(mac, address).is_some_and(|own| own.state == State::Reserved) {
            return false;
        }
        if let Some(holder) = self.kept_for_another(mac, address, now) {
            let is_new = honour.is_some_and(|same| !same.contains(&address));
            if is_new && machine.macs.first() == Some(&mac) {
                self.say_that_it_waits(mac, address, holder);
            }
            return true;
        }
        let other = self.bindings.owner(address).filter(|other| !machine.macs.contains(other));
        let instead: Vec<Binding> = self
            .bindings
            .of(mac)
            .filter(|other| other.address != address && self.is_instead(address, other))
            .collect();
        let is_live = |other: &Binding| other.state != State::Reserved && !other.is_free(now.seconds());
        if honour.is_some() && instead.iter().any(is_live) {
            return true;
        }
        if let Some(other) = other {
            self.free(other, address);
        }
        let until = self.bindings.with(mac, address).map_or(0, |own| own.ends());
        for other in instead.iter().filter(|other| other.subnet != subnet) {
            self.free(mac, other.address);
            if other.is_promised() && is_live(other) {
                self.bindings.hold_promised(other.address, mac, other.ends());
            }
        }
        // The kernel may go on with what it has of this very address.
        let durable_until = self.durable_until(mac, &binding);
        self.bindings.put(mac, binding);
        self.hold(mac, self.machines.is_named(mac), &binding, until);
        self.machines.put(address, mac);
        self.drop_stale_entry(mac);
        self.put_direct_host(mac, subnet, durable_until, now);
        false
    }

    /// What is no machine's address because of the configuration may be one again.
    fn forget_unfit(&mut self, now: Now) {
        let mut cards = std::mem::take(&mut self.cards);
        cards.retain_lost(|subnet, address| {
            let binding = Binding { address, subnet, state: State::Idle };
            self.is_unfit(&binding) || self.bindings.is_on_hold(address, now.seconds())
        });
        self.cards = cards;
    }

    /// What was reserved for a machine is a lease like any other, as long as it was promised or may be offered.
    fn unreserve(&mut self, mac: Mac, binding: Binding, is_card_gone: bool, now: Now) -> Binding {
        let refused = self.promises.refused(mac, binding.address).unwrap_or(0).saturating_sub(now.seconds());
        let left = match self.entry(mac, binding.address) {
            Some(host) => Duration::from_nanos(host.durable_until)
                .saturating_sub(now.boot)
                .max(Duration::from_secs(refused)),
            // Where the kernel has no entry nobody knows: it may have been promised as much as anything is.
            None => {
                self.policy.subnets().get(binding.subnet).map_or(Duration::ZERO, |subnet| subnet.lease * 2)
            }
        };
        self.cards.set_claim(mac, None);
        // The kernel half may confirm it before it knows.
        self.promises.withdraw(mac);
        let is_over = left.as_secs() == 0 && is_card_gone;
        if is_over || self.bindings.owner(binding.address) != Some(mac) {
            self.free(mac, binding.address);
            return binding;
        }
        let state = match left.as_secs() {
            0..OFFER_HOLDS if !is_card_gone => State::Offered(now.seconds() + OFFER_HOLDS),
            left => State::Leased(now.seconds() + left + 1),
        };
        let binding = Binding { state, ..binding };
        self.bindings.put(mac, binding);
        binding
    }

    /// Leases that the store kept for when they fit again.
    pub(super) fn restore_what_fits(&mut self, leases: &[Lease], now: Now) {
        let missing: Vec<&Lease> = leases
            .iter()
            .filter(|lease| {
                let subnet = self.policy.subnet_of(lease.address);
                subnet.is_some_and(|subnet| self.bindings.get(lease.mac, subnet).is_none())
            })
            .collect();
        let missing: Vec<Lease> = missing.into_iter().cloned().collect();
        self.restore(&missing, now);
    }
}
