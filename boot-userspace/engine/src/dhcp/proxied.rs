//! Unknown machines that have an entry because a proxy has answered them.

use std::collections::{HashSet, VecDeque};

use boot_common::Mac;

use crate::machines::MOST_UNKNOWN;

/// The machines in the order in which they got it.
#[derive(Debug, Default)]
pub(crate) struct Proxied {
    queue: VecDeque<Mac>,
    known: HashSet<Mac>,
}

impl Proxied {
    /// Adds a machine that got an entry. Gives the one that has to make room for it.
    pub(super) fn add(&mut self, mac: Mac) -> Option<Mac> {
        // One whose entry was removed meanwhile keeps its place in the order.
        if !self.known.insert(mac) {
            return None;
        }
        self.queue.push_back(mac);
        let oldest = if self.queue.len() > MOST_UNKNOWN { self.queue.pop_front() } else { None };
        oldest.filter(|oldest| self.known.remove(oldest))
    }

    /// Whether a machine is one of them.
    pub(crate) fn has(&self, mac: Mac) -> bool {
        self.known.contains(&mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let mac = |number: usize| {
            let [.., a, b, c] = number.to_be_bytes();
            Mac([2, 0, 0, a, b, c])
        };
        let mut proxied = Proxied::default();
        for number in 0..MOST_UNKNOWN {
            assert_eq!(proxied.add(mac(number)), None);
        }
        assert_eq!(proxied.add(mac(MOST_UNKNOWN)), Some(mac(0)));
        assert!(proxied.has(mac(1)) && proxied.has(mac(MOST_UNKNOWN)) && !proxied.has(mac(0)));
    }
}
