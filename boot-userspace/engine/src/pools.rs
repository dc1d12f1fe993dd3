//! How full the pools are, and what is said of those with nothing left.

use std::collections::{HashMap, HashSet};

use boot_common::Mac;
use ipnet::Ipv4Net;
use tracing::{info, warn};

use crate::Engine;
use crate::bindings::{in_pool, pool_size};
use crate::command::Now;

/// Seconds between two lines about one subnet.
const BETWEEN_LINES: u64 = 60;
/// How many machines that were turned away are told apart between two lines.
const MOST_MACHINES: usize = 65_536;

/// How full the pools of a subnet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The subnet, which has no other name.
    pub subnet: Ipv4Net,
    /// Addresses that may be given out: without reserved ones, the router's and our own.
    pub size: u64,
    /// Those that are some machine's, by a lease or an offer that still runs.
    pub used: u64,
    /// Those that nobody gets for a while: somebody else was found to use them, or they are still promised to a machine
    /// that has another one now.
    pub resting: u64,
    /// DISCOVERs that got no address, since the daemon was started.
    pub refused: u64,
}

impl Pool {
    /// Addresses that another machine could get.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.size.saturating_sub(self.used + self.resting)
    }
}

/// Who was turned away, by subnet.
#[derive(Debug, Default)]
pub(super) struct Turned(HashMap<usize, Away>);

#[cfg(test)]
impl Turned {
    /// Whether a subnet had nothing left, and how many machines are yet to be mentioned.
    pub(super) fn waiting(&self, subnet: usize) -> (bool, usize) {
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
                refused: self.turned_away.0.get(&index).map_or(0, |away| away.refused),
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
    pub(super) fn turn_away(&mut self, mac: Mac, subnets: &[usize], now: Now) {
        for index in subnets {
            let away = self.turned_away.0.entry(*index).or_default();
            away.refused += 1;
            if away.machines.len() < MOST_MACHINES {
                away.machines.insert(mac);
            }
        }
        self.watch_pools(now);
    }

    /// Says which subnets have nothing left, and which have again. To be called every second.
    pub(super) fn watch_pools(&mut self, now: Now) {
        let due =
            |away: &Away| now.seconds() >= away.next_line && (away.is_empty || !away.machines.is_empty());
        if !self.turned_away.0.values().any(due) {
            return;
        }
        for (index, pool) in self.pools(now).into_iter().enumerate() {
            let away = self.turned_away.0.get_mut(&index).filter(|away| due(away));
            let Some(away) = away else { continue };
            away.next_line = now.seconds() + BETWEEN_LINES;
            let Pool { subnet, size, used, resting, refused } = pool;
            match away.news(&pool) {
                Some(News::Empty(text)) => {
                    warn!(step = "exhausted", by = "daemon", %subnet, size, used, resting, refused, "{text}");
                }
                Some(News::Room(text)) => {
                    info!(step = "exhausted", by = "daemon", %subnet, size, used, resting, refused, "{text}");
                }
                None => {}
            }
        }
    }
}

/// What there is to say about a subnet.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Empty(String),
    Room(String),
}

impl Away {
    fn news(&mut self, pool: &Pool) -> Option<News> {
        let Pool { subnet, size, used, resting, .. } = *pool;
        let machines = std::mem::take(&mut self.machines);
        let who = match machines.len() {
            // Nobody has asked for a minute.
            0 if pool.free() == 0 => return None,
            0 => {
                self.is_empty = false;
                return Some(News::Room(format!("subnet {subnet} has {} addresses again", pool.free())));
            }
            1 => machines.iter().map(Mac::to_string).collect(),
            many => format!("{many} machines"),
        };
        self.is_empty = true;
        let what = match size {
            0 => format!("it has no pool: give it one, or name {who} in a [[machine]]"),
            _ => format!(
                "all {size} of its pool are taken ({used} by leases and offers, {resting} rest): enlarge its pool, or make its leases shorter"
            ),
        };
        Some(News::Empty(format!("subnet {subnet} has no address left for {who}: {what}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(size: u64, used: u64, resting: u64) -> Pool {
        Pool { subnet: "10.1.0.0/16".parse().unwrap(), size, used, resting, refused: 0 }
    }

    #[test]
    fn what_is_said_names_the_subnet_the_machines_and_what_to_do() {
        let mut away = Away { machines: HashSet::from([Mac([2, 0, 0, 0, 0, 1])]), ..Away::default() };
        let text = |news: Option<News>| match news.unwrap() {
            News::Empty(text) | News::Room(text) => text,
        };
        assert_eq!(
            text(away.news(&pool(10, 9, 1))),
            "subnet 10.1.0.0/16 has no address left for 02:00:00:00:00:01: all 10 of its pool are taken (9 by leases \
             and offers, 1 rest): enlarge its pool, or make its leases shorter"
        );
        assert_eq!(away.news(&pool(10, 10, 0)), None, "nobody new, nothing new");
        away.machines = (0..3).map(|last| Mac([2, 0, 0, 0, 0, last])).collect();
        assert!(text(away.news(&pool(10, 10, 0))).contains("left for 3 machines: all 10"));
        assert_eq!(
            away.news(&pool(10, 8, 1)),
            Some(News::Room("subnet 10.1.0.0/16 has 1 addresses again".to_owned()))
        );
        assert!(!away.is_empty);
        away.machines.insert(Mac([2, 0, 0, 0, 0, 1]));
        assert!(text(away.news(&pool(0, 0, 0))).contains("it has no pool"));
    }
}
