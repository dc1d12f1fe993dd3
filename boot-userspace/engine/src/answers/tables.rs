//! The daemon's tables, which the kernel's are filled from.

use std::collections::HashMap;

use boot_common::tables::{self, Answer, AnswerKey, Host, HostKey, LinkEntry};

/// Interfaces, machines and prepared answers.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// By ifindex.
    pub(crate) links: HashMap<u32, LinkEntry>,
    /// By MAC.
    pub(crate) hosts: Hosts,
    /// By set, request list, class and message.
    pub(crate) answers: HashMap<AnswerKey, Answer>,
}

impl boot_common::tftp::Transfers for Tables {}

impl tables::Tables for Tables {
    fn link(&self, ifindex: u32) -> Option<&LinkEntry> {
        self.links.get(&ifindex)
    }

    fn host(&self, key: &HostKey) -> Option<&Host> {
        self.hosts.get(key)
    }

    fn answer(&self, key: &AnswerKey) -> Option<&Answer> {
        self.answers.get(key)
    }
}

/// Machines side by side, with a small index: a hash table keeps up to half of its places free, and a place for a
/// [`Host`] has more than 100 bytes.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    index: HashMap<HostKey, u32>,
    hosts: Vec<Host>,
    /// Places whose machine is gone.
    free: Vec<u32>,
}

impl Hosts {
    /// The machine's entry.
    pub(crate) fn get(&self, key: &HostKey) -> Option<&Host> {
        self.hosts.get(usize::try_from(*self.index.get(key)?).ok()?)
    }

    /// Every machine.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HostKey, &Host)> {
        self.index.keys().filter_map(|key| Some((key, self.get(key)?)))
    }

    /// Whether the machine has an entry.
    pub(crate) fn contains_key(&self, key: &HostKey) -> bool {
        self.index.contains_key(key)
    }

    /// Writes an entry, and gives the one that was there.
    pub(crate) fn insert(&mut self, key: HostKey, host: Host) -> Option<Host> {
        if let Some(place) = self.index.get(&key)
            && let Some(old) = usize::try_from(*place).ok().and_then(|place| self.hosts.get_mut(place))
        {
            return Some(std::mem::replace(old, host));
        }
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(old) = usize::try_from(place).ok().and_then(|place| self.hosts.get_mut(place)) {
                    *old = host;
                }
                place
            }
            None => {
                // More machines than this can count fit no memory.
                let Ok(place) = u32::try_from(self.hosts.len()) else { return None };
                self.hosts.push(host);
                place
            }
        };
        self.index.insert(key, place);
        None
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, key: &HostKey) {
        self.free.extend(self.index.remove(key));
    }
}

#[cfg(test)]
mod tests {
    use boot_common::Mac;
    use zerocopy::FromZeros as _;

    use super::*;

    fn host(last: u8) -> Host {
        Host { address: [10, 0, 0, last], ..Host::new_zeroed() }
    }

    #[test]
    fn places_are_used_again_and_each_machine_finds_its_own() {
        let [a, b, c] = [1, 2, 3].map(|last| HostKey::from(Mac([2, 0, 0, 0, 0, last])));
        let mut hosts = Hosts::default();
        assert_eq!(hosts.insert(a, host(1)), None);
        assert_eq!(hosts.insert(b, host(2)), None);
        assert_eq!(hosts.insert(a, host(9)), Some(host(1)));
        hosts.remove(&a);
        assert!(!hosts.contains_key(&a) && hosts.get(&a).is_none());
        hosts.remove(&a);
        assert_eq!(hosts.insert(c, host(3)), None);
        assert_eq!(hosts.insert(a, host(4)), None);
        assert_eq!(
            [a, b, c].map(|key| hosts.get(&key).copied()),
            [Some(host(4)), Some(host(2)), Some(host(3))]
        );
        assert_eq!(hosts.hosts.len(), 3);
    }
}
