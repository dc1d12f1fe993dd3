//! Switch ports and the machines that are plugged in there.

use std::collections::HashMap;

use crate::config::RelayPort;

/// Machines by switch port. At most one machine's port fits what a relay says.
#[derive(Debug)]
pub(super) struct Ports<M>(HashMap<Box<[u8]>, Circuit<M>>);

/// The machines with one circuit identifier.
#[derive(Debug)]
enum Circuit<M> {
    /// At whichever relay.
    EveryRelay(M),
    /// By remote identifier: every switch of a kind has a port of this name.
    Relays(HashMap<Box<[u8]>, M>),
}

impl<M> Default for Ports<M> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<M: Copy + PartialEq> Ports<M> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The machine whose port a relay names.
    pub(super) fn find(&self, circuit_id: &[u8], remote_id: Option<&[u8]>) -> Option<M> {
        match self.0.get(circuit_id)? {
            Circuit::EveryRelay(machine) => Some(*machine),
            Circuit::Relays(machines) => machines.get(remote_id?).copied(),
        }
    }

    /// A machine whose port is this one too, or may be for a relay.
    pub(super) fn overlapping(&self, port: &RelayPort, but: Option<M>) -> Option<M> {
        let is_other = |machine: &&M| Some(**machine) != but;
        match (self.0.get(&port.circuit_id[..])?, &port.remote_id) {
            (Circuit::EveryRelay(machine), _) => Some(machine).filter(is_other),
            (Circuit::Relays(machines), Some(remote_id)) => machines.get(&remote_id[..]).filter(is_other),
            (Circuit::Relays(machines), None) => machines.values().find(is_other),
        }
        .copied()
    }

    /// Nothing may be [overlapping](Self::overlapping).
    pub(super) fn insert(&mut self, port: &RelayPort, machine: M) {
        let circuit_id = port.circuit_id.clone().into_boxed_slice();
        match &port.remote_id {
            None => drop(self.0.insert(circuit_id, Circuit::EveryRelay(machine))),
            Some(remote_id) => {
                let circuit = self.0.entry(circuit_id).or_insert_with(|| Circuit::Relays(HashMap::new()));
                if let Circuit::Relays(machines) = circuit {
                    machines.insert(remote_id.clone().into_boxed_slice(), machine);
                }
            }
        }
    }

    pub(super) fn remove(&mut self, port: &RelayPort) {
        let is_free = match (self.0.get_mut(&port.circuit_id[..]), &port.remote_id) {
            (Some(Circuit::Relays(machines)), Some(remote_id)) => {
                machines.remove(&remote_id[..]);
                machines.is_empty()
            }
            (Some(Circuit::EveryRelay(_)), None) => true,
            _ => false,
        };
        if is_free {
            self.0.remove(&port.circuit_id[..]);
        }
    }
}
