//! What tells boards from each other whatever network cards they have, and which machines have it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use boot_agent_protocol::Inventory;

use super::record::Record;
use crate::config::{in_either_order, is_serial, parse_uuid, uuid_text};

/// A mark of a board, or of the slot that it is in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BoardMark {
    /// Its UUID, in one of the two byte orders.
    Uuid([u8; 16]),
    /// Its maker and its serial number.
    Serial(String, String),
    /// The address of its BMC.
    Bmc(String),
    /// A switch and its port, as they say by LLDP.
    Port(String, String),
}

/// As people read it.
impl fmt::Display for BoardMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => write!(f, "the UUID {}", uuid_text(*uuid)),
            Self::Serial(_, serial) => write!(f, "the serial number {serial}"),
            Self::Bmc(address) => write!(f, "the BMC {address}"),
            Self::Port(switch, port) => write!(f, "the switch port {port} of {switch}"),
        }
    }
}

impl BoardMark {
    /// Those that a board reports, the surest first.
    #[must_use]
    pub fn reported(inventory: &Inventory) -> Vec<Self> {
        let system = &inventory.system;
        let uuid = parse_uuid(&system.uuid.to_lowercase()).ok().map(|uuid| Self::Uuid(in_either_order(uuid)));
        let ports = inventory.nics.iter().filter_map(|nic| nic.lldp.as_ref());
        let ports = ports.filter(|lldp| !lldp.chassis.is_empty() && !lldp.port.is_empty());
        let serial = Self::serial(inventory);
        let bmc = inventory.bmc.clone().filter(|address| !address.is_empty()).map(Self::Bmc);
        let all = serial.into_iter().chain(uuid).chain(bmc);
        all.chain(ports.map(|lldp| Self::Port(lldp.chassis.clone(), lldp.port.clone()))).collect()
    }

    /// The serial number of the machine, if its maker has written one.
    #[must_use]
    pub fn serial(inventory: &Inventory) -> Option<Self> {
        let system = &inventory.system;
        is_serial(&system.serial).then(|| Self::Serial(system.vendor.clone(), system.serial.clone()))
    }
}

/// What a board was and what it is, where two inventories of one machine are of different boards.
#[must_use]
pub fn another_board(before: &Inventory, now: &Inventory) -> Option<(String, String)> {
    let differ = |before: &str, now: &str| is_serial(before) && is_serial(now) && before != now;
    let (old, new) = (&before.system, &now.system);
    if differ(&old.board_serial, &new.board_serial) {
        let say = |serial: &str| format!("the board {serial}");
        return Some((say(&old.board_serial), say(&new.board_serial)));
    }
    let (old, new) = (BoardMark::serial(before)?, BoardMark::serial(now)?);
    (old != new).then(|| (old.to_string(), new.to_string()))
}

/// The machines by their marks.
#[derive(Debug, Default)]
pub(super) struct Boards(HashMap<BoardMark, BTreeSet<u64>>);

impl Boards {
    pub(super) fn put(&mut self, record: &Record) {
        for mark in marks(record) {
            self.0.entry(mark).or_default().insert(record.id);
        }
    }

    pub(super) fn remove(&mut self, record: &Record) {
        for mark in marks(record) {
            if let Some(ids) = self.0.get_mut(&mark) {
                ids.remove(&record.id);
                if ids.is_empty() {
                    self.0.remove(&mark);
                }
            }
        }
    }

    /// The machines but this one that have the mark.
    pub(super) fn others(&self, mark: &BoardMark, but: u64) -> impl Iterator<Item = u64> {
        self.0.get(mark).into_iter().flatten().copied().filter(move |id| *id != but)
    }
}

/// What is known of a machine. Of BMCs what people say: addresses that a BMC once had may be another one's by now.
fn marks(record: &Record) -> Vec<BoardMark> {
    let reported = record.inventory.iter().flat_map(|inventory| BoardMark::reported(inventory));
    let reported = reported.filter(|mark| !matches!(mark, BoardMark::Bmc(_)));
    let bmc = record.spec.bmc.as_ref().and_then(|bmc| bmc.address.clone());
    reported.chain(bmc.map(BoardMark::Bmc)).collect()
}

#[cfg(test)]
mod tests {
    use boot_agent_protocol::System;

    use super::*;

    #[test]
    fn another_board_is_told_by_its_own_serial_number_first() {
        let with = |serial: &str, board: &str| {
            let (serial, board_serial) = (serial.to_owned(), board.to_owned());
            Inventory { system: System { serial, board_serial, ..System::default() }, ..Inventory::default() }
        };
        let (old, new) = another_board(&with("CZ12", "B1"), &with("CZ12", "B2")).unwrap();
        assert_eq!((old.as_str(), new.as_str()), ("the board B1", "the board B2"));
        let (old, new) = another_board(&with("CZ12", ""), &with("CZ13", "B2")).unwrap();
        assert_eq!((old.as_str(), new.as_str()), ("the serial number CZ12", "the serial number CZ13"));
        assert_eq!(another_board(&with("CZ12", "B1"), &with("CZ12", "B1")), None);
        assert_eq!(another_board(&with("CZ12", "B1"), &with("Default string", "")), None, "it says nothing");
    }
}
