//! What is remembered of a card (a MAC) beside its bindings.

use std::net::Ipv4Addr;

use boot_common::Mac;

use crate::maps::HashMap;

/// The longest host name that is kept.
const LONGEST_NAME: usize = 253;

/// Claims, lost addresses and names of cards.
#[derive(Debug, Default)]
pub(crate) struct Cards {
    /// Until which second cards that were recognised by another identity than their MAC have what is reserved for their
    /// machine, by an offer or a lease; and other cards, by a lease from before a restart. Of those behind relays the tables
    /// have no entry then.
    claims: HashMap<Mac, u64>,
    /// Addresses that cards had from here, by subnet, and cannot have any more: they do not fit the configuration or the
    /// switch port, or were declined. Who asks for it again is refused.
    lost: HashMap<(Mac, usize), Ipv4Addr>,
    /// The names of machines that have none in the configuration: as they said, or as came with an imported lease.
    names: HashMap<Mac, Box<str>>,
}

impl Cards {
    /// A card has what is reserved for its machine until that second, or for longer if it had that already.
    pub(crate) fn claim(&mut self, mac: Mac, until: u64) {
        let claim = self.claims.entry(mac).or_default();
        *claim = until.max(*claim);
    }

    /// Until which second a card has what is reserved for its machine.
    pub(crate) fn claimed(&self, mac: Mac) -> Option<u64> {
        self.claims.get(&mac).copied()
    }

    /// What [`claimed`](Self::claimed) gave before, or nothing.
    pub(crate) fn set_claim(&mut self, mac: Mac, until: Option<u64>) {
        match until {
            Some(until) => drop(self.claims.insert(mac, until)),
            None => drop(self.claims.remove(&mac)),
        }
    }

    /// A card cannot have an address any more.
    pub(crate) fn lose(&mut self, mac: Mac, subnet: usize, address: Ipv4Addr) {
        self.lost.insert((mac, subnet), address);
    }

    /// A card has an address in a subnet: what it lost there is of no interest any more.
    pub(crate) fn find(&mut self, mac: Mac, subnet: usize) {
        self.lost.remove(&(mac, subnet));
    }

    /// Whether a card had this address and cannot have it any more.
    pub(crate) fn has_lost(&self, mac: Mac, subnet: usize, address: Ipv4Addr) -> bool {
        self.lost.get(&(mac, subnet)) == Some(&address)
    }

    /// Forgets lost addresses (with their subnet) that may be had again.
    pub(crate) fn retain_lost(&mut self, stays: impl Fn(usize, Ipv4Addr) -> bool) {
        self.lost.retain(|(_, subnet), address| stays(*subnet, *address));
    }

    /// Gives subnets other indices, or none.
    pub(crate) fn renumber(&mut self, new: impl Fn(usize) -> Option<usize>) {
        let lost = std::mem::take(&mut self.lost).into_iter();
        self.lost = lost.filter_map(|((mac, old), address)| Some(((mac, new(old)?), address))).collect();
    }

    /// Keeps a machine's name, if it can be a host name.
    pub(crate) fn keep_name(&mut self, mac: Mac, name: &str) {
        if is_host_name(name) && self.name(mac) != Some(name) {
            self.names.insert(mac, name.into());
        }
    }

    /// The name that was kept.
    pub(crate) fn name(&self, mac: Mac) -> Option<&str> {
        self.names.get(&mac).map(Box::as_ref)
    }

    /// Forgets the name of a card that has no address any more.
    pub(crate) fn forget_name(&mut self, mac: Mac) {
        self.names.remove(&mac);
    }
}

/// Whether it can be shown and sent as a host name.
pub(crate) fn is_host_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn a_claim_only_grows_until_it_is_set_back() {
        let mut cards = Cards::default();
        cards.claim(MAC, 100);
        cards.claim(MAC, 50);
        assert_eq!(cards.claimed(MAC), Some(100));
        let before = cards.claimed(MAC);
        cards.claim(MAC, 200);
        cards.set_claim(MAC, before);
        assert_eq!(cards.claimed(MAC), Some(100));
        cards.set_claim(MAC, None);
        assert_eq!(cards.claimed(MAC), None);
    }

    #[test]
    fn a_lost_address_follows_its_subnet_and_is_found_again() {
        let mut cards = Cards::default();
        let [a, b] = [1, 2].map(|last| Ipv4Addr::new(10, 0, 0, last));
        cards.lose(MAC, 0, a);
        cards.lose(MAC, 1, b);
        assert!(cards.has_lost(MAC, 0, a) && !cards.has_lost(MAC, 0, b));
        // The first subnet is gone, and the second one is the first.
        cards.renumber(|old| old.checked_sub(1));
        assert!(cards.has_lost(MAC, 0, b) && !cards.has_lost(MAC, 1, b) && !cards.has_lost(MAC, 0, a));
        cards.retain_lost(|_, address| address == b);
        assert!(cards.has_lost(MAC, 0, b));
        cards.find(MAC, 0);
        assert!(!cards.has_lost(MAC, 0, b));
    }

    #[test]
    fn only_host_names_are_kept() {
        let mut cards = Cards::default();
        for name in ["", "a b", "a\nb", "${x}", &"a".repeat(254)] {
            cards.keep_name(MAC, name);
            assert_eq!(cards.name(MAC), None, "{name:?}");
        }
        cards.keep_name(MAC, "node-1.rack_2");
        assert_eq!(cards.name(MAC), Some("node-1.rack_2"));
        cards.forget_name(MAC);
        assert_eq!(cards.name(MAC), None);
    }
}
