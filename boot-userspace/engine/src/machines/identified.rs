//! What is known of a MAC, for whoever has to know several things of it.

use std::net::Ipv4Addr;

use boot_common::Mac;

use super::index::Known;
use super::{Machines, State};

/// What is known of a MAC, from one look-up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identified {
    /// The machine with this MAC, or that the MAC was recognised as.
    pub(crate) known: Option<Known>,
    /// Whether the machine is configured with this MAC.
    pub(crate) is_named: bool,
    /// Whether a machine's BMC has this MAC, and no machine itself.
    pub(crate) is_bmc: bool,
    bmc_name: Option<String>,
}

impl Identified {
    /// The name of its machine, as logs have it.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.known {
            Some(known) => known.machine.name.as_deref(),
            None => self.bmc_name.as_deref(),
        }
    }

    /// The address that is reserved for its machine.
    pub(crate) fn reserved(&self) -> Option<Ipv4Addr> {
        self.known.as_ref()?.machine.ip
    }
}

impl Machines {
    /// What is known of a MAC.
    pub(crate) fn identify(&self, mac: Mac) -> Identified {
        let state = self.read();
        let is_named = state.index.by_mac(mac).is_some();
        match state.by_mac(mac) {
            Some(id) => Identified { known: state.known(id), is_named, ..Identified::default() },
            None => Identified {
                is_bmc: state.index.by_bmc(mac).is_some(),
                bmc_name: state.bmc_name(mac),
                ..Identified::default()
            },
        }
    }
}

impl State {
    /// The name of the machine whose BMC has this MAC, as logs have it.
    pub(super) fn bmc_name(&self, mac: Mac) -> Option<String> {
        let machine = self.index.get(self.index.by_bmc(mac)?)?;
        machine.name.as_ref().map(|name| format!("{name} (BMC)"))
    }
}
