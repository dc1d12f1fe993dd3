//! Cards that had the reserved address of one machine together, and are not all its cards any more.

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;

use boot_common::Mac;

use crate::Engine;
use crate::command::Now;
use crate::leases::binding::{Binding, State};

impl Engine {
    /// Leaves each address that several cards had together, and that not all of them are to have any more, to one machine: that
    /// of the card that it was last promised to, whomever the configuration has it for. The others lose it here and in the
    /// kernel. `honour` as in [`settle`](Self::settle). True if any binding has changed.
    pub(super) fn part_cards(
        &mut self,
        all: &[(Mac, Binding)],
        honour: Option<&HashSet<Ipv4Addr>>,
        now: Now,
    ) -> bool {
        // The first card owns a shared address.
        let is_second = |(mac, binding): &&(Mac, Binding)| {
            binding.state == State::Reserved && self.bindings.owner(binding.address) != Some(*mac)
        };
        let shared: HashSet<Ipv4Addr> =
            all.iter().filter(is_second).map(|(_, binding)| binding.address).collect();
        let mut cards: BTreeMap<Ipv4Addr, Vec<(Mac, Binding)>> = BTreeMap::new();
        for (mac, binding) in all {
            if binding.state == State::Reserved && shared.contains(&binding.address) {
                cards.entry(binding.address).or_default().push((*mac, *binding));
            }
        }
        let mut has_changed = false;
        for (address, cards) in cards {
            has_changed |= self.part(address, &cards, honour, now);
        }
        has_changed
    }

    /// The same for one address.
    fn part(
        &mut self,
        address: Ipv4Addr,
        cards: &[(Mac, Binding)],
        honour: Option<&HashSet<Ipv4Addr>>,
        now: Now,
    ) -> bool {
        let entitled: Vec<Mac> = cards
            .iter()
            .map(|(mac, _)| *mac)
            .filter(|mac| self.policy.reserved(*mac) == Some(address))
            .collect();
        if entitled.len() == cards.len() {
            return false;
        }
        let owner = self.bindings.owner(address);
        let rank = |(mac, _): &(Mac, Binding)| {
            let promised = self.promised_until(*mac, address, now);
            (promised.unwrap_or(0), entitled.contains(mac), promised.is_none(), owner == Some(*mac), *mac)
        };
        let Some((last, binding)) = cards.iter().copied().max_by_key(rank) else { return false };
        let until = self.promised_until(last, address, now).unwrap_or(0);
        let is_entitled = entitled.contains(&last);
        for (mac, other) in cards {
            if *mac != last && !(is_entitled && entitled.contains(mac)) {
                self.free(*mac, address);
                self.cards.lose(*mac, other.subnet, address);
                // The kernel half may confirm it before it knows.
                self.promises.withdraw(*mac);
            }
        }
        let becomes_lease = !is_entitled && until > 0;
        if becomes_lease {
            self.cards.set_claim(last, None);
            self.promises.withdraw(last);
        }
        let state = if becomes_lease { State::Leased(until) } else { State::Reserved };
        self.bindings.put(last, Binding { state, ..binding });
        // Of an address that is new to its machine, `reserve` says it.
        if becomes_lease
            && let Some(mac) = entitled.first()
            && honour.is_none_or(|same| same.contains(&address))
        {
            self.say_that_it_waits(*mac, address, last);
        }
        true
    }
}
