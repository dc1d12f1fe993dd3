//! `relay_port`: the switch port that tells a machine from others, as it stands in the file and as what it becomes.

use std::collections::HashMap;

use super::bytes;
use super::checked::RelayPort;
use super::reader::Table;
use super::report::{At, Place, Report};

/// A port as it stands in the file.
pub(super) struct Written {
    place: Place,
    circuit_id: Option<At<String>>,
    remote_id: Option<At<String>>,
    /// The file says something about it, even if it could not be read.
    has_remote_id: bool,
}

/// The port of a machine, if it has one.
pub(super) fn read(machine: &Table<'_>, report: &mut Report<'_>) -> Option<Written> {
    if !machine.is_table("relay_port") {
        let at = machine.text("relay_port", "Ethernet1/7", report)?;
        let place = at.place.clone();
        return Some(Written { place, circuit_id: Some(at), remote_id: None, has_remote_id: false });
    }
    let table = machine.table("relay_port", &["circuit_id", "remote_id"], report)?;
    Some(Written {
        circuit_id: table.required_text("circuit_id", "Ethernet1/7", report),
        remote_id: table.text("remote_id", "switch1", report),
        has_remote_id: table.has("remote_id"),
        place: table.place,
    })
}

/// The ports so far.
#[derive(Default)]
pub(super) struct Seen<'f> {
    ports: HashMap<RelayPort, &'f Place>,
    /// The first port with this circuit at some relay.
    circuits: HashMap<Vec<u8>, &'f Place>,
}

/// The port, which no other machine may have.
pub(super) fn check<'f>(
    written: &'f Written,
    seen: &mut Seen<'f>,
    report: &mut Report<'_>,
) -> Option<RelayPort> {
    let circuit_id = written.circuit_id.as_ref().and_then(|at| at.read(report, bytes::relay_value));
    let remote_id = written.remote_id.as_ref().and_then(|at| at.read(report, bytes::relay_value));
    if written.has_remote_id && remote_id.is_none() {
        return None;
    }
    let port = RelayPort { circuit_id: circuit_id?, remote_id };
    if let Some(before) = seen.ports.get(&port) {
        let before = report.name(before, &written.place);
        report.add(&written.place, format!("this relay port is already at {before}; remove one"));
        return Some(port);
    }
    let overlapping = match port.remote_id {
        Some(_) => seen.ports.get(&RelayPort { remote_id: None, ..port.clone() }),
        None => seen.circuits.get(&port.circuit_id),
    };
    if let Some(before) = overlapping {
        let before = report.name(before, &written.place);
        let message = format!(
            "{before} has the same circuit_id, and one of them is for every relay; write remote_id in both"
        );
        report.add(&written.place, message);
    }
    if port.remote_id.is_some() {
        seen.circuits.entry(port.circuit_id.clone()).or_insert(&written.place);
    }
    seen.ports.insert(port.clone(), &written.place);
    Some(port)
}
