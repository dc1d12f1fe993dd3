//! Records that cannot be read. Their machines wait, known by what can be read of them, until somebody has deleted the records:
//! an unknown machine in their place may be accepted by a rule, and wiped. The records themselves stay as they are, for the
//! version of xpxe that can read them.

use boot_common::Mac;
use tracing::{error, warn};

use super::Keeper;
use super::changes::{is_readable, served};
use super::unserved::{Names, wait_at_start};
use crate::daemon::request::RegistryError;
use crate::store::Unreadable;
use boot_engine::config::Config;
use boot_engine::lifecycle::State;
use boot_engine::machines::Machines;
use boot_engine::registry::{Entry, Record, Spec};

/// What stands for a record, before anybody serves.
pub(super) fn stand_in(
    id: u64,
    Unreadable { why, name, state, record }: Unreadable,
    machines: &Machines,
    config: &Config,
    names: &Names,
) -> Entry {
    let record = Record::unreadable(id, name, state.parse().unwrap_or(State::Maintenance), &record);
    // Consoles show the beginning.
    let why = format!(
        "what is stored of it cannot be read; start the version of xpxe that has written it, or delete it (xpxe machines delete id:{id}) \
         and add it anew, which has it wiped where a rule accepts it and agents wipe: {why}"
    );
    let called = record.called();
    let (machine, place) = wait_at_start(&record, why.clone(), machines, config, names);
    let meanwhile = match is_readable(&machine) {
        true => "it waits",
        false => {
            "it gets what unknown machines get, since nothing says which machine it is, and no rule accepts a machine"
        }
    };
    error!("{called} of the registry is not served: {why}. Until then: {meanwhile}");
    Entry { record: record.into(), machine, place }
}

impl Keeper {
    /// A record, by `id:` with its number, by `serial:` with its serial number, or by name, MAC, UUID, or number.
    pub(super) fn find(&self, which: &str) -> Result<&Entry, RegistryError> {
        match (self.find_readable(which), self.find_unreadable(which)) {
            (Err(RegistryError::Unknown(_)), Some(Entry { record, .. })) => Err(unreadable(record)),
            (found, _) => found,
        }
    }

    /// What stands for a record that cannot be read.
    pub(super) fn find_unreadable(&self, which: &str) -> Option<&Entry> {
        if self.unreadable.is_empty() {
            return None;
        }
        if let Some(serial) = which.strip_prefix("serial:") {
            return self.unreadable.with_serial(serial);
        }
        let number = || which.strip_prefix("id:").unwrap_or(which).parse::<u64>().ok();
        let by_mark = || self.known(which)?.life.map(|life| life.record);
        let by_number = by_mark().or_else(number).and_then(|id| self.unreadable.get(id));
        by_number.or_else(|| self.unreadable.named(which))
    }

    /// The record that somebody says has this serial number, whether it can be read or not.
    pub(super) fn with_serial(&self, serial: &str) -> Option<&Entry> {
        self.registry.with_serial(serial).or_else(|| self.unreadable.with_serial(serial))
    }

    /// Whether a record that cannot be read has the name or the serial number of this one: when it can be read again, two machines
    /// would have it.
    pub(super) fn is_of_no_unreadable(&self, record: &Record) -> Result<(), RegistryError> {
        let Spec { name, serial, .. } = &record.spec;
        let by_name = name.as_ref().and_then(|name| self.unreadable.named(name));
        let by_serial = || self.unreadable.with_serial(serial.as_ref()?);
        by_name.or_else(by_serial).map_or(Ok(()), |other| Err(unreadable(&other.record)))
    }

    /// Why what was seen of a machine is not taken down, whose record is not there or cannot be read.
    pub(super) fn not_taken_down(&self, id: u64) -> RegistryError {
        let Some(entry) = self.unreadable.get(id) else { return RegistryError::Unknown(id.to_string()) };
        let error = unreadable(&entry.record);
        warn!("a report of {} is not taken down: {error}", entry.record.called());
        error
    }

    /// A machine says the serial number of an expected one whose record cannot be read: it waits as that one.
    pub(super) async fn meet_unreadable(&mut self, id: u64, mac: Mac) {
        let Some(mut entry) = self.unreadable.get(id).cloned() else { return };
        let mut record = (*entry.record).clone();
        record.spec.mac = vec![mac.to_string()];
        entry.record = record.into();
        let names = Names::of(&self.config());
        self.place_one_unreadable(entry, &names).await;
    }

    /// Whether an unknown machine may be one whose record nobody can read.
    pub(super) fn may_hide_machines(&self) -> bool {
        self.unreadable.all().any(|entry| !is_readable(&entry.machine))
    }

    /// The configuration is another one: something of these machines may be others' now, or theirs again.
    pub(super) async fn place_unreadable(&mut self, names: &Names) {
        let entries: Vec<Entry> = self.unreadable.all().cloned().collect();
        for entry in entries {
            self.place_one_unreadable(entry, names).await;
        }
    }

    async fn place_one_unreadable(&mut self, mut entry: Entry, names: &Names) {
        let before = served(&entry.place).filter(|id| self.machines.get(*id).is_some());
        let why = entry.place.unserved().unwrap_or_default().to_owned();
        (entry.machine, entry.place) = self.have_wait(before, &entry.record, why, names).await;
        self.unreadable.put(entry, &self.rules);
    }
}

fn unreadable(record: &Record) -> RegistryError {
    RegistryError::Unreadable { called: record.called(), id: record.id }
}
