//! What the kernel half has to know of each link and each machine: the daemon's tables, which the kernel's are filled from.

use std::collections::HashMap;

use boot_common::Mac;
use boot_common::tables::{self, Answer, AnswerKey, Host, HostKey, LinkEntry};

use super::sets::Answers;
use crate::command::Command;

/// The entries of links and machines.
///
/// Every change of a machine's entry is queued as a command, so that who carries the commands out has the same entries.
/// Those of links are few, and passed on as a whole.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// By ifindex.
    links: HashMap<u32, LinkEntry>,
    hosts: Hosts,
}

impl Entries {
    /// A link's entry.
    pub(crate) fn link(&self, ifindex: u32) -> Option<&LinkEntry> {
        self.links.get(&ifindex)
    }

    /// Every link's entry, by ifindex.
    pub(crate) fn links(&self) -> impl Iterator<Item = (u32, &LinkEntry)> {
        self.links.iter().map(|(ifindex, entry)| (*ifindex, entry))
    }

    /// Writes a link's entry.
    pub(crate) fn put_link(&mut self, ifindex: u32, entry: LinkEntry) {
        self.links.insert(ifindex, entry);
    }

    /// Removes a link's entry; false if there is none.
    pub(crate) fn remove_link(&mut self, ifindex: u32) -> bool {
        self.links.remove(&ifindex).is_some()
    }

    /// A machine's entry. It has one: of several subnets that the machine is in, for the one where it was heard last.
    pub(crate) fn host(&self, mac: Mac) -> Option<&Host> {
        self.hosts.get(&HostKey::from(mac))
    }

    /// The same if it is for this address.
    pub(crate) fn host_with(&self, mac: Mac, address: [u8; 4]) -> Option<&Host> {
        self.host(mac).filter(|host| host.address == address)
    }

    /// Every machine's entry.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = (Mac, &Host)> {
        self.hosts.iter().map(|(key, host)| (key.mac, host))
    }

    /// Writes a machine's entry. One that is as it was costs the kernel nothing.
    pub(crate) fn put_host(&mut self, mac: Mac, host: Host, commands: &mut Vec<Command>) {
        let key = HostKey::from(mac);
        if self.hosts.insert(key, host) != Some(host) {
            commands.push(Command::PutHost(key, host));
        }
    }

    /// Removes a machine's entry. The kernel may have one that is not known here.
    pub(crate) fn remove_host(&mut self, mac: Mac, commands: &mut Vec<Command>) {
        let key = HostKey::from(mac);
        self.hosts.remove(&key);
        commands.push(Command::DeleteHost(key));
    }
}

/// All tables as the function that answers from them reads them.
pub(crate) struct Tables<'e> {
    pub(crate) entries: &'e Entries,
    pub(crate) answers: &'e Answers,
}

impl boot_common::tftp::Transfers for Tables<'_> {}

impl tables::Tables for Tables<'_> {
    fn link(&self, ifindex: u32) -> Option<&LinkEntry> {
        self.entries.link(ifindex)
    }

    fn host(&self, key: &HostKey) -> Option<&Host> {
        self.entries.hosts.get(key)
    }

    fn answer(&self, key: &AnswerKey) -> Option<&Answer> {
        self.answers.get(key)
    }
}

/// Machines side by side, with a small index: a hash table keeps up to half of its places free, and a place for a
/// [`Host`] has more than 100 bytes.
#[derive(Debug, Default)]
struct Hosts {
    index: HashMap<HostKey, u32>,
    hosts: Vec<Host>,
    /// Places whose machine is gone.
    free: Vec<u32>,
}

impl Hosts {
    /// The machine's entry.
    fn get(&self, key: &HostKey) -> Option<&Host> {
        self.hosts.get(usize::try_from(*self.index.get(key)?).ok()?)
    }

    /// Every machine.
    fn iter(&self) -> impl Iterator<Item = (&HostKey, &Host)> {
        self.index.keys().filter_map(|key| Some((key, self.get(key)?)))
    }

    /// Writes an entry, and gives the one that was there.
    fn insert(&mut self, key: HostKey, host: Host) -> Option<Host> {
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
    fn remove(&mut self, key: &HostKey) {
        self.free.extend(self.index.remove(key));
    }
}

#[cfg(test)]
mod tests {
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
        assert!(hosts.get(&a).is_none());
        hosts.remove(&a);
        assert_eq!(hosts.insert(c, host(3)), None);
        assert_eq!(hosts.insert(a, host(4)), None);
        assert_eq!(
            [a, b, c].map(|key| hosts.get(&key).copied()),
            [Some(host(4)), Some(host(2)), Some(host(3))]
        );
        assert_eq!(hosts.hosts.len(), 3);
    }

    #[test]
    fn who_carries_the_commands_out_has_the_same_entries() {
        let mut entries = Entries::default();
        let mut commands = Vec::new();
        let [a, b] = [1, 2].map(|last| Mac([2, 0, 0, 0, 0, last]));
        entries.put_host(a, host(1), &mut commands);
        entries.put_host(b, host(2), &mut commands);
        entries.put_host(a, host(1), &mut commands);
        assert_eq!(commands.len(), 2, "what is as it was is not written");
        entries.put_host(a, host(3), &mut commands);
        entries.remove_host(b, &mut commands);
        entries.remove_host(b, &mut commands);
        let mut kernel = HashMap::new();
        for command in commands {
            match command {
                Command::PutHost(key, host) => drop(kernel.insert(key.mac, host)),
                Command::DeleteHost(key) => drop(kernel.remove(&key.mac)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(kernel, entries.hosts().map(|(mac, host)| (mac, *host)).collect());
        assert_eq!(entries.host_with(a, [10, 0, 0, 3]), Some(&host(3)));
        assert_eq!((entries.host_with(a, [10, 0, 0, 1]), entries.host(b)), (None, None));
    }
}
