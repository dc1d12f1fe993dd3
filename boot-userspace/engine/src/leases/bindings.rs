//! Which machine has which address.
//!
//! An address is bound to its machine when it is offered, not when it is requested: in a storm no two machines
//! are ever offered the same one, because real firmware does not survive the NAK. A machine keeps its address as
//! long as nobody else needs it, in each subnet that it is heard in: the same MAC may be in several VLANs, behind several
//! relays and on several interfaces at once.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use boot_common::Mac;

use crate::config::Subnet;
use crate::leases::binding::{Binding, State};
use crate::leases::by_machine::ByMachine;
use crate::leases::holds::{Hold, Holds};
use crate::leases::state::HoldCause;
use crate::maps::{HashMap, HashSet};

/// How long an offer binds an address that is not requested: longer than EDK2's four windows of 60 s together.
pub const OFFER_HOLDS: u64 = 90;
/// How long an address that was given back is left alone: longer than an event of the kernel half takes to be read.
pub const RELEASE_HOLDS: u64 = 2;
/// How long an address that a machine found in use is left alone.
pub const QUARANTINE: u64 = 600;

/// What became of a request for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The machine has this address, and had it before.
    To(Binding),
    /// It has this one, which nobody has.
    New(Binding),
    /// It has this one, which was taken from a machine that no longer needs it.
    TakenFrom(Mac, Binding),
    /// The subnet has no pool, or nothing left in it.
    Exhausted,
}

/// All bindings.
#[derive(Debug, Default)]
pub struct Bindings {
    machines: ByMachine,
    owner: HashMap<Ipv4Addr, Mac>,
    holds: Holds,
    /// Never given out of a pool: our own, and what is reserved.
    excluded: HashSet<Ipv4Addr>,
    /// Where the search for a never used address goes on, per subnet.
    next: HashMap<usize, u32>,
    /// Addresses that lost their machine.
    freed: VecDeque<Ipv4Addr>,
    /// The same, to have each of them once.
    is_freed: HashSet<Ipv4Addr>,
    /// Addresses in the order in which their bindings were last renewed, some more than once: the candidates for being
    /// given to another machine.
    stale: VecDeque<Ipv4Addr>,
    /// Subnets in which nothing was left, and the second in which that was found: looking costs as much as there are
    /// machines.
    exhausted: HashMap<usize, u64>,
    /// Offers in the order in which they run out, with that second; some are no longer open.
    offers: VecDeque<(u64, Ipv4Addr)>,
}

impl Bindings {
    /// The machine's binding in a subnet.
    #[must_use]
    pub fn get(&self, mac: Mac, subnet: usize) -> Option<Binding> {
        self.machines.of(mac).find(|binding| binding.subnet == subnet)
    }

    /// The machine's binding of an address.
    #[must_use]
    pub fn with(&self, mac: Mac, address: Ipv4Addr) -> Option<Binding> {
        self.machines.of(mac).find(|binding| binding.address == address)
    }

    /// Every binding of the machine: at most one in each subnet.
    pub fn of(&self, mac: Mac) -> impl Iterator<Item = Binding> {
        self.machines.of(mac)
    }

    /// Whether the machine has an address anywhere.
    #[must_use]
    pub fn has(&self, mac: Mac) -> bool {
        self.machines.of(mac).next().is_some()
    }

    /// Who has this address.
    #[must_use]
    pub fn owner(&self, address: Ipv4Addr) -> Option<Mac> {
        self.owner.get(&address).copied()
    }

    /// How many machines have an address.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "nobody asks whether there is none")]
    pub fn len(&self) -> usize {
        self.machines.len()
    }

    /// Every binding of every machine.
    pub fn iter(&self) -> impl Iterator<Item = (Mac, Binding)> {
        self.machines.iter()
    }

    /// Writes a binding from the configuration or the store, or a change of state. What the machine had so far in the
    /// same subnet is on hold as long as it was promised; what it has in other subnets stays as it is.
    pub fn put(&mut self, mac: Mac, binding: Binding) {
        if let Some(old) = self.machines.insert(mac, binding)
            && old.address != binding.address
            && self.owner.get(&old.address) == Some(&mac)
        {
            self.owner.remove(&old.address);
            match old.state {
                State::Leased(until) | State::Released(until) => self.hold_promised(old.address, mac, until),
                _ => self.note_freed(old.address),
            }
        }
        self.note_offer(&binding);
        // The MACs of one machine share its reserved address; the first one owns it.
        self.owner.entry(binding.address).or_insert(mac);
        if binding.state != State::Reserved {
            self.renewed(binding.address);
        }
    }

    /// Ends the offers that nobody requested in time.
    pub fn free_offers(&mut self, now: u64) {
        while let Some((_, address)) = self.offers.pop_front_if(|(until, _)| *until <= now) {
            if let Some(mac) = self.owner(address)
                && let Some(binding) = self.with(mac, address)
                && matches!(binding.state, State::Offered(until) if until <= now)
            {
                self.put(mac, Binding { state: State::Idle, ..binding });
            }
        }
    }

    /// All offers hold equally long, so the one that was made last runs out last.
    fn note_offer(&mut self, binding: &Binding) {
        let State::Offered(until) = binding.state else { return };
        self.offers.push_back((until, binding.address));
        // A machine that turns offers down is in it with each of them: only the last counts.
        if self.offers.len() > 2 * self.owner.len() + 1024 {
            let mut seen = HashSet::default();
            self.offers = self.offers.drain(..).rev().filter(|(_, address)| seen.insert(*address)).collect();
            self.offers.make_contiguous().reverse();
        }
    }

    /// Moves an address to the end of the queue of those that another machine may get.
    fn renewed(&mut self, address: Ipv4Addr) {
        self.stale.push_back(address);
        // Addresses stand in it once for each renewal: the older places go before they fill the memory.
        if self.stale.len() > 2 * self.owner.len() + 1024 {
            let mut seen = HashSet::default();
            self.stale = self.stale.drain(..).rev().filter(|address| seen.insert(*address)).collect();
            self.stale.make_contiguous().reverse();
        }
    }

    /// Takes an address from a machine, which keeps those in other subnets.
    pub fn remove(&mut self, mac: Mac, address: Ipv4Addr) -> Option<Binding> {
        let binding = self.with(mac, address)?;
        self.machines.remove(mac, binding.subnet);
        if self.owner.get(&binding.address) == Some(&mac) {
            self.owner.remove(&binding.address);
            self.note_freed(binding.address);
        }
        Some(binding)
    }

    /// Whether nobody gets an address at this second.
    #[must_use]
    pub fn is_on_hold(&self, address: Ipv4Addr, now: u64) -> bool {
        self.holds.has(address, now)
    }

    /// Who was promised an address that it does not have any more, while that promise lasts.
    #[must_use]
    pub fn promised_to(&self, address: Ipv4Addr, now: u64) -> Option<Mac> {
        self.holds.promised_to(address, now)
    }

    /// The addresses that rest because of a machine, for whatever cause.
    pub fn resting_because_of(&self, mac: Mac) -> impl Iterator<Item = Ipv4Addr> {
        self.holds.of(mac)
    }

    /// Begins a hold, which is stored with what is stored for its machine next.
    pub fn hold(&mut self, address: Ipv4Addr, hold: Hold) {
        self.holds.begin(address, hold);
    }

    /// Ends a hold before its time.
    pub fn lift(&mut self, address: Ipv4Addr) {
        self.holds.lift(address);
    }

    /// Forgets the holds that are over, and gives their addresses.
    pub fn end_holds(&mut self, now: u64) -> Vec<Ipv4Addr> {
        self.holds.end(now)
    }

    /// The holds of a machine that the store does not have yet.
    pub fn take_unsaved_holds(&mut self, mac: Mac) -> Vec<(Ipv4Addr, Hold)> {
        self.holds.take_unsaved(mac)
    }

    /// Takes an address out of use until `now` + [`QUARANTINE`]: another host uses it.
    pub fn quarantine(&mut self, address: Ipv4Addr, mac: Mac, cause: HoldCause, now: u64) {
        self.holds.begin(address, Hold { mac, until: now + QUARANTINE, cause });
    }

    /// Leaves an address that nobody has alone until that second: it was promised to a machine that has another one
    /// now.
    pub fn hold_promised(&mut self, address: Ipv4Addr, mac: Mac, until: u64) {
        self.holds.begin(address, Hold { mac, until, cause: HoldCause::Promised });
        self.note_freed(address);
    }

    /// A hold as the store has it.
    pub fn restore_hold(&mut self, address: Ipv4Addr, hold: Hold) {
        self.holds.restore(address, hold);
        self.note_freed(address);
    }

    /// Gives subnets other indices. Forgets what is bound in subnets that have none any more, and gives it.
    pub fn renumber(&mut self, new: impl Fn(usize) -> Option<usize>) -> Vec<(Mac, Binding)> {
        let removed = self.machines.renumber(&new);
        for (mac, binding) in &removed {
            if self.owner.get(&binding.address) == Some(mac) {
                self.owner.remove(&binding.address);
            }
        }
        self.next = self.next.drain().filter_map(|(old, next)| Some((new(old)?, next))).collect();
        self.exhausted.clear();
        removed
    }

    /// The pools of a subnet are others now: it is looked for never used addresses from their beginning.
    pub fn search_anew(&mut self, subnet: usize) {
        self.next.remove(&subnet);
        self.exhausted.remove(&subnet);
    }

    /// Addresses that nobody has and that are on hold at this second.
    pub fn held(&self, now: u64) -> impl Iterator<Item = (Ipv4Addr, Hold)> {
        self.holds.iter(now).filter(|(address, _)| !self.owner.contains_key(address))
    }

    /// Addresses that are kept from being given out of a pool.
    pub fn excluded(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.excluded.iter().copied()
    }

    /// Binds an address of a subnet to a machine: the one it has there, else the one it asks for, else one never used, else the one
    /// that has been idle longest (the order of RFC 2131 section 4.3.1).
    pub fn bind(
        &mut self,
        mac: Mac,
        subnet: usize,
        pools: &Subnet,
        asked: Option<Ipv4Addr>,
        now: u64,
    ) -> Bound {
        if let Some(binding) = self.get(mac, subnet) {
            let fits = in_pool(pools, binding.address) && !self.is_excluded(binding.address);
            if !fits && binding.state != State::Reserved {
                // By the configuration it is to be another machine's or nobody's, and this one asks anew. Anybody may do
                // that in its name: what is reserved for another stays promised to it.
                self.remove(mac, binding.address);
                let is_live = binding.is_promised() && !binding.is_free(now);
                if is_live && self.is_excluded(binding.address) {
                    self.hold_promised(binding.address, mac, binding.ends());
                }
            } else {
                return Bound::To(self.extended(mac, binding, now));
            }
        }
        let mut taken_from = None;
        let asked = asked.filter(|address| in_pool(pools, *address) && self.is_unused(pools, *address, now));
        if asked.is_none() && self.exhausted.get(&subnet) == Some(&now) {
            return Bound::Exhausted;
        }
        let address = asked
            .or_else(|| self.never_used(subnet, pools, now))
            .or_else(|| self.freed(pools, now))
            .or_else(|| {
                let (loser, address) = self.longest_idle(pools, now)?;
                taken_from = Some(loser);
                self.remove(loser, address).map(|binding| binding.address)
            });
        let Some(address) = address else {
            self.exhausted.insert(subnet, now);
            return Bound::Exhausted;
        };
        let binding = Binding { address, subnet, state: State::Offered(now + OFFER_HOLDS) };
        self.put(mac, binding);
        match taken_from {
            Some(loser) => Bound::TakenFrom(loser, binding),
            None => Bound::New(binding),
        }
    }

    /// A binding that lasts for an offer.
    fn extended(&mut self, mac: Mac, binding: Binding, now: u64) -> Binding {
        if binding.ends() >= now + OFFER_HOLDS {
            return binding;
        }
        let binding = Binding { state: State::Offered(now + OFFER_HOLDS), ..binding };
        self.machines.insert(mac, binding);
        self.note_offer(&binding);
        binding
    }

    /// Keeps an address from ever being given out of a pool: it is our own, or reserved.
    pub fn exclude(&mut self, address: Ipv4Addr) {
        self.excluded.insert(address);
    }

    /// Lets an address be given out again.
    pub fn include(&mut self, address: Ipv4Addr) {
        if self.excluded.remove(&address) {
            self.note_freed(address);
        }
    }

    /// Whether an address is kept from ever being given out of a pool.
    #[must_use]
    pub fn is_excluded(&self, address: Ipv4Addr) -> bool {
        self.excluded.contains(&address)
    }

    fn is_unused(&self, pools: &Subnet, address: Ipv4Addr, now: u64) -> bool {
        !self.owner.contains_key(&address)
            && pools.router != Some(address)
            && !self.is_excluded(address)
            && !self.holds.has(address, now)
    }

    fn note_freed(&mut self, address: Ipv4Addr) {
        if self.is_freed.insert(address) {
            self.freed.push_back(address);
        }
    }

    /// Addresses of a pool in turn; each is looked at once until the pool has been gone through.
    fn never_used(&mut self, subnet: usize, pools: &Subnet, now: u64) -> Option<Ipv4Addr> {
        let total: u32 = pools.pool.iter().map(|(first, last)| last.to_bits() - first.to_bits() + 1).sum();
        for _ in 0..total {
            let next = self.next.entry(subnet).or_default();
            if *next >= total {
                break;
            }
            let address = nth(pools, *next)?;
            *next += 1;
            if self.is_unused(pools, address, now) {
                return Some(address);
            }
        }
        None
    }

    /// An address that lost its machine, for example by a DECLINE whose quarantine is over.
    fn freed(&mut self, pools: &Subnet, now: u64) -> Option<Ipv4Addr> {
        for _ in 0..self.freed.len() {
            let address = self.freed.pop_front()?;
            self.is_freed.remove(&address);
            if in_pool(pools, address) && self.is_unused(pools, address, now) {
                return Some(address);
            }
            if !self.owner.contains_key(&address) {
                self.note_freed(address);
            }
        }
        None
    }

    /// The address of these pools that its machine has not needed for the longest time.
    fn longest_idle(&mut self, pools: &Subnet, now: u64) -> Option<(Mac, Ipv4Addr)> {
        for _ in 0..self.stale.len() {
            let address = self.stale.pop_front()?;
            let Some(mac) = self.owner(address) else { continue };
            let Some(binding) = self.with(mac, address) else { continue };
            if binding.is_free(now) && in_pool(pools, address) && !self.is_excluded(address) {
                return Some((mac, address));
            }
            if binding.state != State::Reserved {
                self.stale.push_back(address);
            }
        }
        None
    }
}

/// Whether a pool of the subnet has this address.
#[must_use]
pub fn in_pool(subnet: &Subnet, address: Ipv4Addr) -> bool {
    subnet.pool.iter().any(|(first, last)| (*first..=*last).contains(&address))
}

/// How many addresses the pools of a subnet have.
#[must_use]
pub fn pool_size(subnet: &Subnet) -> u64 {
    subnet.pool.iter().map(|(first, last)| u64::from(last.to_bits() - first.to_bits()) + 1).sum()
}

fn nth(subnet: &Subnet, mut index: u32) -> Option<Ipv4Addr> {
    for (first, last) in &subnet.pool {
        let size = last.to_bits() - first.to_bits() + 1;
        if index < size {
            return Some(Ipv4Addr::from_bits(first.to_bits() + index));
        }
        index -= size;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_end_in_time_and_do_not_fill_the_memory() {
        let mut bindings = Bindings::default();
        let machine = |last: u8| Mac([2, 0, 0, 0, 0, last]);
        let binding = |last: u8, state| Binding { address: Ipv4Addr::new(10, 0, 0, last), subnet: 0, state };
        for turn in 0..10_000 {
            // Turned down, and offered again.
            bindings.put(machine(1), binding(1, State::Idle));
            bindings.put(machine(1), binding(1, State::Offered(100 + turn / 1000)));
        }
        assert!(bindings.offers.len() < 2000, "{}", bindings.offers.len());
        bindings.put(machine(2), binding(2, State::Offered(120)));
        bindings.put(machine(3), binding(3, State::Offered(120)));
        bindings.put(machine(3), binding(3, State::Leased(500)));
        let states =
            |bindings: &Bindings| [1, 2, 3].map(|last| bindings.get(machine(last), 0).unwrap().state);
        bindings.free_offers(108);
        assert_eq!(states(&bindings), [State::Offered(109), State::Offered(120), State::Leased(500)]);
        bindings.free_offers(109);
        assert_eq!(states(&bindings), [State::Idle, State::Offered(120), State::Leased(500)]);
        bindings.free_offers(120);
        assert_eq!(states(&bindings), [State::Idle, State::Idle, State::Leased(500)]);
        assert!(bindings.offers.is_empty());
    }

    #[test]
    fn what_a_machine_had_in_the_same_subnet_rests_as_long_as_it_was_promised() {
        let mut bindings = Bindings::default();
        let (mac, before) = (Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 7));
        let reserved =
            |last: u8| Binding { address: Ipv4Addr::new(10, 0, 0, last), subnet: 0, state: State::Reserved };
        bindings.put(mac, Binding { address: before, subnet: 0, state: State::Leased(500) });
        bindings.put(mac, reserved(60));
        assert_eq!(bindings.owner(before), None);
        assert_eq!(
            bindings.held(0).collect::<Vec<_>>(),
            [(before, Hold { mac, until: 500, cause: HoldCause::Promised })]
        );
        bindings.put(mac, reserved(61));
        assert_eq!(bindings.held(0).count(), 1, "a reservation is no promise");
        let there = Binding { address: Ipv4Addr::new(10, 1, 0, 8), subnet: 1, state: State::Leased(400) };
        bindings.put(mac, there);
        bindings.put(mac, reserved(62));
        assert_eq!((bindings.get(mac, 1), bindings.owner(there.address)), (Some(there), Some(mac)));
        assert_eq!(bindings.held(0).count(), 1, "what it has in another subnet is still its own");
    }

    #[test]
    fn renewals_do_not_fill_the_memory() {
        let mut bindings = Bindings::default();
        let address = Ipv4Addr::new(10, 0, 0, 1);
        for second in 0..100_000 {
            for machine in 0..3 {
                let binding = Binding {
                    address: Ipv4Addr::from_bits(address.to_bits() + machine),
                    subnet: 0,
                    state: State::Leased(second),
                };
                bindings.put(Mac([2, 0, 0, 0, 0, u8::try_from(machine).unwrap()]), binding);
            }
        }
        assert!(bindings.stale.len() < 2000, "{}", bindings.stale.len());
        let newest: Vec<Ipv4Addr> = bindings.stale.iter().rev().take(3).copied().collect();
        assert_eq!(newest, [3, 2, 1].map(|last| Ipv4Addr::new(10, 0, 0, last)));
    }
}
