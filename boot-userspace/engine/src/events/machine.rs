//! Which machine and which interface an event is about.

use std::sync::Arc;

use boot_common::Mac;

use crate::config;
use crate::machines::Client;

/// A machine as events name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its name in the configuration.
    pub name: Option<Arc<str>>,
}

impl From<Mac> for Machine {
    fn from(mac: Mac) -> Self {
        Self { mac, name: None }
    }
}

impl From<Client> for Machine {
    fn from(client: Client) -> Self {
        Self { mac: client.mac, name: client.name.map(Arc::from) }
    }
}

/// A machine of the registry that is known by something else than a MAC.
#[derive(Clone, Debug)]
pub struct WithoutMac {
    /// Its number in the registry.
    pub record: u64,
    /// How people call it: by its name, its UUID or its number.
    pub called: Box<str>,
    /// What it is served as.
    pub machine: Arc<config::Machine>,
}

/// An interface as events name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkName {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: Arc<str>,
}
