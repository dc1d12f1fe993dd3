//! What the configuration says, as the engine asks it.

mod own;
pub(crate) mod requester;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use boot_common::Mac;
use boot_common::class::{Class, Firmware, Stage};
use ipnet::Ipv4Net;

use crate::boot::choice::Booting;
use crate::boot::{BootFile, boot_file, is_url, named};
use crate::config::{Arch, Config, CustomOption, DhcpRole, Group, Machine, Subnet, Unknown};
use crate::lifecycle::State;
use crate::machines::{Client, Known, MachineId, Machines};
use own::{BOOT_FILE, Configured, Own, SERVER_NAME, differs, disk, of_code};

/// An interface as the engine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedLink {
    /// The kernel's number for it.
    pub ifindex: u32,
    /// Its name.
    pub name: Arc<str>,
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
    /// The machine, if it has options or a boot file of its own.
    machine: Option<MachineId>,
    /// Its profile, or that of `[default]`, if that has.
    profile: Option<String>,
    /// The profile is the machine's own, so that no group's stands before it, and there are such groups.
    is_own_profile: bool,
    /// The positions of the groups that it is in, of those that make a difference and are of machines.
    groups: Vec<usize>,
    /// The first half of its MAC, if there is a rule for that maker.
    oui: Option<[u8; 3]>,
}

/// The boot file for each kind of firmware, or what provides it.
pub type Loaders = HashMap<Firmware, Result<String, String>>;

/// The boot file for each kind of firmware, by asking for each.
pub fn loaders(loader: impl Fn(Firmware) -> Result<String, String>) -> Loaders {
    Firmware::ALL.into_iter().map(|firmware| (firmware, loader(firmware))).collect()
}

/// Configuration, interfaces and loaders.
pub struct Policy {
    config: Arc<Config>,
    links: Vec<ServedLink>,
    machines: Machines,
    loaders: Loaders,
}

impl Policy {
    /// `machines` are those of the configuration. `loader` names the boot file for a firmware kind, or says what provides it.
    pub fn new(
        config: impl Into<Arc<Config>>,
        machines: Machines,
        links: Vec<ServedLink>,
        loader: impl Fn(Firmware) -> Result<String, String>,
    ) -> Self {
        Self { config: config.into(), machines, links, loaders: loaders(loader) }
    }

    /// What the configuration says.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Puts another configuration in the place of the one that there is, and gives what was there.
    pub(super) fn replace(&mut self, config: Arc<Config>, loaders: Loaders) -> (Arc<Config>, Loaders) {
        (std::mem::replace(&mut self.config, config), std::mem::replace(&mut self.loaders, loaders))
    }

    /// The boot files by kind of firmware.
    pub(super) fn loaders(&self) -> &Loaders {
        &self.loaders
    }

    /// Gives an interface one more address.
    #[cfg(test)]
    pub(super) fn add_address(&mut self, ifindex: u32, address: Ipv4Addr) {
        let links = self.links.iter_mut().filter(|link| link.ifindex == ifindex);
        links.for_each(|link| link.addresses.extend(Ipv4Net::new(address, 16)));
    }

    /// The interfaces.
    #[must_use]
    pub fn links(&self) -> &[ServedLink] {
        &self.links
    }

    /// Puts an interface in the place of what had its name so far, and gives the position and what was there.
    pub(super) fn replace_link(&mut self, link: ServedLink) -> Option<(usize, ServedLink)> {
        let (position, old) = self.links.iter_mut().enumerate().find(|(_, other)| other.name == link.name)?;
        Some((position, std::mem::replace(old, link)))
    }

    /// An interface and its position.
    #[must_use]
    pub fn link(&self, ifindex: u32) -> Option<(usize, &ServedLink)> {
        self.links.iter().enumerate().find(|(_, link)| link.ifindex == ifindex)
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
    pub fn direct<'a>(&'a self, link: &'a ServedLink) -> impl Iterator<Item = (usize, Ipv4Addr)> + 'a {
        link.addresses.iter().filter_map(|net| Some((self.subnet_of(net.addr())?, net.addr())))
    }

    /// Our address on an interface: the first one in a subnet, else the first one.
    #[must_use]
    pub fn own_address(&self, link: &ServedLink) -> Option<Ipv4Addr> {
        let direct = self.direct(link).map(|(_, address)| address).next();
        direct.or_else(|| link.addresses.first().map(Ipv4Net::addr))
    }

    /// Whether one interface has addresses in both subnets.
    #[must_use]
    pub fn are_on_one_wire(&self, one: usize, other: usize) -> bool {
        let has = |link: &ServedLink, subnet| self.direct(link).any(|(direct, _)| direct == subnet);
        self.links.iter().any(|link| has(link, one) && has(link, other))
    }

    /// The machines.
    #[must_use]
    pub fn machines(&self) -> &Machines {
        &self.machines
    }

    /// The machine that a MAC is one of.
    #[must_use]
    pub fn machine(&self, mac: Mac) -> Option<Arc<Machine>> {
        self.machines.by_mac(mac).map(|known| known.machine)
    }

    /// The address that is reserved for it.
    #[must_use]
    pub fn reserved(&self, mac: Mac) -> Option<Ipv4Addr> {
        self.machine(mac)?.ip
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self, mac: Mac) -> Option<String> {
        self.machines.client(mac).name
    }

    /// Whether any group is chosen by the switch port.
    #[must_use]
    pub fn has_groups_by_port(&self) -> bool {
        self.config.groups.iter().any(|group| group.fits.is_of_port())
    }

    /// Whether a group makes a difference to DHCP's answers.
    fn changes_answers(&self, group: &Group) -> bool {
        let has = |name: &String| self.config.profiles.get(name).is_some_and(differs);
        let default = self.config.default.profile.as_ref();
        !group.options.is_empty()
            || group.profile.as_ref().is_some_and(|name| has(name) || default.is_some_and(has))
    }

    /// As logs name it.
    #[must_use]
    pub fn client(&self, mac: Mac) -> Client {
        self.machines.client(mac)
    }

    /// Whether the daemon wants to see a machine before the kernel answers it.
    #[must_use]
    pub fn unknown_ask(&self) -> bool {
        self.config.default.unknown == Unknown::Ignore
            || self.config.boot_files.iter().any(|rule| rule.oui.is_some())
            || self.config.groups.iter().any(|group| {
                (!group.fits.mac.is_empty() || group.fits.is_of_port()) && self.changes_answers(group)
            })
            || self.machines.has_without_mac()
    }

    /// What makes a machine's answers different.
    #[must_use]
    pub fn differences(&self, mac: Mac) -> Differences {
        self.differences_of(self.machines.by_mac(mac).as_ref(), mac)
    }

    /// The same for a machine that was found otherwise than by this MAC.
    #[must_use]
    pub fn differences_of(&self, known: Option<&Known>, mac: Mac) -> Differences {
        let machine = known.map(|known| &*known.machine);
        let own = |known: &&Known| !known.machine.options.is_empty() || known.machine.boot_file.is_some();
        let [a, b, c, ..] = mac.0;
        let oui = [a, b, c];
        let booting = |port| Booting { machine, mac: Some(mac), switch_port: port, ..Booting::default() };
        let port = self.has_groups_by_port().then(|| self.machines.seen_port(mac)).flatten();
        let booting = booting(port.as_ref());
        let makes = |(_, group): &(usize, &Group)| {
            group.fits.is_of_machine()
                && group.fits.fits_machine(&booting.described())
                && self.changes_answers(group)
        };
        let staged = self.staged(known);
        let life = known.and_then(|known| known.life.as_ref());
        let is_unserved = life.is_some_and(|life| life.is_unserved);
        Differences {
            machine: known.filter(own).map(|known| known.id),
            profile: staged
                .or_else(|| self.without_groups(machine).filter(|_| !is_unserved))
                .filter(|name| self.config.profiles.get(*name).is_some_and(differs))
                .cloned(),
            is_own_profile: (is_unserved
                || staged.is_some()
                || machine.is_some_and(|machine| machine.profile.is_some()))
                && self
                    .config
                    .groups
                    .iter()
                    .any(|group| group.profile.is_some() && self.changes_answers(group)),
            groups: self
                .config
                .groups
                .iter()
                .enumerate()
                .filter(makes)
                .map(|(position, _)| position)
                .collect(),
            oui: self.config.boot_files.iter().any(|rule| rule.oui == Some(oui)).then_some(oui),
        }
    }

    /// The profile that a machine boots in its state instead of its own.
    fn staged(&self, known: Option<&Known>) -> Option<&String> {
        let settings = &self.config.lifecycle;
        let Known { machine, life, .. } = known?;
        let life = life.as_ref().filter(|life| !life.is_unserved)?;
        let is_unwritten = machine.image.is_some() && !life.is_written;
        match life.state {
            State::Discovered => settings.discovery.as_ref(),
            State::Allocated | State::Installing if is_unwritten => settings.agent.as_ref(),
            State::Accepted | State::Released if settings.wipe => settings.agent.as_ref(),
            _ => None,
        }
    }

    /// The profile of a machine that is in no group.
    fn without_groups<'a>(&'a self, machine: Option<&'a Machine>) -> Option<&'a String> {
        machine.and_then(|machine| machine.profile.as_ref()).or(self.config.default.profile.as_ref())
    }

    /// What makes answers different, of each machine and profile that has options, with its name and its address if that is
    /// known; no difference first.
    #[must_use]
    pub fn every_difference(&self) -> Vec<(String, Differences, Option<Ipv4Addr>)> {
        let profile = |name: &String| {
            self.config.profiles.get(name).filter(|profile| !profile.options.is_empty()).map(|_| name.clone())
        };
        let profiles = self.config.profiles.keys().filter_map(|name| {
            let differences = Differences { profile: Some(profile(name)?), ..Differences::default() };
            Some((format!("profile {name}"), differences, None))
        });
        let groups = self.config.groups.iter().enumerate();
        let groups = groups.filter(|(_, group)| !group.options.is_empty());
        let groups = groups.map(|(position, group)| {
            let differences = Differences { groups: vec![position], ..Differences::default() };
            (format!("group {}", group.name), differences, None)
        });
        let machines = self.machines.all().into_iter().enumerate();
        let machines = machines.filter(|(_, known)| !known.machine.options.is_empty());
        let machines = machines.map(|(index, known)| {
            let machine = &known.machine;
            let mac = machine.macs.first().copied().unwrap_or_default();
            let name = machine.name.clone().unwrap_or_else(|| format!("machine[{index}]"));
            let ip = machine.ip;
            (name, Differences { oui: None, ..self.differences_of(Some(&known), mac) }, ip)
        });
        std::iter::once((String::new(), Differences::default(), None))
            .chain(profiles)
            .chain(groups)
            .chain(machines)
            .collect()
    }

    /// Options beyond the subnet's own keys for a class of clients, each code once: the machine's before its groups' before
    /// its profile's before its subnet's, and in each of these lists one for this kind of client before one for all.
    #[must_use]
    pub fn options(
        &self,
        differences: &Differences,
        subnet: Option<&Subnet>,
        Class { firmware, stage }: Class,
    ) -> Vec<CustomOption> {
        let mut chosen: Vec<CustomOption> = Vec::new();
        for list in self.own(differences, subnet, Some(firmware)).option_lists(subnet) {
            for CustomOption { code, .. } in list {
                if !chosen.iter().any(|before| before.code == *code) {
                    chosen.extend(of_code(list, *code, stage).cloned());
                }
            }
        }
        chosen
    }

    /// Whether an option is configured, for whatever clients.
    #[must_use]
    pub fn has_option(&self, differences: &Differences, subnet: Option<&Subnet>, code: u8) -> bool {
        self.own(differences, subnet, None)
            .option_lists(subnet)
            .any(|list| list.iter().any(|option| option.code == code))
    }

    /// What is different for a kind of firmware in a subnet; without a kind, for any.
    fn own(&self, differences: &Differences, subnet: Option<&Subnet>, firmware: Option<Firmware>) -> Own<'_> {
        let machine = differences.machine.and_then(|id| self.machines.get(id));
        let is_in = |(position, group): &(usize, &Group)| {
            let fits = &group.fits;
            (!fits.is_of_machine() || differences.groups.contains(position))
                // DHCP tells no serial numbers.
                && fits.serial.is_empty()
                && fits.fits_subnet(subnet.map(|subnet| subnet.cidr))
                && firmware.is_none_or(|firmware| fits.fits_arch(Arch::of_firmware(firmware)))
        };
        let groups: Vec<(usize, &Group)> = self.config.groups.iter().enumerate().filter(is_in).collect();
        let of_groups = groups.iter().rev().find_map(|(_, group)| group.profile.as_ref());
        let of_groups = of_groups.filter(|_| !differences.is_own_profile);
        let profile = of_groups.or(differences.profile.as_ref());
        Own { machine, groups, profile: profile.and_then(|name| self.config.profiles.get(name)) }
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
        subnet: Option<&Subnet>,
    ) -> Result<Option<BootFile>, String> {
        if class.stage == Stage::Os {
            return Ok(None);
        }
        let own = self.own(differences, subnet, Some(class.firmware));
        // What the configuration has for iPXE is for the full one, which comes first.
        let configured =
            (class.stage != Stage::ReducedIpxe).then(|| self.configured(class, &own, differences, subnet));
        let configured = configured.flatten().map(|(configured, _)| configured);
        if let Some(Configured::Key(name)) = configured {
            return Ok(Some(named(class, http, name)));
        }
        let mut file = match configured {
            Some(Configured::Option(name)) => named(class, http, name),
            _ => {
                let loader = |firmware| {
                    self.loaders
                        .get(&firmware)
                        .cloned()
                        .unwrap_or_else(|| Err(format!("no loader for {}", Firmware::name(firmware))))
                };
                let Some(file) = boot_file(class, http, &loader)? else { return Ok(None) };
                file
            }
        };
        if let BootFile::Tftp { server, .. } = &mut file {
            let option = own.option_lists(subnet).find_map(|list| of_code(list, SERVER_NAME, class.stage));
            *server = option.and_then(CustomOption::name).map(str::to_owned);
        }
        Ok(Some(file))
    }

    /// Which setting names the boot file of a class of clients; none if it is the built-in choice.
    #[must_use]
    pub fn boot_file_source(
        &self,
        class: Class,
        differences: &Differences,
        subnet: Option<&Subnet>,
    ) -> Option<BootFileSource> {
        let own = self.own(differences, subnet, Some(class.firmware));
        self.configured(class, &own, differences, subnet).map(|(_, source)| source)
    }

    /// The boot file that the configuration names: for the machine, its groups, its profile, by the first rule that fits, or for
    /// its subnet; on each of these levels by `boot_file` or by option 67. A URL there is for HTTP Boot and anything
    /// else for TFTP, because an option is not for one kind of firmware as a rule is.
    fn configured<'a>(
        &'a self,
        Class { firmware, stage }: Class,
        own: &'a Own<'_>,
        differences: &Differences,
        subnet: Option<&'a Subnet>,
    ) -> Option<(Configured<'a>, BootFileSource)> {
        let Own { machine, groups, profile } = own;
        let in_list = |list: &'a [CustomOption]| {
            let name = of_code(list, BOOT_FILE, stage)?.name()?;
            (stage == Stage::Ipxe || is_url(name) == firmware.is_http()).then_some(Configured::Option(name))
        };
        let of_machine = in_list(machine.as_ref().map_or(&[], |machine| &machine.options));
        let of_profile = in_list(profile.map_or(&[], |profile| &profile.options));
        let of_subnet = in_list(subnet.map_or(&[], |subnet| &subnet.options));
        let of_groups = groups.iter().rev().find_map(|(position, group)| {
            Some((in_list(&group.options)?, BootFileSource::GroupOption(*position)))
        });
        let key = |name: Option<&'a String>| {
            name.filter(|_| stage == Stage::Rom).map(|name| Configured::Key(name.as_str()))
        };
        let rule = self.config.boot_files.iter().enumerate().find(|(_, rule)| {
            let kinds = rule.kinds();
            (kinds.is_empty() || kinds.contains(&firmware))
                && (rule.oui.is_none() || rule.oui == differences.oui)
        });
        let by = |source: BootFileSource| move |configured: Configured<'a>| (configured, source);
        let rule_number = rule.map_or(0, |(number, _)| number);
        key(machine.as_ref().and_then(|machine| machine.boot_file.as_ref()))
            .map(by(BootFileSource::Machine))
            .or_else(|| of_machine.map(by(BootFileSource::MachineOption)))
            .or(of_groups)
            .or_else(|| {
                key(profile.and_then(|profile| profile.boot_file.as_ref())).map(by(BootFileSource::Profile))
            })
            .or_else(|| of_profile.map(by(BootFileSource::ProfileOption)))
            .or_else(|| {
                let disk = profile.filter(|_| firmware.is_http()).and_then(disk);
                key(disk).map(by(BootFileSource::ProfileDisk))
            })
            .or_else(|| key(rule.map(|(_, rule)| &rule.file)).map(by(BootFileSource::Rule(rule_number))))
            .or_else(|| of_subnet.map(by(BootFileSource::SubnetOption)))
    }
}

/// What names a boot file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootFileSource {
    /// `boot_file` of the machine.
    Machine,
    /// Its option 67.
    MachineOption,
    /// Option 67 of the `[[group]]` with this position.
    GroupOption(usize),
    /// `boot_file` of its profile.
    Profile,
    /// Option 67 of its profile.
    ProfileOption,
    /// `iso` of its profile.
    ProfileDisk,
    /// The `[[boot_file]]` with this position.
    Rule(usize),
    /// Option 67 of the subnet.
    SubnetOption,
}

impl Differences {
    /// The machine that answers are different for.
    pub(super) fn machine(&self) -> Option<MachineId> {
        self.machine
    }

    /// The profile that answers are different for.
    pub(super) fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }
}
