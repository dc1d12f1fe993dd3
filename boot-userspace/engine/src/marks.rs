//! Machines by other marks than their MAC.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use crate::config::Machine;

/// How a machine may be recognised beside its MAC.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks<'a> {
    /// SMBIOS UUID, as option 97 has it behind its type octet: the first three fields little-endian, usually.
    pub uuid: Option<[u8; 16]>,
    /// Circuit and remote identifier of the relay (82.1, 82.2).
    pub relay_port: Option<(&'a [u8], Option<&'a [u8]>)>,
}

/// A machine that was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Marked {
    /// Its index in the configuration.
    pub(super) machine: u32,
    /// By its switch port only: whoever is plugged in there is this machine, and nobody is it elsewhere.
    pub(super) by_port: bool,
}

/// The configured machines by their marks; a machine is its index in the configuration.
#[derive(Debug, Default)]
pub(super) struct ByMark {
    uuids: HashMap<[u8; 16], u32>,
    /// Switch ports by circuit identifier.
    circuits: HashMap<Vec<u8>, Vec<Circuit>>,
    /// Reserved addresses of machines whose MAC nobody knows beforehand.
    addresses: HashMap<Ipv4Addr, u32>,
}

/// One of the ports with a circuit identifier.
#[derive(Debug)]
struct Circuit {
    remote_id: Option<Vec<u8>>,
    machine: u32,
}

impl ByMark {
    pub(super) fn new(machines: &[Machine]) -> Self {
        let mut this = Self::default();
        for (index, machine) in (0..).zip(machines) {
            if let Some(uuid) = machine.uuid {
                this.uuids.entry(uuid).or_insert(index);
            }
            if let Some(port) = &machine.relay_port {
                let ports = this.circuits.entry(port.circuit_id.clone()).or_default();
                ports.push(Circuit { remote_id: port.remote_id.clone(), machine: index });
            }
            if let Some(address) = machine.ip.filter(|_| machine.macs.is_empty()) {
                this.addresses.entry(address).or_insert(index);
            }
        }
        this
    }

    /// The machine with one of these marks; the first in the configuration, if they are two machines'.
    pub(super) fn find(&self, marks: Marks<'_>) -> Option<Marked> {
        // Firmware disagrees about the byte order of the first three fields.
        let uuids = marks.uuid.into_iter().flat_map(|uuid| [uuid, swapped(uuid)]);
        let by_uuid = uuids.filter_map(|uuid| self.uuids.get(&uuid).copied());
        let ports =
            marks.relay_port.and_then(|(circuit, remote)| Some((self.circuits.get(circuit)?, remote)));
        let by_port = ports.into_iter().flat_map(|(ports, remote)| {
            let fits = move |own: &&Circuit| own.remote_id.as_deref().is_none_or(|own| Some(own) == remote);
            ports.iter().filter(fits).map(|own| own.machine)
        });
        let by_uuid = by_uuid.map(|machine| Marked { machine, by_port: false });
        by_uuid.chain(by_port.map(|machine| Marked { machine, by_port: true })).min()
    }

    /// Whether any machine is known by its switch port.
    pub(super) fn has_ports(&self) -> bool {
        !self.circuits.is_empty()
    }

    /// The machine without a MAC that this address is reserved for.
    pub(super) fn by_address(&self, address: Ipv4Addr) -> Option<u32> {
        self.addresses.get(&address).copied()
    }
}

/// A UUID with its first three fields in the other byte order (SMBIOS against RFC 4122).
fn swapped(uuid: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = uuid;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}
