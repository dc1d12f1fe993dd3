//! At which switch ports cards are, as relays say.

use std::collections::{HashMap, VecDeque};

use boot_common::Mac;

use super::addresses::MOST_UNKNOWN;
use crate::config::RelayPort;

/// The ports of the cards that were seen last: the oldest ones leave.
#[derive(Debug, Default)]
pub(super) struct SeenPorts {
    by_mac: HashMap<Mac, RelayPort>,
    /// In the order in which they were seen first.
    order: VecDeque<Mac>,
}

impl SeenPorts {
    pub(super) fn get(&self, mac: Mac) -> Option<&RelayPort> {
        self.by_mac.get(&mac)
    }

    pub(super) fn put(&mut self, mac: Mac, port: RelayPort) {
        if self.by_mac.insert(mac, port).is_none() {
            self.order.push_back(mac);
            if self.order.len() > MOST_UNKNOWN
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_mac.remove(&oldest);
            }
        }
    }
}
