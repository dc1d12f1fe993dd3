//! What the kernel half has to know of each link and each machine: the daemon's tables, which the kernel's are filled from.

use boot_common::Mac;
use boot_common::tables::{self, Answer, AnswerKey, Host, HostKey, LinkEntry};

use super::sets::Answers;
use crate::command::Command;
use crate::maps::HashMap;

/// The entries of links and machines.
///
/// Every change of a machine's entry is queued as a command, so that who carries the commands out answers the same.
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

    /// Writes a machine's entry. One that answers as it did costs the kernel nothing.
    pub(crate) fn put_host(&mut self, mac: Mac, host: Host, commands: &mut Vec<Command>) {
        // Up to when the lease of a reserved address is stored is nothing that the kernel half asks.
        let answers_as = |host: Host| Host { durable_until: host.promised_until(), ..host };
        let key = HostKey::from(mac);
        if self.hosts.insert(key, host).map(answers_as) != Some(answers_as(host)) {
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
mod tests;
