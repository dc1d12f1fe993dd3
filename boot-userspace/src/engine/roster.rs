//! Who has which address: what lets TFTP and HTTP name the machine behind a packet.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, PoisonError, RwLock};

use boot_common::Mac;

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

#[derive(Debug, Default)]
struct Lists {
    by_address: HashMap<Ipv4Addr, Client>,
    names: HashMap<Mac, Option<String>>,
}

impl Roster {
    /// The machine that has this address.
    #[must_use]
    pub fn client(&self, address: Ipv4Addr) -> Option<Client> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_address.get(&address).cloned()
    }

    /// True for a machine that is configured or has asked to boot.
    #[must_use]
    pub fn is_client(&self, mac: Mac) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).names.contains_key(&mac)
    }

    /// Takes down that a machine exists.
    pub fn know(&self, client: &Client) {
        let mut lists = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let name = lists.names.entry(client.mac).or_default();
        if client.name.is_some() {
            name.clone_from(&client.name);
        }
    }

    /// Takes down that a machine has an address.
    pub fn put(&self, address: Ipv4Addr, client: Client) {
        self.know(&client);
        self.0.write().unwrap_or_else(PoisonError::into_inner).by_address.insert(address, client);
    }
}
