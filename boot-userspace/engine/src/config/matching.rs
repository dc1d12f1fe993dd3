//! `match` of a `[[group]]`: which machines belong to it.

use std::collections::BTreeMap;
use std::fmt;

use boot_agent_protocol::Inventory;
use boot_common::Mac;
use ipnet::Ipv4Net;

use super::arch::Arch;
use super::hardware::Hardware;

/// A switch port as a relay names it: circuit and remote identifier (82.1, 82.2).
pub type PortSeen<'a> = (&'a [u8], Option<&'a [u8]>);

/// What is known of a machine wherever it is and whatever it runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Described<'a> {
    /// Those of the configuration.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// The card that asks.
    pub mac: Option<Mac>,
    /// The configuration's, else the one that a relay has named last.
    pub switch_port: Option<PortSeen<'a>>,
    /// What it consists of, as the agent has reported it.
    pub inventory: Option<&'a Inventory>,
}

/// `match`: all that is there has to fit; of a list, one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// `labels`: the machine has all of these.
    pub labels: BTreeMap<String, String>,
    /// `mac`: how its MAC address begins, one to six bytes each.
    pub mac: Vec<Vec<u8>>,
    /// `circuit_id` of its switch port.
    pub circuit_id: Vec<Vec<u8>>,
    /// `remote_id` of its switch port: the switch.
    pub remote_id: Vec<Vec<u8>>,
    /// `subnet`: where its address is. Each has whole `[[subnet]]`s in it.
    pub subnet: Vec<Ipv4Net>,
    /// `arch`: what it boots as.
    pub arch: Vec<Arch>,
    /// `serial`: what it says its serial number is.
    pub serial: Vec<String>,
    /// What its inventory has: `memory`, `nics` and others.
    pub hardware: Hardware,
}

impl Match {
    /// Whether this machine fits, as far as it does not depend on where it is and what it runs.
    #[must_use]
    pub fn fits_machine(&self, machine: &Described<'_>) -> bool {
        let has = |(key, value): (&String, &String)| {
            machine.labels.is_some_and(|labels| labels.get(key) == Some(value))
        };
        let begins = |mac: Mac| self.mac.iter().any(|prefix| mac.0.starts_with(prefix));
        let is_one = |list: &Vec<Vec<u8>>, seen: Option<&[u8]>| {
            list.is_empty() || seen.is_some_and(|seen| list.iter().any(|one| one == seen))
        };
        let (circuit, remote) =
            machine.switch_port.map_or((None, None), |(circuit, remote)| (Some(circuit), remote));
        self.labels.iter().all(has)
            && (self.mac.is_empty() || machine.mac.is_some_and(begins))
            && is_one(&self.circuit_id, circuit)
            && is_one(&self.remote_id, remote)
            && self.hardware.fits(machine.inventory)
    }

    /// Whether a network that a machine is in, or its address as one, fits.
    #[must_use]
    pub fn fits_subnet(&self, net: Option<Ipv4Net>) -> bool {
        self.subnet.is_empty() || net.is_some_and(|net| self.subnet.iter().any(|one| one.contains(&net)))
    }

    /// Whether an architecture fits.
    #[must_use]
    pub fn fits_arch(&self, arch: Option<Arch>) -> bool {
        self.arch.is_empty() || arch.is_some_and(|arch| self.arch.contains(&arch))
    }

    /// Whether a serial number fits.
    #[must_use]
    pub fn fits_serial(&self, serial: Option<&str>) -> bool {
        self.serial.is_empty() || serial.is_some_and(|serial| self.serial.iter().any(|one| one == serial))
    }

    /// Whether it depends on which machine it is.
    #[must_use]
    pub fn is_of_machine(&self) -> bool {
        !self.labels.is_empty() || !self.mac.is_empty() || self.is_of_port() || !self.hardware.is_empty()
    }

    /// Whether it depends on the switch port.
    #[must_use]
    pub fn is_of_port(&self) -> bool {
        !self.circuit_id.is_empty() || !self.remote_id.is_empty()
    }

    /// Whether it depends on where a machine is or on what it runs.
    #[must_use]
    pub fn is_of_boot(&self) -> bool {
        !self.subnet.is_empty() || !self.arch.is_empty() || !self.serial.is_empty()
    }
}

/// The conditions in words, with commas between them.
impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { labels, mac, circuit_id, remote_id, subnet, arch, serial, hardware } = self;
        let list = |key: &str, values: Vec<String>| {
            (!values.is_empty()).then(|| format!("{key} {}", values.join(" or ")))
        };
        let begins =
            |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).escape_debug().to_string();
        let labels = labels.iter().map(|(key, value)| format!("label {key} = {value}"));
        let lists = [
            list("mac", mac.iter().map(begins).collect()),
            list("circuit_id", circuit_id.iter().map(text).collect()),
            list("remote_id", remote_id.iter().map(text).collect()),
            list("subnet", subnet.iter().map(ToString::to_string).collect()),
            list("arch", arch.iter().map(ToString::to_string).collect()),
            list("serial", serial.clone()),
            (!hardware.is_empty()).then(|| hardware.to_string()),
        ];
        let all: Vec<String> = labels.chain(lists.into_iter().flatten()).collect();
        if all.is_empty() {
            return f.write_str("every machine");
        }
        f.write_str(&all.join(", "))
    }
}
