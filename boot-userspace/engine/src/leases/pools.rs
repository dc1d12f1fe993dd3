//! How full the pools are, and when there is something to say of those with nothing left.

use std::collections::{HashMap, HashSet};

use boot_common::Mac;

use crate::Engine;
use crate::command::Now;
use crate::events::{Step, TurnedAway};
use crate::leases::bindings::{in_pool, pool_size};
use crate::leases::pool::Pool;

/// Seconds between two lines about one subnet.
const BETWEEN_LINES: u64 = 60;
/// How many machines that were turned away are told apart between two lines.
const MOST_MACHINES: usize = 65_536;

/// Who was turned away, by subnet.
#[derive(Debug, Default)]
pub(crate) struct Turned(HashMap<usize, Away>);

impl Turned {
    /// Gives subnets other indices.
    pub(crate) fn renumber(&mut self, new: impl Fn(usize) -> Option<usize>) {
        self.0 = self.0.drain().filter_map(|(old, away)| Some((new(old)?, away))).collect();
    }

    /// Takes down that a machine got no address in a subnet.
    fn note(&mut self, mac: Mac, subnet: usize) {
        let away = self.0.entry(subnet).or_default();
        away.refused += 1;
        if away.machines.len() < MOST_MACHINES {
            away.machines.insert(mac);
        }
    }

    /// How many requests got no address in a subnet.
    fn refused(&self, subnet: usize) -> u64 {
        self.0.get(&subnet).map_or(0, |away| away.refused)
    }

    /// Whether there may be something to say of any subnet.
    fn is_due(&self, now: u64) -> bool {
        self.0.values().any(|away| away.is_due(now))
    }

    /// What there is to say of a subnet whose pools are as full as this.
    fn news(&mut self, subnet: usize, pool: &Pool, now: u64) -> Option<Step> {
        let away = self.0.get_mut(&subnet).filter(|away| away.is_due(now))?;
        away.next_line = now + BETWEEN_LINES;
        away.news(pool)
    }
}

#[cfg(test)]
impl Turned {
    /// Whether a subnet had nothing left, and how many machines are yet to be mentioned.
    pub(crate) fn waiting(&self, subnet: usize) -> (bool, usize) {
        self.0.get(&subnet).map_or((false, 0), |away| (away.is_empty, away.machines.len()))
    }
}

/// What is known of a subnet that had nothing left.
#[derive(Debug, Default)]
struct Away {
    refused: u64,
    /// The machines since the last line.
    machines: HashSet<Mac>,
    /// Whether there was nothing left when it was last looked at.
    is_empty: bool,
    /// In Unix seconds.
    next_line: u64,
}

impl Engine {
    /// Each subnet's pools, in the order of the configuration. Looks at every binding.
    #[must_use]
    pub fn pools(&self, now: Now) -> Vec<Pool> {
        let now = now.seconds();
        let subnets = self.policy.subnets();
        let mut pools: Vec<Pool> = (0..)
            .zip(subnets)
            .map(|(index, subnet)| Pool {
                subnet: subnet.cidr,
                size: pool_size(subnet),
                used: 0,
                resting: 0,
                refused: self.turned_away.refused(index),
            })
            .collect();
        let of = |index: usize, address| subnets.get(index).is_some_and(|subnet| in_pool(subnet, address));
        let is_given = |index: usize, address| {
            let router = subnets.get(index).and_then(|subnet| subnet.router);
            of(index, address) && router != Some(address) && !self.bindings.is_excluded(address)
        };
        let routers = subnets.iter().filter_map(|subnet| subnet.router);
        let routers = routers.filter(|router| !self.bindings.is_excluded(*router));
        for address in self.bindings.excluded().chain(routers) {
            if let Some(index) = self.policy.subnet_of(address).filter(|index| of(*index, address))
                && let Some(pool) = pools.get_mut(index)
            {
                pool.size -= 1;
            }
        }
        for (_, binding) in self.bindings.iter() {
            if !binding.is_free(now)
                && is_given(binding.subnet, binding.address)
                && let Some(pool) = pools.get_mut(binding.subnet)
            {
                pool.used += 1;
            }
        }
        for (address, _) in self.bindings.held(now) {
            if let Some(index) = self.policy.subnet_of(address).filter(|index| is_given(*index, address))
                && let Some(pool) = pools.get_mut(index)
            {
                pool.resting += 1;
            }
        }
        pools
    }

    /// Takes down that a machine got no address, in none of these subnets.
    pub(crate) fn turn_away(&mut self, mac: Mac, subnets: &[usize], now: Now) {
        subnets.iter().for_each(|subnet| self.turned_away.note(mac, *subnet));
        self.watch_pools(now);
    }

    /// Says which subnets have nothing left, and which have again. To be called every second.
    pub(crate) fn watch_pools(&mut self, now: Now) {
        if !self.turned_away.is_due(now.seconds()) {
            return;
        }
        for (index, pool) in self.pools(now).into_iter().enumerate() {
            if let Some(step) = self.turned_away.news(index, &pool, now.seconds()) {
                self.happened(None, step, now);
            }
        }
    }
}

impl Away {
    fn is_due(&self, now: u64) -> bool {
        now >= self.next_line && (self.is_empty || !self.machines.is_empty())
    }

    fn news(&mut self, pool: &Pool) -> Option<Step> {
        let machines = std::mem::take(&mut self.machines);
        let turned_away = match machines.len() {
            // Nobody has asked for a minute.
            0 if pool.free() == 0 => return None,
            0 => {
                self.is_empty = false;
                return Some(Step::PoolHasRoom(*pool));
            }
            1 => machines.into_iter().next().map_or(TurnedAway::Many(1), TurnedAway::One),
            many => TurnedAway::Many(many),
        };
        self.is_empty = true;
        Some(Step::PoolEmpty(*pool, turned_away))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn pool(used: u64, resting: u64) -> Pool {
        Pool { subnet: "10.1.0.0/16".parse().unwrap(), size: 10, used, resting, refused: 0 }
    }

    #[test]
    fn a_pool_is_news_when_somebody_new_gets_nothing_and_when_there_is_room_again() {
        let mut away = Away { machines: HashSet::from([MAC]), ..Away::default() };
        assert!(matches!(away.news(&pool(9, 1)), Some(Step::PoolEmpty(_, TurnedAway::One(MAC)))));
        assert!(away.news(&pool(10, 0)).is_none(), "nobody new, nothing new");
        away.machines = (0..3).map(|last| Mac([2, 0, 0, 0, 0, last])).collect();
        assert!(matches!(away.news(&pool(10, 0)), Some(Step::PoolEmpty(_, TurnedAway::Many(3)))));
        assert!(away.is_empty);
        assert!(matches!(away.news(&pool(8, 1)), Some(Step::PoolHasRoom(pool)) if pool.free() == 1));
        assert!(!away.is_empty);
    }
}
