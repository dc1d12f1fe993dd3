//! Which machines have a serial number: by what people say of them, and by what they have reported.

use std::collections::{BTreeSet, HashMap};

use super::record::Record;
use crate::config::{is_serial, serial_key};

/// The machines by their serial numbers.
#[derive(Debug, Default)]
pub(super) struct Serials {
    /// No two have the same; where what was damaged has it twice, the first one.
    written: HashMap<String, u64>,
    reported: HashMap<String, BTreeSet<u64>>,
}

impl Serials {
    pub(super) fn put(&mut self, record: &Record) {
        if let Some(serial) = &record.spec.serial {
            self.written.entry(serial_key(serial)).or_insert(record.id);
        }
        if let Some(serial) = reported(record) {
            self.reported.entry(serial).or_default().insert(record.id);
        }
    }

    pub(super) fn remove(&mut self, record: &Record) {
        let written = record.spec.serial.as_ref().map(|serial| serial_key(serial));
        if let Some(serial) = written.filter(|serial| self.written.get(serial) == Some(&record.id)) {
            self.written.remove(&serial);
        }
        if let Some(serial) = reported(record)
            && let Some(ids) = self.reported.get_mut(&serial)
        {
            ids.remove(&record.id);
            if ids.is_empty() {
                self.reported.remove(&serial);
            }
        }
    }

    /// The machine that somebody says has this serial number.
    pub(super) fn written(&self, serial: &str) -> Option<u64> {
        self.written.get(&serial_key(serial)).copied()
    }

    /// The machines that have reported this serial number.
    pub(super) fn reported(&self, serial: &str) -> impl Iterator<Item = u64> {
        self.reported.get(&serial_key(serial)).into_iter().flatten().copied()
    }
}

fn reported(record: &Record) -> Option<String> {
    let serial = &record.inventory.as_ref()?.system.serial;
    is_serial(serial).then(|| serial_key(serial))
}
