//! Who has which address: what lets TFTP and HTTP name the machine behind a packet.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use boot_common::Mac;

/// How many machines that are in no configuration and have no address from here are remembered: the oldest ones leave.
pub const MOST_UNKNOWN: usize = 65_536;

/// A machine as logs name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its name in the configuration.
    pub name: Option<String>,
}

/// Addresses and the machines that have them. Clones share one list.
#[derive(Clone, Debug, Default)]
pub struct Roster(Arc<RwLock<Lists>>);

/// There may be a million machines: hence no allocation for each.
#[derive(Debug, Default)]
struct Lists {
    by_address: HashMap<Ipv4Addr, Mac>,
    machines: HashMap<Mac, Known>,
    /// Those that are known by other marks than their MAC: their number in the configuration.
    recognised: HashMap<Mac, u32>,
    /// The same by number.
    recognised_as: BTreeSet<(u32, Mac)>,
    /// All names, one behind the other. One that changes is added: that is as rare as a new card in a machine.
    names: String,
    /// Machines that were only met, in that order.
    met: VecDeque<Mac>,
    /// Addresses that another server gives, in the order in which they were heard of.
    heard: VecDeque<Ipv4Addr>,
}

/// What is known of a machine.
#[derive(Clone, Copy, Debug)]
struct Known {
    name: Span,
    /// The address it has had last; unspecified: none.
    address: Ipv4Addr,
}

impl Default for Known {
    fn default() -> Self {
        Self { name: Span::default(), address: Ipv4Addr::UNSPECIFIED }
    }
}

/// Where a name is in [`Lists::names`]; empty for a machine without one.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    length: u8,
}

impl Lists {
    fn name(&self, mac: Mac) -> Option<&str> {
        let Span { start, length } = self.machines.get(&mac)?.name;
        let start = usize::try_from(start).ok()?;
        self.names.get(start..start + usize::from(length)).filter(|name| !name.is_empty())
    }

    fn know(&mut self, client: &Client) {
        let known = self.name(client.mac);
        if client.name.is_some() && known != client.name.as_deref() {
            let name = self.add(client.name.as_deref().unwrap_or_default());
            self.machines.entry(client.mac).or_default().name = name;
        } else if known.is_none() {
            self.machines.entry(client.mac).or_default();
        }
    }

    fn place(&mut self, address: Ipv4Addr, mac: Mac) -> Option<Mac> {
        self.machines.entry(mac).or_default().address = address;
        self.by_address.insert(address, mac)
    }

    /// Names are host names, of 63 bytes at most; what is longer or too much is not kept.
    fn add(&mut self, name: &str) -> Span {
        match (u32::try_from(self.names.len()), u8::try_from(name.len())) {
            // Several cards of a machine have one name.
            (Ok(end), Ok(length)) if self.names.ends_with(name) => {
                Span { start: end - u32::from(length), length }
            }
            (Ok(start), Ok(length)) => {
                self.names.push_str(name);
                Span { start, length }
            }
            _ => Span::default(),
        }
    }
}

impl Roster {
    /// The machine that has this address.
    #[must_use]
    pub fn client(&self, address: Ipv4Addr) -> Option<Client> {
        let lists = self.read();
        let mac = *lists.by_address.get(&address)?;
        Some(Client { mac, name: lists.name(mac).map(str::to_owned) })
    }

    /// A machine with the name it has, if it is known.
    #[must_use]
    pub fn named(&self, mac: Mac) -> Client {
        Client { mac, name: self.read().name(mac).map(str::to_owned) }
    }

    /// True for a machine that is configured or has asked to boot.
    #[must_use]
    pub fn is_client(&self, mac: Mac) -> bool {
        self.read().machines.contains_key(&mac)
    }

    /// Takes down that a machine exists.
    pub fn know(&self, client: &Client) {
        self.write().know(client);
    }

    /// Takes down that a machine that may be unknown asked to boot.
    pub fn meet(&self, client: &Client) {
        let mut lists = self.write();
        let Lists { machines, met, .. } = &mut *lists;
        if !machines.contains_key(&client.mac) {
            met.push_back(client.mac);
            if met.len() > MOST_UNKNOWN
                && let Some(oldest) = met.pop_front()
            {
                machines.remove(&oldest);
            }
        }
        lists.know(client);
    }

    /// Takes down which address a machine has from another server.
    pub fn hear(&self, address: Ipv4Addr, client: &Client) {
        self.meet(client);
        let mut lists = self.write();
        if lists.place(address, client.mac).is_none() {
            let Lists { by_address, heard, .. } = &mut *lists;
            heard.push_back(address);
            if heard.len() > MOST_UNKNOWN
                && let Some(oldest) = heard.pop_front()
            {
                by_address.remove(&oldest);
            }
        }
    }

    /// Takes down as which of the configuration's machines one was recognised that has another MAC; none: as none any
    /// more.
    pub fn recognise(&self, client: &Client, machine: Option<u32>) {
        let mut lists = self.write();
        let before = match machine {
            Some(machine) => lists.recognised.insert(client.mac, machine),
            None => lists.recognised.remove(&client.mac),
        };
        if let Some(before) = before {
            lists.recognised_as.remove(&(before, client.mac));
        }
        lists.recognised_as.extend(machine.map(|machine| (machine, client.mac)));
        lists.machines.entry(client.mac).or_default().name = Span::default();
        lists.know(client);
    }

    /// Forgets a machine that has no address any more and is not in the configuration.
    pub fn forget(&self, mac: Mac) {
        let mut lists = self.write();
        lists.machines.remove(&mac);
        if let Some(machine) = lists.recognised.remove(&mac) {
            lists.recognised_as.remove(&(machine, mac));
        }
    }

    /// The number in the configuration of a machine that was recognised.
    #[must_use]
    pub fn recognised(&self, mac: Mac) -> Option<u32> {
        self.read().recognised.get(&mac).copied()
    }

    /// Takes down that a machine has an address.
    pub fn put(&self, address: Ipv4Addr, client: Client) {
        let mut lists = self.write();
        lists.know(&client);
        lists.place(address, client.mac);
    }

    /// The address that a machine of the configuration has, if it is known and `asker` is none of its addresses. The
    /// machine is the one with these MACs, and whoever was recognised as its `number`.
    #[must_use]
    pub fn has_another_address(&self, number: u32, macs: &[Mac], asker: IpAddr) -> Option<Ipv4Addr> {
        let lists = self.read();
        let is_recognised = |mac: Mac| lists.recognised.get(&mac) == Some(&number);
        let is_its = |mac: &Mac| macs.contains(mac) || is_recognised(*mac);
        let has = |address: &Ipv4Addr| lists.by_address.get(address).is_some_and(is_its);
        if matches!(asker, IpAddr::V4(asker) if has(&asker)) {
            return None;
        }
        let recognised = lists.recognised_as.range((number, Mac([0; 6]))..=(number, Mac([0xff; 6])));
        let cards = macs.iter().chain(recognised.map(|(_, mac)| mac));
        let mut addresses = cards.filter_map(|mac| Some(lists.machines.get(mac)?.address));
        // None, or one that somebody else has by now, says nothing.
        addresses.find(has)
    }

    fn read(&self) -> RwLockReadGuard<'_, Lists> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Lists> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn machines_keep_their_names_and_get_new_ones() {
        let roster = Roster::default();
        let client = |name: Option<&str>| Client { mac: MAC, name: name.map(str::to_owned) };
        assert!(!roster.is_client(MAC));
        roster.know(&client(None));
        assert!(roster.is_client(MAC));
        let address = Ipv4Addr::new(10, 1, 1, 33);
        assert_eq!(roster.client(address), None);
        roster.put(address, client(None));
        assert_eq!(roster.client(address), Some(client(None)));
        roster.know(&Client { mac: Mac([2, 0, 0, 0, 0, 2]), name: Some("node2".to_owned()) });
        roster.know(&client(Some("node1")));
        assert_eq!(roster.client(address), Some(client(Some("node1"))));
        roster.put(address, client(None));
        assert_eq!(
            roster.client(address),
            Some(client(Some("node1"))),
            "what has no name says nothing of it"
        );
        roster.know(&client(Some("rack1-node1")));
        assert_eq!(roster.client(address), Some(client(Some("rack1-node1"))));
        roster.recognise(&client(Some("node7")), Some(7));
        assert_eq!((roster.client(address), roster.recognised(MAC)), (Some(client(Some("node7"))), Some(7)));
        roster.recognise(&client(None), None);
        assert_eq!((roster.client(address), roster.recognised(MAC)), (Some(client(None)), None));
    }

    #[test]
    fn a_machine_is_told_from_who_asks_in_its_name() {
        let roster = Roster::default();
        let [card, other_card, recognised] = [1, 2, 3].map(|last| Mac([2, 0, 0, 0, 0, last]));
        let client = |mac| Client { mac, name: None };
        let [home, other_home, third, elsewhere] = [1, 2, 3, 9].map(|last| Ipv4Addr::new(10, 1, 1, last));
        let another = |asker: Ipv4Addr| roster.has_another_address(7, &[card, other_card], asker.into());
        assert_eq!(another(elsewhere), None, "it has no address yet");
        roster.put(home, client(card));
        assert_eq!((another(home), another(elsewhere)), (None, Some(home)));
        let ipv6: IpAddr = "fe80::1".parse().unwrap();
        assert_eq!(roster.has_another_address(7, &[card], ipv6), Some(home), "by another way");
        // Each card and each network has an address of its own.
        roster.put(other_home, client(card));
        roster.put(third, client(other_card));
        assert_eq!([home, other_home, third].map(another), [None; 3]);
        assert!(another(elsewhere).is_some());
        // By another mark than its MAC.
        roster.put(elsewhere, client(recognised));
        assert!(another(elsewhere).is_some());
        roster.recognise(&client(recognised), Some(7));
        assert_eq!(another(elsewhere), None);
        assert_eq!(roster.has_another_address(7, &[], home.into()), Some(elsewhere), "by its UUID only");
        roster.recognise(&client(recognised), None);
        assert_eq!(roster.has_another_address(7, &[], home.into()), None);
        // An address that another machine has got is not its any more.
        let unknown = Mac([2, 0, 0, 0, 0, 9]);
        for address in [home, other_home, third] {
            roster.put(address, client(unknown));
        }
        assert_eq!([home, elsewhere].map(another), [None; 2], "nothing is known");
    }

    #[test]
    fn strangers_leave_in_the_order_they_came_and_known_machines_stay() {
        let roster = Roster::default();
        let known = Client { mac: MAC, name: None };
        let home = Ipv4Addr::new(10, 1, 1, 33);
        roster.know(&known);
        roster.put(home, known.clone());
        let unknown = |number: u32| {
            let [a, b, c, d] = number.to_be_bytes();
            (Ipv4Addr::new(10, 2 + b, c, d), Client { mac: Mac([6, 0, a, b, c, d]), name: None })
        };
        let most = u32::try_from(MOST_UNKNOWN).unwrap();
        roster.meet(&known);
        for number in 0..=most {
            let (address, client) = unknown(number);
            roster.hear(address, &client);
            roster.hear(address, &client);
        }
        let is_there = |number: u32| {
            let (address, client) = unknown(number);
            (roster.client(address).is_some(), roster.is_client(client.mac))
        };
        assert_eq!([0, 1, most].map(is_there), [(false, false), (true, true), (true, true)]);
        assert_eq!(roster.client(home), Some(known));
        assert!(roster.is_client(MAC));
    }
}
