//! All leases at one moment.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use boot_common::Mac;
use ipnet::Ipv4Net;

use super::operator::Shown;
use crate::Engine;
use crate::command::Now;
use crate::config::Config;
use crate::leases::binding::{Binding, State};
use crate::leases::holds::Hold;
use crate::leases::record::Lease;
use crate::leases::state::LeaseState;
use crate::machines::Machines;

/// What the engine has of all leases. Taking it copies some 50 bytes for each; names and order take longer, and are not
/// the packet thread's to find.
#[derive(Debug)]
pub struct Snapshot {
    bindings: Vec<(Mac, Binding)>,
    on_hold: HashMap<Ipv4Addr, Hold>,
    config: Arc<Config>,
    machines: Machines,
    now: Now,
}

impl Engine {
    /// What it has of all leases now.
    #[must_use]
    pub fn snapshot(&self, now: Now) -> Snapshot {
        Snapshot {
            bindings: self.bindings.iter().collect(),
            on_hold: self.bindings.held(now.seconds()).collect(),
            config: Arc::clone(self.policy.config()),
            machines: self.machines.clone(),
            now,
        }
    }
}

impl Snapshot {
    /// Every lease in the order of the addresses. `stored` is what the store has: it knows when a lease ended, and
    /// keeps leases that no longer fit the configuration.
    #[must_use]
    pub fn with(&self, stored: &[Lease]) -> Vec<Shown> {
        let is_listed =
            |lease: &&Lease| !lease.state.is_on_hold() && !self.on_hold.contains_key(&lease.address);
        let mut stored: HashMap<(Mac, Ipv4Addr), &Lease> =
            stored.iter().filter(is_listed).map(|lease| ((lease.mac, lease.address), lease)).collect();
        let of = |(mac, binding): &(Mac, Binding)| {
            let lease = stored.remove(&(*mac, binding.address));
            self.shown(*mac, binding, lease)
        };
        let mut all: Vec<Shown> = self.bindings.iter().map(of).collect();
        all.sort_by_key(|shown| (shown.address, shown.mac));
        all.extend(stored.into_values().map(|lease| Shown {
            mac: lease.mac,
            address: lease.address,
            subnet: lease.subnet,
            state: LeaseState::Released,
            expires: u64::try_from(lease.expires).ok(),
            name: self.name(lease.mac).or_else(|| lease.hostname.clone()),
        }));
        all.extend(self.on_hold.iter().map(|(address, Hold { mac, until, cause })| Shown {
            mac: *mac,
            address: *address,
            subnet: self.subnet(self.config.subnets.iter().position(|subnet| subnet.cidr.contains(address))),
            state: LeaseState::OnHold(*cause),
            expires: Some(*until),
            name: self.name(*mac),
        }));
        // Stable, so that of two with one address that which holds it comes first.
        all.sort_by_key(|shown| shown.address);
        all
    }

    fn shown(&self, mac: Mac, binding: &Binding, lease: Option<&Lease>) -> Shown {
        let now = self.now.seconds();
        let ends = |lease: &Lease| u64::try_from(lease.expires).ok();
        let live = |lease: &&Lease| lease.state == LeaseState::Leased && ends(lease) > Some(now);
        let expires = match binding.state {
            State::Reserved => lease.filter(live).and_then(ends),
            State::Offered(until) | State::Leased(until) => Some(until),
            State::Released(_) | State::Idle => lease.and_then(ends),
        };
        Shown {
            mac,
            address: binding.address,
            subnet: self.subnet(Some(binding.subnet)),
            state: LeaseState::of(binding.state, now),
            expires,
            name: self.name(mac).or_else(|| lease?.hostname.clone()),
        }
    }

    /// As logs name it.
    fn name(&self, mac: Mac) -> Option<String> {
        self.machines.client(mac).name
    }

    fn subnet(&self, index: Option<usize>) -> Ipv4Net {
        let subnet = index.and_then(|index| self.config.subnets.get(index));
        subnet.map_or_else(Ipv4Net::default, |subnet| subnet.cidr)
    }
}
