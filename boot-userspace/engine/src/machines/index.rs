//! Every machine, and what finds it: its identities and the address that is reserved for it.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use boot_common::Mac;

use super::identity::{Identities, Identity};
use super::life::Life;
use super::ports::Ports;
use crate::config::{Machine, in_either_order, serial_key};
use crate::maps::HashMap;

/// What one machine is known by inside of this process, whatever becomes of the others. No second machine ever gets it,
/// and it says nothing in another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(u64);

/// A machine that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What it is known by.
    pub id: MachineId,
    /// What is known of it.
    pub machine: Arc<Machine>,
    /// Where it is in its life, if it is of the registry.
    pub life: Option<Life>,
}

/// What only one machine can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unique {
    /// What it is known by.
    Identity(Identity),
    /// The address that is reserved for it.
    Address(Ipv4Addr),
}

impl fmt::Display for Unique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(identity) => identity.fmt(f),
            Self::Address(address) => write!(f, "the address {address}"),
        }
    }
}

/// Two machines would have what only one can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{machine} cannot have {what}: it is {other}'s; remove it from one of them")]
pub struct ConflictError {
    /// What both would have.
    pub what: Unique,
    /// The machine that is not added or changed: its name, or else one of its identities.
    pub machine: String,
    /// The one that has it, in the same words.
    pub other: String,
    /// The one that has it.
    pub other_id: MachineId,
}

/// Why a machine was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Another machine has what it would have.
    #[error(transparent)]
    Conflict(#[from] ConflictError),
    /// It was removed.
    #[error("the machine is not there any more; read the list of machines again")]
    Gone,
}

/// How a machine was found that a client shows something of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) id: MachineId,
    /// By its switch port only: whoever is plugged in there is this machine, and nobody is it elsewhere.
    pub(super) by_port: bool,
}

/// What makes other machines of those that are there.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) removed: Vec<MachineId>,
    pub(super) changed: Vec<(MachineId, Arc<Machine>)>,
    pub(super) added: Vec<Arc<Machine>>,
}

/// The machines. What a change costs does not depend on how many there are.
#[derive(Debug, Default)]
pub(super) struct Index {
    machines: HashMap<MachineId, Arc<Machine>>,
    last: u64,
    macs: HashMap<Mac, MachineId>,
    /// In either order of their bytes.
    uuids: HashMap<[u8; 16], MachineId>,
    ports: Ports<MachineId>,
    /// Whom somebody has written which serial number of.
    serials: HashMap<String, MachineId>,
    /// Reserved addresses.
    addresses: HashMap<Ipv4Addr, MachineId>,
    /// The cards of BMCs. One may be that of several machines in a chassis.
    bmcs: HashMap<Mac, BTreeSet<MachineId>>,
    /// How many machines may be asked for by a MAC that is not known beforehand.
    without_mac: usize,
    /// For how many the MACs that share a reserved address are several, or not known beforehand.
    with_shared_address: usize,
}

impl Index {
    pub(super) fn add(&mut self, machine: Arc<Machine>) -> Result<MachineId, ConflictError> {
        self.check(&machine, None)?;
        Ok(self.put_new(machine))
    }

    /// Puts a machine in the place of what it was, and gives that.
    pub(super) fn change(
        &mut self,
        id: MachineId,
        machine: Arc<Machine>,
    ) -> Result<Arc<Machine>, ChangeError> {
        let before = self.machines.get(&id).cloned().ok_or(ChangeError::Gone)?;
        self.check(&machine, Some(id))?;
        self.unlink(id, &before);
        self.link(id, &machine);
        self.machines.insert(id, machine);
        Ok(before)
    }

    pub(super) fn remove(&mut self, id: MachineId) -> Option<Arc<Machine>> {
        let machine = self.machines.remove(&id)?;
        self.unlink(id, &machine);
        Some(machine)
    }

    /// What is to be done for these machines to be there. Who has an identity or the name of a machine is that machine,
    /// unless an earlier one of them is it already.
    /// Machines for which `are` is false are not compared with.
    pub(super) fn compare(&self, machines: &[Arc<Machine>], are: impl Fn(MachineId) -> bool) -> Changes {
        let mut changes = Changes::default();
        let mut left: HashSet<MachineId> = self.machines.keys().copied().filter(|id| are(*id)).collect();
        // What is as it was must not be taken for another one that has changed.
        let mut others = Vec::new();
        for machine in machines {
            let same = Identity::all(machine).find_map(|identity| Some(self.having(&identity)?.id));
            match same.filter(|id| self.get(*id) == Some(machine)) {
                Some(id) => drop(left.remove(&id)),
                None => others.push(machine),
            }
        }
        let named = |id: &MachineId| Some((self.get(*id)?.name.as_ref()?, *id));
        let by_name: HashMap<&String, MachineId> = left.iter().filter_map(named).collect();
        for machine in others {
            let mut same = Identity::all(machine).filter_map(|identity| Some(self.having(&identity)?.id));
            let by_name = || by_name.get(machine.name.as_ref()?).copied();
            match same.find(|id| left.contains(id)).or_else(|| by_name().filter(|id| left.contains(id))) {
                Some(id) => {
                    left.remove(&id);
                    changes.changed.push((id, Arc::clone(machine)));
                }
                None => changes.added.push(Arc::clone(machine)),
            }
        }
        changes.removed = left.into_iter().collect();
        changes
    }

    /// Adds a machine that has nothing in common with another one.
    pub(super) fn put_new(&mut self, machine: Arc<Machine>) -> MachineId {
        self.last += 1;
        let id = MachineId(self.last);
        self.put(id, machine);
        id
    }

    /// The same for one that was removed.
    pub(super) fn put(&mut self, id: MachineId, machine: Arc<Machine>) {
        self.link(id, &machine);
        self.machines.insert(id, machine);
    }

    pub(super) fn get(&self, id: MachineId) -> Option<&Arc<Machine>> {
        self.machines.get(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (MachineId, &Arc<Machine>)> {
        self.machines.iter().map(|(id, machine)| (*id, machine))
    }

    pub(super) fn by_mac(&self, mac: Mac) -> Option<MachineId> {
        self.macs.get(&mac).copied()
    }

    /// The machine that an address is reserved for.
    pub(super) fn by_address(&self, address: Ipv4Addr) -> Option<MachineId> {
        self.addresses.get(&address).copied()
    }

    /// The machine that somebody has written this serial number of.
    pub(super) fn by_serial(&self, serial: &str) -> Option<MachineId> {
        self.serials.get(&serial_key(serial)).copied()
    }

    /// The machine whose BMC has this card; of several, the one that was added first.
    pub(super) fn by_bmc(&self, mac: Mac) -> Option<MachineId> {
        self.bmcs.get(&mac)?.first().copied()
    }

    /// The machine that something is shown of. Of two, the one that was added first.
    pub(super) fn find(&self, shown: Identities<'_>) -> Option<Found> {
        let by_uuid = shown.uuid.and_then(|uuid| self.uuids.get(&in_either_order(uuid)).copied());
        let by_port = shown.switch_port.and_then(|(circuit, remote)| self.ports.find(circuit, remote));
        let by_uuid = by_uuid.map(|id| Found { id, by_port: false });
        by_uuid.into_iter().chain(by_port.map(|id| Found { id, by_port: true })).min()
    }

    /// The machine that has this identity.
    pub(super) fn having(&self, identity: &Identity) -> Option<Found> {
        match identity {
            Identity::Mac(mac) => Some(Found { id: self.by_mac(*mac)?, by_port: false }),
            Identity::Uuid(uuid) => self.find(Identities { uuid: Some(*uuid), switch_port: None }),
            Identity::SwitchPort(port) => {
                let switch_port = Some((&port.circuit_id[..], port.remote_id.as_deref()));
                self.find(Identities { uuid: None, switch_port })
            }
        }
    }

    /// Whether any machine is known by its switch port.
    pub(super) fn has_ports(&self) -> bool {
        !self.ports.is_empty()
    }

    /// Whether there is a machine whose MAC nobody knows beforehand.
    pub(super) fn has_without_mac(&self) -> bool {
        self.without_mac > 0
    }

    /// Whether several MACs may have the same reserved address.
    pub(super) fn shares_addresses(&self) -> bool {
        self.with_shared_address > 0
    }

    /// The machines that have something that this one is to have.
    pub(super) fn holders(&self, machine: &Machine) -> Vec<MachineId> {
        let identities = Identity::all(machine).filter_map(|identity| self.holder(&identity, None));
        identities.chain(machine.ip.and_then(|ip| self.by_address(ip))).collect()
    }

    pub(super) fn check(&self, machine: &Machine, own: Option<MachineId>) -> Result<(), ConflictError> {
        let identities =
            Identity::all(machine).map(|identity| (self.holder(&identity, own), Unique::Identity(identity)));
        let address = machine.ip.map(|ip| (self.by_address(ip), Unique::Address(ip)));
        for (holder, what) in identities.chain(address) {
            if let Some(other_id) = holder.filter(|holder| Some(*holder) != own) {
                let other = self.get(other_id).map_or_else(String::new, |other| called(other));
                return Err(ConflictError { what, machine: called(machine), other, other_id });
            }
        }
        Ok(())
    }

    /// What is left of a machine without what is another one's, and without what it would boot: whoever shows any of that is this
    /// machine. None if that is nothing, or if all of its cards are others' now.
    pub(super) fn rest(&self, machine: &Machine, own: Option<MachineId>) -> Option<Machine> {
        let is_free = |identity: Identity| self.holder(&identity, own).is_none_or(|it| Some(it) == own);
        let rest = Machine {
            macs: machine.macs.iter().copied().filter(|mac| is_free(Identity::Mac(*mac))).collect(),
            uuid: machine.uuid.filter(|uuid| is_free(Identity::Uuid(*uuid))),
            relay_port: machine.relay_port.clone().filter(|port| is_free(Identity::SwitchPort(port.clone()))),
            ip: machine.ip.filter(|ip| self.by_address(*ip).is_none_or(|it| Some(it) == own)),
            profile: None,
            args: String::new(),
            image: None,
            ..machine.clone()
        };
        let is_left = match machine.macs.is_empty() {
            true => rest.uuid.is_some() || rest.relay_port.is_some() || rest.serial.is_some(),
            false => !rest.macs.is_empty(),
        };
        is_left.then_some(rest)
    }

    fn holder(&self, identity: &Identity, own: Option<MachineId>) -> Option<MachineId> {
        match identity {
            Identity::Mac(mac) => self.by_mac(*mac),
            Identity::Uuid(uuid) => self.uuids.get(&in_either_order(*uuid)).copied(),
            Identity::SwitchPort(port) => self.ports.overlapping(port, own),
        }
    }

    fn link(&mut self, id: MachineId, machine: &Machine) {
        self.macs.extend(machine.macs.iter().map(|mac| (*mac, id)));
        self.uuids.extend(machine.uuid.map(|uuid| (in_either_order(uuid), id)));
        if let Some(port) = &machine.relay_port {
            self.ports.insert(port, id);
        }
        self.serials.extend(machine.serial.as_deref().map(|serial| (serial_key(serial), id)));
        self.addresses.extend(machine.ip.map(|ip| (ip, id)));
        if let Some(mac) = bmc_mac(machine) {
            self.bmcs.entry(mac).or_default().insert(id);
        }
        self.without_mac += usize::from(has_unknown_mac(machine));
        self.with_shared_address += usize::from(shares_address(machine));
    }

    fn unlink(&mut self, id: MachineId, machine: &Machine) {
        for mac in &machine.macs {
            self.macs.remove(mac);
        }
        if let Some(uuid) = machine.uuid {
            self.uuids.remove(&in_either_order(uuid));
        }
        if let Some(port) = &machine.relay_port {
            self.ports.remove(port);
        }
        let serial = machine.serial.as_deref().map(serial_key);
        if let Some(serial) = serial.filter(|serial| self.serials.get(serial) == Some(&id)) {
            self.serials.remove(&serial);
        }
        if let Some(ip) = machine.ip {
            self.addresses.remove(&ip);
        }
        if let Some(mac) = bmc_mac(machine)
            && let Some(hosts) = self.bmcs.get_mut(&mac)
        {
            hosts.remove(&id);
            if hosts.is_empty() {
                self.bmcs.remove(&mac);
            }
        }
        self.without_mac -= usize::from(has_unknown_mac(machine));
        self.with_shared_address -= usize::from(shares_address(machine));
    }
}

/// The card of a machine's BMC, where it is known.
pub(super) fn bmc_mac(machine: &Machine) -> Option<Mac> {
    machine.bmc.as_ref()?.mac
}

fn shares_address(machine: &Machine) -> bool {
    machine.ip.is_some() && (machine.macs.len() > 1 || has_unknown_mac(machine))
}

/// Whether a card that no machine is configured with may turn out to be this machine's. By a serial number alone none does:
/// DHCP does not show it, and the machine gets its MAC when it is heard.
fn has_unknown_mac(machine: &Machine) -> bool {
    machine.macs.is_empty() && (machine.uuid.is_some() || machine.relay_port.is_some())
}

/// A machine in words.
fn called(machine: &Machine) -> String {
    let identity = || Identity::all(machine).next().map(|identity| format!("the machine with {identity}"));
    machine.name.clone().or_else(identity).unwrap_or_else(|| "a machine without name and identity".to_owned())
}
