//! What the configuration says, as the engine asks it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use boot_common::Mac;
use boot_common::class::{Class, Firmware};
use ipnet::Ipv4Net;

use crate::config::{Config, DhcpRole, Machine, Subnet, Unknown};
use crate::engine::boot::{BootFile, boot_file};
use crate::engine::roster::Client;

/// An interface as the engine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The kernel's number for it.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its own Ethernet address.
    pub mac: Mac,
    /// Its IPv4 addresses; the first is the one that answers come from unless a subnet says otherwise.
    pub addresses: Vec<Ipv4Net>,
    /// Our role there.
    pub role: DhcpRole,
    /// Where its machines find our HTTP.
    pub http: SocketAddrV4,
}

/// Configuration, interfaces and loaders.
pub struct Policy {
    config: Config,
    ports: Vec<Port>,
    machines: HashMap<Mac, usize>,
    loaders: HashMap<Firmware, Result<String, String>>,
}

impl Policy {
    /// `loader` names the boot file for a firmware kind, or says what provides it.
    pub fn new(
        config: Config,
        ports: Vec<Port>,
        loader: impl Fn(Firmware) -> Result<String, String>,
    ) -> Self {
        let machines = config
            .machines
            .iter()
            .enumerate()
            .flat_map(|(index, machine)| machine.macs.iter().map(move |mac| (*mac, index)))
            .collect();
        let loaders = Firmware::ALL.into_iter().map(|firmware| (firmware, loader(firmware))).collect();
        Self { config, ports, machines, loaders }
    }

    /// The interfaces.
    #[must_use]
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// An interface and its position.
    #[must_use]
    pub fn port(&self, ifindex: u32) -> Option<(usize, &Port)> {
        self.ports.iter().enumerate().find(|(_, port)| port.ifindex == ifindex)
    }

    /// The configured subnets.
    #[must_use]
    pub fn subnets(&self) -> &[Subnet] {
        &self.config.subnets
    }

    /// The subnet with this address in it.
    #[must_use]
    pub fn subnet_of(&self, address: Ipv4Addr) -> Option<usize> {
        self.config.subnets.iter().position(|subnet| subnet.cidr.contains(&address))
    }

    /// The subnets directly on an interface, in the order of its addresses, each with our address in it.
    pub fn direct<'a>(&'a self, port: &'a Port) -> impl Iterator<Item = (usize, Ipv4Addr)> + 'a {
        port.addresses.iter().filter_map(|net| Some((self.subnet_of(net.addr())?, net.addr())))
    }

    /// The machine in the configuration.
    #[must_use]
    pub fn machine(&self, mac: Mac) -> Option<&Machine> {
        self.machines.get(&mac).and_then(|index| self.config.machines.get(*index))
    }

    /// Every configured machine.
    #[must_use]
    pub fn machines(&self) -> &[Machine] {
        &self.config.machines
    }

    /// As logs name it.
    #[must_use]
    pub fn client(&self, mac: Mac) -> Client {
        Client { mac, name: self.machine(mac).and_then(|machine| machine.name.clone()) }
    }

    /// Whether a machine gets an answer at all.
    #[must_use]
    pub fn serves(&self, mac: Mac) -> bool {
        self.config.default.unknown != Unknown::Ignore || self.machine(mac).is_some()
    }

    /// Where a class of clients on an interface continues.
    ///
    /// # Errors
    /// Which loader is missing, and what provides it.
    pub fn boot_file(&self, class: Class, http: SocketAddrV4) -> Result<Option<BootFile>, String> {
        let loader = |firmware| {
            self.loaders
                .get(&firmware)
                .cloned()
                .unwrap_or_else(|| Err(format!("no loader for {}", Firmware::name(firmware))))
        };
        boot_file(class, http, &loader)
    }
}
