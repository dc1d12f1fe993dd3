//! What the engine counts, for who watches it.

use boot_common::Reason;
use ipnet::Ipv4Net;

use crate::Engine;
use crate::command::Now;
use crate::leases::state::LeaseState;

/// How many machines have an address of a subnet, by how far it is theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The subnet.
    pub subnet: Ipv4Net,
    /// The numbers, in the order of [`LeaseState::BOUND`].
    pub machines: [u64; LeaseState::BOUND.len()],
}

impl Engine {
    /// How packets that reached the daemon ended. Who watches a counter has to see its 0 to see the first increase.
    pub fn counters(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().map(|reason| (*reason, self.counter(*reason)))
    }

    /// How many machines have an address, for each subnet in the order of the configuration.
    #[must_use]
    pub fn held(&self, now: Now) -> Vec<Held> {
        let subnets = self.policy.subnets().iter();
        let mut all: Vec<Held> =
            subnets.map(|subnet| Held { subnet: subnet.cidr, machines: Default::default() }).collect();
        for (_, binding) in self.bindings.iter() {
            let state = LeaseState::of(binding.state, now.seconds());
            if let Some(held) = all.get_mut(binding.subnet)
                && let Some(position) = LeaseState::BOUND.iter().position(|other| *other == state)
                && let Some(machines) = held.machines.get_mut(position)
            {
                *machines += 1;
            }
        }
        all
    }
}
