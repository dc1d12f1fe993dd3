//! What other servers have reserved for machines. It is no lease: its place is the configuration.

use std::fmt::{self, Write as _};
use std::net::Ipv4Addr;

use boot_common::Mac;

use boot_engine::config::{Config, is_machine_name};

/// A machine of another server's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    /// What the other server calls it.
    pub(crate) label: String,
    /// Its host name, where the file has one.
    pub(crate) hostname: Option<String>,
    pub(crate) mac: Mac,
    /// None where only the machine is known.
    pub(crate) address: Option<Ipv4Addr>,
    /// What else the file says of it, which has no place here.
    pub(crate) beside: Vec<String>,
}

impl Reservation {
    /// Whether the configuration has it.
    pub(crate) fn is_in(&self, config: &Config) -> bool {
        config.machines.iter().any(|machine| {
            machine.macs.contains(&self.mac) && (self.address.is_none() || machine.ip == self.address)
        })
    }

    /// The name that it can have in the configuration: of a name with a domain only the first part.
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
            // In a comment no character of a file may end it.
            f.write_str("# left out: ")?;
            beside.chars().filter(|c| !c.is_control()).try_for_each(|c| f.write_char(c))?;
            f.write_char('\n')?;
        }
        Ok(())
    }
}
