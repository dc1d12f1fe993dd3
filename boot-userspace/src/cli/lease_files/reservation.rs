//! Reservations of other servers. They are not leases: they belong into the configuration.

use std::fmt::{self, Write as _};
use std::net::Ipv4Addr;

use boot_common::Mac;

use boot_engine::config::{Config, is_machine_name};

/// A machine of another server's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    /// The other server's name for the machine.
    pub(crate) label: String,
    /// The host name, if the file has one.
    pub(crate) hostname: Option<String>,
    pub(crate) mac: Mac,
    /// The reserved address, if the file has one.
    pub(crate) address: Option<Ipv4Addr>,
    /// Other statements in the file, which have no key in the configuration.
    pub(crate) beside: Vec<String>,
}

impl Reservation {
    /// Whether the configuration has this reservation.
    pub(crate) fn is_in(&self, config: &Config) -> bool {
        config.machines.iter().any(|machine| {
            machine.macs.contains(&self.mac) && (self.address.is_none() || machine.ip == self.address)
        })
    }

    /// The name for the configuration: the first part of a name with a domain.
    fn name(&self) -> Option<&str> {
        let names = [self.hostname.as_deref(), Some(self.label.as_str())];
        let hosts = names.into_iter().flatten().filter_map(|name| name.split('.').next());
        hosts.into_iter().find(|name| is_machine_name(name))
    }
}

/// A `[[machine]]` for the configuration.
impl fmt::Display for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[machine]]")?;
        writeln!(f, "mac = \"{}\"", self.mac)?;
        if let Some(name) = self.name() {
            writeln!(f, "name = \"{name}\"")?;
        }
        if let Some(address) = self.address {
            writeln!(f, "ip = \"{address}\"")?;
        }
        for beside in &self.beside {
            // No character from the file may end the comment.
            f.write_str("# left out: ")?;
            beside.chars().filter(|c| !c.is_control()).try_for_each(|c| f.write_char(c))?;
            f.write_char('\n')?;
        }
        Ok(())
    }
}
