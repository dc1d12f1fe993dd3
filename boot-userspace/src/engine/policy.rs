//! What the configuration says, as the engine asks it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use boot_common::Mac;
use boot_common::class::{Class, Firmware, Stage};
use ipnet::Ipv4Net;

use crate::config::{Config, CustomOption, DhcpRole, Machine, Profile, Subnet, Unknown};
use crate::engine::boot::{BootFile, boot_file, named};
use crate::engine::marks::{ByMark, Marks};
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

/// What makes a machine's answers different from its neighbours'. Equal where nothing does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Differences {
    /// Index of the machine, if it has options or a boot file of its own.
    machine: Option<u32>,
    /// Its profile, if that has.
    profile: Option<String>,
    /// The first half of its MAC, if there is a rule for that maker.
    oui: Option<[u8; 3]>,
}

/// Configuration, interfaces and loaders.
pub struct Policy {
    config: Arc<Config>,
    ports: Vec<Port>,
    /// By MAC, from the configuration and as recognised by other marks.
    machines: HashMap<Mac, u32>,
    by_mark: ByMark,
    shares_addresses: bool,
    loaders: HashMap<Firmware, Result<String, String>>,
}

impl Policy {
    /// `loader` names the boot file for a firmware kind, or says what provides it.
    pub fn new(
        config: impl Into<Arc<Config>>,
        ports: Vec<Port>,
        loader: impl Fn(Firmware) -> Result<String, String>,
    ) -> Self {
        let config = config.into();
        let indices = (0..).zip(&config.machines);
        let machines = indices.flat_map(|(index, machine)| machine.macs.iter().map(move |mac| (*mac, index)));
        let machines = machines.collect();
        let shares_addresses =
            config.machines.iter().any(|machine| machine.ip.is_some() && machine.macs.len() != 1);
        let loaders = Firmware::ALL.into_iter().map(|firmware| (firmware, loader(firmware))).collect();
        let by_mark = ByMark::new(&config.machines);
        Self { config, ports, machines, by_mark, shares_addresses, loaders }
    }

    /// Gives an interface one more address.
    #[cfg(test)]
    pub(super) fn add_address(&mut self, ifindex: u32, address: Ipv4Addr) {
        let ports = self.ports.iter_mut().filter(|port| port.ifindex == ifindex);
        ports.for_each(|port| port.addresses.extend(Ipv4Net::new(address, 16)));
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
        self.machines.get(&mac).and_then(|index| self.at(*index))
    }

    fn at(&self, index: u32) -> Option<&Machine> {
        self.config.machines.get(usize::try_from(index).ok()?)
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self, mac: Mac) -> Option<&str> {
        self.machine(mac)?.name.as_deref()
    }

    /// Whether several Ethernet addresses may have the same reserved address.
    #[must_use]
    pub fn shares_addresses(&self) -> bool {
        self.shares_addresses
    }

    /// Every configured machine.
    #[must_use]
    pub fn machines(&self) -> &[Machine] {
        &self.config.machines
    }

    /// Recognises a machine by another mark than its MAC, and remembers the MAC. True when that is news.
    pub fn recognise(&mut self, mac: Mac, marks: Marks<'_>) -> bool {
        if self.machines.contains_key(&mac) {
            return false;
        }
        self.by_mark.find(marks).is_some_and(|index| self.machines.insert(mac, index).is_none())
    }

    /// Remembers that a MAC was a machine's, from its stored lease: of a machine that is known by other marks, and
    /// whose operating system does not show them.
    pub fn remember(&mut self, mac: Mac, address: Ipv4Addr) {
        if let Some(index) = self.by_mark.by_address(address) {
            self.machines.entry(mac).or_insert(index);
        }
    }

    /// As logs name it.
    #[must_use]
    pub fn client(&self, mac: Mac) -> Client {
        Client { mac, name: self.name(mac).map(str::to_owned) }
    }

    /// Whether a machine gets an answer at all.
    #[must_use]
    pub fn serves(&self, mac: Mac) -> bool {
        self.config.default.unknown != Unknown::Ignore || self.machine(mac).is_some()
    }

    /// Whether the daemon wants to see a machine before the kernel answers it.
    #[must_use]
    pub fn strangers_ask(&self) -> bool {
        self.config.default.unknown == Unknown::Ignore
            || self.config.boot_files.iter().any(|rule| rule.oui.is_some())
            || self.config.machines.iter().any(|machine| machine.macs.is_empty())
    }

    /// What makes a machine's answers different.
    #[must_use]
    pub fn differences(&self, mac: Mac) -> Differences {
        let index = self.machines.get(&mac).copied();
        let machine = index.and_then(|index| self.at(index));
        let own = machine.is_some_and(|machine| !machine.options.is_empty() || machine.boot_file.is_some());
        let [a, b, c, ..] = mac.0;
        let oui = [a, b, c];
        Differences {
            machine: index.filter(|_| own),
            profile: self
                .profile(machine)
                .filter(|(_, profile)| !profile.options.is_empty() || profile.boot_file.is_some())
                .map(|(name, _)| name.clone()),
            oui: self.config.boot_files.iter().any(|rule| rule.oui == Some(oui)).then_some(oui),
        }
    }

    fn profile(&self, machine: Option<&Machine>) -> Option<(&String, &Profile)> {
        let name =
            machine.and_then(|machine| machine.profile.as_ref()).or(self.config.default.profile.as_ref())?;
        self.config.profiles.get_key_value(name)
    }

    /// Options beyond the subnet's own keys, the first of a code wins: machine, profile, subnet.
    #[must_use]
    pub fn options(&self, differences: &Differences, subnet: Option<&Subnet>) -> Vec<CustomOption> {
        let machine = differences.machine.and_then(|index| self.at(index));
        let profile = differences.profile.as_ref().and_then(|name| self.config.profiles.get(name));
        let machine = machine.into_iter().flat_map(|machine| &machine.options);
        let profile = profile.into_iter().flat_map(|profile| &profile.options);
        let subnet = subnet.into_iter().flat_map(|subnet| &subnet.options);
        machine.chain(profile).chain(subnet).cloned().collect()
    }

    /// Where a class of clients on an interface continues.
    ///
    /// # Errors
    /// Which loader is missing, and what provides it.
    pub fn boot_file(
        &self,
        class: Class,
        http: SocketAddrV4,
        differences: &Differences,
    ) -> Result<Option<BootFile>, String> {
        if class.stage == Stage::Rom
            && let Some(name) = self.ruled(class.firmware, differences)
        {
            return Ok(Some(named(class, http, name)));
        }
        let loader = |firmware| {
            self.loaders
                .get(&firmware)
                .cloned()
                .unwrap_or_else(|| Err(format!("no loader for {}", Firmware::name(firmware))))
        };
        boot_file(class, http, &loader)
    }

    /// The boot file that the configuration names: for the machine, its profile, or by the first rule that fits.
    fn ruled(&self, firmware: Firmware, differences: &Differences) -> Option<&str> {
        let machine = differences.machine.and_then(|index| self.at(index));
        let profile = differences.profile.as_ref().and_then(|name| self.config.profiles.get(name));
        let own = machine.and_then(|machine| machine.boot_file.as_deref());
        own.or_else(|| profile.and_then(|profile| profile.boot_file.as_deref())).or_else(|| {
            let fits = |arch: &[u16]| {
                arch.is_empty() || arch.iter().any(|code| Firmware::from_arch(*code) == firmware)
            };
            let mut rules = self.config.boot_files.iter();
            let rule =
                rules.find(|rule| fits(&rule.arch) && (rule.oui.is_none() || rule.oui == differences.oui));
            rule.map(|rule| rule.file.as_str())
        })
    }
}
