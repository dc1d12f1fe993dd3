//! A machine that asks what it is to boot.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use boot_common::Mac;

use super::Server;
use super::told::Told;
use crate::config::{Arch, Machine};
use crate::machines::{Asker, Life};

/// What is known about a machine that asks for its script. Everything it says about itself may be false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// SMBIOS UUID, as it says.
    pub uuid: Option<String>,
    /// As it says; if it says nothing, the machine that has its address.
    pub mac: Option<Mac>,
    /// Who that is, and which machine is meant.
    pub asker: Asker,
    /// Domain, as it says.
    pub domain: Option<String>,
    /// Host name, as it says.
    pub hostname: Option<String>,
    /// `${platform}` of iPXE, as it says.
    pub platform: Option<String>,
    /// Serial number, as it says.
    pub serial: Option<String>,
    /// iPXE's build architecture: x86_64, i386, arm64, …
    pub arch: Option<String>,
    /// The entry of its menu that somebody chose, as it says.
    pub chosen: Option<String>,
    /// The address it asks from.
    pub client_ip: IpAddr,
    /// Where it has reached this server; URLs in the script should lead there.
    pub server: Server,
    /// What the server of `pixiecore_api` says of it, if that was asked.
    pub told: Option<Arc<Told>>,
}

impl Asked {
    /// The configuration's machine that is meant.
    #[must_use]
    pub fn machine(&self) -> Option<&Machine> {
        self.asker.known.as_ref().map(|known| &*known.machine)
    }

    /// Where the machine that is meant is in its life, if it is of the registry.
    #[must_use]
    pub fn life(&self) -> Option<&Life> {
        self.asker.known.as_ref().and_then(|known| known.life.as_ref())
    }

    /// Its MAC address, or the address it asks from: for people.
    #[must_use]
    pub fn called(&self) -> String {
        self.mac.map_or_else(|| self.client_ip.to_string(), |mac| mac.to_string())
    }

    /// What it boots as, as it says.
    #[must_use]
    pub fn arch(&self) -> Option<Arch> {
        self.arch.as_deref().and_then(|arch| Arch::of_ipxe(arch, self.platform.as_deref()))
    }

    /// The address that the machine has: not the one it asks from where somebody else stands for it.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        let own = self.asker.elsewhere.or_else(|| self.machine()?.ip);
        match self.client_ip {
            IpAddr::V4(from) => own.or(Some(from)),
            IpAddr::V6(_) => own,
        }
    }
}
