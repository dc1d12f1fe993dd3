//! Records that cannot be read. Their machines wait, known by what can be read of them, until somebody has deleted the records:
//! an unknown machine in their place may be accepted by a rule, and wiped. The records themselves stay as they are, for the
//! version of xpxe that can read them.

use std::collections::BTreeMap;

use tracing::error;

use super::Keeper;
use super::changes::{is_readable, served};
use super::unserved::{Names, wait_at_start};
use crate::daemon::request::RegistryError;
use crate::store::Unreadable;
use boot_engine::config::Config;
use boot_engine::lifecycle::State;
use boot_engine::machines::Machines;
use boot_engine::registry::{Entry, Record};

/// What stands for them, by their numbers.
pub(super) type UnreadableRecords = BTreeMap<u64, Entry>;

/// What stands for a record, before anybody serves.
pub(super) fn stand_in(
    id: u64,
    Unreadable { why, name, state, record }: Unreadable,
    machines: &Machines,
    config: &Config,
    names: &Names,
) -> Entry {
    let record = Record::unreadable(id, name, state.parse().unwrap_or(State::Maintenance), &record);
    let why = format!("what is stored of it cannot be read: {why}");
    let called = record.called();
    let (machine, place) = wait_at_start(&record, why.clone(), machines, config, names);
    let meanwhile = match is_readable(&machine) {
        true => "It waits",
        false => "Nothing says which machine it is, so no rule accepts a machine",
    };
    error!(
        "{called} of the registry is not served: {why}. {meanwhile} until xpxe is started in the version that has written that, or it is \
         deleted (xpxe machines delete id:{id}) and added anew"
    );
    Entry { record: record.into(), machine, place }
}

impl Keeper {
    /// A record, by `id:` with its number, by `serial:` with its serial number, or by name, MAC, UUID, or number.
    pub(super) fn find(&self, which: &str) -> Result<&Entry, RegistryError> {
        match (self.find_readable(which), self.find_unreadable(which)) {
            (Err(RegistryError::Unknown(_)), Some(Entry { record, .. })) => {
                Err(RegistryError::Unreadable { called: record.called(), id: record.id })
            }
            (found, _) => found,
        }
    }

    /// What stands for a record that cannot be read.
    pub(super) fn find_unreadable(&self, which: &str) -> Option<&Entry> {
        if self.unreadable.is_empty() {
            return None;
        }
        let number = || which.strip_prefix("id:").unwrap_or(which).parse::<u64>().ok();
        let by_mark = || self.known(which)?.life.map(|life| life.record);
        let is_named = |entry: &&Entry| {
            entry.record.spec.name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(which))
        };
        let by_number = by_mark().or_else(number).and_then(|id| self.unreadable.get(&id));
        by_number.or_else(|| self.unreadable.values().find(is_named))
    }

    /// Whether an unknown machine may be one whose record nobody can read.
    pub(super) fn may_hide_machines(&self) -> bool {
        self.unreadable.values().any(|entry| !is_readable(&entry.machine))
    }

    /// The configuration is another one: something of these machines may be others' now, or theirs again.
    pub(super) async fn place_unreadable(&mut self, names: &Names) {
        for (id, mut entry) in self.unreadable.clone() {
            let before = served(&entry.place).filter(|id| self.machines.get(*id).is_some());
            let why = entry.place.unserved().unwrap_or_default().to_owned();
            (entry.machine, entry.place) = self.have_wait(before, &entry.record, why, names).await;
            self.unreadable.insert(id, entry);
        }
    }
}
