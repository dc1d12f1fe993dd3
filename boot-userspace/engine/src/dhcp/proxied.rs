//! Unknown machines that have an entry because a proxy has answered them.

use std::collections::{HashSet, VecDeque};

use boot_common::Mac;

use crate::machines::MOST_UNKNOWN;

/// The machines in the order in which they got it.
#[derive(Debug, Default)]
pub(crate) struct Proxied(VecDeque<Mac>);

impl Proxied {
    /// Adds a machine that got an entry. Gives the one that has to make room for it.
    pub(super) fn add(&mut self, mac: Mac) -> Option<Mac> {
        self.0.push_back(mac);
        if self.0.len() > MOST_UNKNOWN { self.0.pop_front() } else { None }
    }

    /// All of them.
    pub(crate) fn macs(&self) -> HashSet<Mac> {
        self.0.iter().copied().collect()
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
        assert_eq!(proxied.macs().len(), MOST_UNKNOWN);
        assert!(!proxied.macs().contains(&mac(0)));
    }
}
