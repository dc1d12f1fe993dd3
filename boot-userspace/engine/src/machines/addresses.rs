//! Which MACs are known and which addresses they have, from here or from another server.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use boot_common::Mac;

use crate::maps::HashMap;

/// How many machines that are in no configuration and have no address from here are remembered: the oldest ones leave.
pub const MOST_UNKNOWN: usize = 65_536;

/// There may be a million MACs: hence no allocation for each.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    by_address: HashMap<Ipv4Addr, Mac>,
    /// The address that each has had last; unspecified: none.
    known: HashMap<Mac, Ipv4Addr>,
    /// MACs that were only met, in that order.
    met: VecDeque<Mac>,
    /// Addresses that another server gives, in the order in which they were heard of.
    heard: VecDeque<Ipv4Addr>,
}

impl Addresses {
    /// The MAC that has this address.
    pub(super) fn at(&self, address: Ipv4Addr) -> Option<Mac> {
        self.by_address.get(&address).copied()
    }

    /// The address that a MAC has had last, which may be somebody else's by now.
    pub(super) fn last_of(&self, mac: Mac) -> Option<Ipv4Addr> {
        self.known.get(&mac).copied()
    }

    pub(super) fn is_known(&self, mac: Mac) -> bool {
        self.known.contains_key(&mac)
    }

    pub(super) fn know(&mut self, mac: Mac) {
        self.known.entry(mac).or_insert(Ipv4Addr::UNSPECIFIED);
    }

    pub(super) fn forget(&mut self, mac: Mac) {
        self.known.remove(&mac);
    }

    pub(super) fn put(&mut self, address: Ipv4Addr, mac: Mac) -> Option<Mac> {
        self.known.insert(mac, address);
        self.by_address.insert(address, mac)
    }

    pub(super) fn meet(&mut self, mac: Mac) {
        if self.known.contains_key(&mac) {
            return;
        }
        self.know(mac);
        self.met.push_back(mac);
        if self.met.len() > MOST_UNKNOWN
            && let Some(oldest) = self.met.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub(super) fn hear(&mut self, address: Ipv4Addr, mac: Mac) {
        if self.put(address, mac).is_none() {
            self.heard.push_back(address);
            if self.heard.len() > MOST_UNKNOWN
                && let Some(oldest) = self.heard.pop_front()
            {
                self.by_address.remove(&oldest);
            }
        }
    }
}
