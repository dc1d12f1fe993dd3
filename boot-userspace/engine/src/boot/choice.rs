//! Which profile and which groups a machine has: default → profile → groups → machine.

use std::net::Ipv4Addr;
use std::sync::Arc;

use boot_common::Mac;
use ipnet::Ipv4Net;

use super::level::Level;
use super::parameters::Found;
use super::told::Told;
use crate::config::{Arch, Config, Described, Group, LOCAL, Machine, Menu, Profile, RelayPort};

/// A machine that boots, as far as the choice depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Booting<'a> {
    /// Its `[[machine]]`.
    pub machine: Option<&'a Machine>,
    /// The card that asks.
    pub mac: Option<Mac>,
    /// The switch port that a relay has named, for a machine whose `[[machine]]` names none.
    pub switch_port: Option<&'a RelayPort>,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// What it boots as.
    pub arch: Option<Arch>,
    /// Its serial number, as it says, [tamed](crate::config::tame).
    pub serial: Option<&'a str>,
}

/// What is chosen for a machine.
#[derive(Clone, Debug)]
pub struct Choice<'c> {
    /// Its profile, by name.
    pub profile: Option<(&'c str, &'c Profile)>,
    /// The groups that it is in, in their order.
    pub groups: Vec<&'c Group>,
    /// What a person may choose instead.
    pub menu: Option<&'c Menu>,
    /// It boots its own disk.
    pub is_local: bool,
    /// What is booted in the profile's place, because somebody has written it.
    pub written: Option<Found>,
    /// What the server of `pixiecore_api` says, where it decides.
    pub told: Option<Arc<Told>>,
    /// The profile is another one than its own, whose arguments are not for this one.
    is_another: bool,
}

impl<'a> Booting<'a> {
    /// What groups can be chosen by that belongs to the machine itself.
    #[must_use]
    pub fn described(&self) -> Described<'a> {
        let own = self.machine.and_then(|machine| machine.relay_port.as_ref());
        Described {
            labels: self.machine.map(|machine| &machine.labels),
            mac: self.mac,
            switch_port: own.or(self.switch_port).map(RelayPort::seen),
            inventory: self.machine.and_then(|machine| machine.inventory.as_deref()),
        }
    }

    /// Whether it is in a group.
    #[must_use]
    pub fn is_in(&self, group: &Group) -> bool {
        let net = self.address.map(Ipv4Net::from);
        group.fits.fits_machine(&self.described())
            && group.fits.fits_subnet(net)
            && group.fits.fits_arch(self.arch)
            && group.fits.fits_serial(self.serial)
    }
}

impl<'c> Choice<'c> {
    /// What the configuration has for a machine.
    #[must_use]
    pub fn new(config: &'c Config, booting: &Booting<'_>) -> Self {
        let groups: Vec<&Group> = config.groups.iter().filter(|group| booting.is_in(group)).collect();
        let profile = config.profile_of(booting.machine, groups.iter().copied());
        Self { profile, groups, menu: None, is_local: false, written: None, told: None, is_another: false }
    }

    /// Where its profile is a menu, the entry that was chosen in its place: the default, unless this is one.
    #[must_use]
    pub fn from_menu(self, config: &'c Config, chosen: Option<&str>) -> Self {
        let Some(menu) = self.profile.and_then(|(_, profile)| profile.menu.as_ref()) else { return self };
        let chosen = menu.entries.iter().find(|entry| Some(entry.as_str()) == chosen);
        let entry = chosen.unwrap_or(&menu.default);
        let profile = config.profiles.get_key_value(entry).map(|(name, profile)| (name.as_str(), profile));
        Self { profile, menu: Some(menu), is_local: profile.is_none() && entry == LOCAL, ..self }
    }

    /// What has chosen the profile.
    #[must_use]
    pub fn level(&self, machine: Option<&Machine>) -> Level {
        match machine {
            Some(machine) if machine.profile.is_some() => Level::Machine,
            _ if self.groups.iter().any(|group| group.profile.is_some()) => Level::Group,
            _ => Level::Default,
        }
    }

    /// The same with what the server of `pixiecore_api` says.
    #[must_use]
    pub fn telling(self, told: Option<Arc<Told>>) -> Self {
        Self { told, ..self }
    }

    /// Another profile, for the state that the machine is in.
    #[must_use]
    pub fn instead(self, config: &'c Config, name: &str) -> Self {
        let profile = config.profiles.get_key_value(name).map(|(name, profile)| (name.as_str(), profile));
        Self { profile, is_another: true, ..self }
    }

    /// The arguments of the groups, then those of the machine.
    #[must_use]
    pub fn own_args(&self, machine: Option<&Machine>) -> String {
        if self.is_another {
            return String::new();
        }
        let groups = self.groups.iter().map(|group| group.args.as_str());
        let all = groups.chain(machine.map(|machine| machine.args.as_str()));
        all.filter(|args| !args.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests;
