//! Giving a machine an address.

use std::net::Ipv4Addr;

use boot_common::Reason;

use super::{Asked, Place};
use crate::Engine;
use crate::leases::binding::{Binding, State};
use crate::leases::bindings::Bound;

impl Engine {
    /// Binds an address to a machine, from another subnet on the same wire where its own has none left. Gives the subnet
    /// that it is of, and true when the address is new to the machine and is to be looked for on the network first.
    pub(super) fn bind(&mut self, asked: &Asked<'_>, place: Place) -> Result<(Place, bool), Reason> {
        if let Some(is_new) = self.bind_in(asked, place)? {
            return Ok((place, is_new));
        }
        let others = self.others_on_link(asked, place);
        for other in &others {
            if let Some(is_new) = self.bind_in(asked, *other)? {
                return Ok((*other, is_new));
            }
        }
        let subnets: Vec<usize> = std::iter::once(&place).chain(&others).map(|place| place.subnet).collect();
        self.turn_away(asked.mac, &subnets, asked.now);
        Err(Reason::PoolExhausted)
    }

    /// Nothing when the subnet has no address left.
    fn bind_in(&mut self, asked: &Asked<'_>, place: Place) -> Result<Option<bool>, Reason> {
        let requested = Ipv4Addr::from(asked.facts.requested);
        let requested = (!requested.is_unspecified()).then_some(requested);
        let now = asked.now.seconds();
        let Some(pools) = self.policy.subnets().get(place.subnet) else { return Err(Reason::NoSubnet) };
        let probe = pools.probe;
        // A machine that was elsewhere, behind a relay perhaps, comes back to what is reserved for it.
        let reserved = asked.who.reserved();
        if let Some(address) = reserved
            && self.policy.subnet_of(address) == Some(place.subnet)
            && self.bindings.with(asked.mac, address).is_none()
            && self.kept_for_another(asked.mac, address, asked.now).is_none()
        {
            if let Some(other) = self.bindings.owner(address).filter(|other| !self.are_one(asked.mac, *other))
            {
                self.forget(other, address);
            }
            self.bindings.put(asked.mac, Binding { address, subnet: place.subnet, state: State::Reserved });
            self.drop_stale_entry(asked.mac);
            return Ok(Some(false));
        }
        Ok(match self.bindings.bind(asked.mac, place.subnet, pools, requested, now) {
            Bound::To(_) => Some(false),
            Bound::New(_) => {
                self.drop_stale_entry(asked.mac);
                Some(probe)
            }
            Bound::TakenFrom(loser, binding) => {
                self.forget(loser, binding.address);
                self.drop_stale_entry(asked.mac);
                Some(probe)
            }
            Bound::Exhausted => {
                // It may have lost what it had, which is nothing for the kernel half to confirm any more.
                self.drop_stale_entry(asked.mac);
                None
            }
        })
    }
}
