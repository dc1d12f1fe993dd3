//! The machines that people and rules manage while xpxe runs, beside those of the configuration.
//!
//! A [`Record`] is one of them: what people say of it ([`Spec`]), what is wanted of it and where it stands. The
//! [`Registry`] finds records and says when one is to be looked at; what changes one stores it first, and puts it here when
//! that is done.

mod boards;
mod changes;
mod query;
mod record;
mod serials;
#[cfg(test)]
mod tests;
mod unreadable;
mod unserved;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::config::Machine;
use crate::lifecycle::{Rules, State};
use crate::machines::MachineId;
use boot_agent_protocol::Inventory;

use boards::Boards;
pub use boards::{BoardMark, another_board};
use changes::Changes;
pub use changes::{Deleted, MOST_DELETED, Newer, Untold};
pub use query::Query;
pub use record::{Record, Sealed, Spec, SwitchPort};
use serials::Serials;

/// Whether a record's machine is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// As this machine.
    Served(MachineId),
    /// It is not, for this reason: something of its is another machine's, of the configuration for example, or it does not fit
    /// the configuration. Whoever shows what is left of it is this machine, and waits.
    Waits(MachineId, String),
    /// The same, and nothing is left of it.
    Shadowed(String),
}

impl Place {
    /// Why it is not served, if it is not.
    #[must_use]
    pub fn unserved(&self) -> Option<&str> {
        match self {
            Self::Served(_) => None,
            Self::Waits(_, why) | Self::Shadowed(why) => Some(why),
        }
    }
}

/// A record with what it is served as.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What is stored.
    pub record: Arc<Record>,
    /// What it was checked to be.
    pub machine: Arc<Machine>,
    /// Whether it is served.
    pub place: Place,
}

/// The records.
#[derive(Debug, Default)]
pub struct Registry {
    entries: BTreeMap<u64, Entry>,
    /// In lower case.
    names: HashMap<String, u64>,
    /// When a record is to be looked at next, in Unix seconds.
    due: BTreeSet<(u64, u64)>,
    due_of: HashMap<u64, u64>,
    counts: BTreeMap<State, usize>,
    /// How many have asked and nobody has written anything of, nor decided about.
    strangers: usize,
    overdue: BTreeSet<u64>,
    boards: Boards,
    serials: Serials,
    changes: Changes,
    unserved: BTreeSet<u64>,
    last_id: u64,
    revision: u64,
}

impl Registry {
    /// Puts a record in the place of what it was.
    pub fn put(&mut self, entry: Entry, rules: &Rules) {
        let record = Arc::clone(&entry.record);
        self.remove(record.id);
        self.last_id = self.last_id.max(record.id);
        self.revision = self.revision.max(record.revision);
        // What was damaged may have a name twice: the first one has it.
        if let Some(name) = &record.spec.name {
            self.names.entry(name.to_lowercase()).or_insert(record.id);
        }
        *self.counts.entry(record.status.state).or_default() += 1;
        self.strangers += usize::from(is_stranger(&record));
        if record.status.is_overdue {
            self.overdue.insert(record.id);
        }
        self.boards.put(&record);
        self.serials.put(&record);
        self.changes.put(record.revision, record.id);
        if entry.place.unserved().is_some() {
            self.unserved.insert(record.id);
        }
        if let Some(due) = record.due(rules) {
            self.due.insert((due, record.id));
            self.due_of.insert(record.id, due);
        }
        self.entries.insert(record.id, entry);
    }

    /// Removes a record.
    pub fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        let name = entry.record.spec.name.as_ref().map(|name| name.to_lowercase());
        if let Some(name) = name.filter(|name| self.names.get(name) == Some(&id)) {
            self.names.remove(&name);
        }
        if let Some(due) = self.due_of.remove(&id) {
            self.due.remove(&(due, id));
        }
        self.overdue.remove(&id);
        self.boards.remove(&entry.record);
        self.serials.remove(&entry.record);
        self.changes.replace(entry.record.revision, id);
        self.unserved.remove(&id);
        if let Some(count) = self.counts.get_mut(&entry.record.status.state) {
            *count -= 1;
        }
        self.strangers -= usize::from(is_stranger(&entry.record));
        Some(entry)
    }

    /// A record.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// The record of another machine that has a mark of the board that one reports, and the mark. One that somebody has
    /// accepted goes before those that have only asked, which may have reported anything.
    #[must_use]
    pub fn same_board(&self, id: u64, reported: &Inventory) -> Option<(BoardMark, &Entry)> {
        let (marks, mut stranger) = (BoardMark::reported(reported), None);
        for mark in &marks {
            for entry in self.boards.others(mark, id).filter_map(|other| self.get(other)) {
                if entry.record.status.state != State::Discovered {
                    return Some((mark.clone(), entry));
                }
                stranger.get_or_insert_with(|| (mark.clone(), entry));
            }
        }
        stranger
    }

    /// The record that somebody says has this serial number.
    #[must_use]
    pub fn with_serial(&self, serial: &str) -> Option<&Entry> {
        self.get(self.serials.written(serial)?)
    }

    /// The records whose machines have reported this serial number.
    pub fn that_reported(&self, serial: &str) -> impl Iterator<Item = &Entry> {
        self.serials.reported(serial).filter_map(|id| self.get(id))
    }

    /// The record with this name, without regard to case.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Entry> {
        self.get(*self.names.get(&name.to_lowercase())?)
    }

    /// All records, in the order of their numbers.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// All records from behind a number on, in the order of their numbers.
    pub fn after(&self, id: u64) -> impl Iterator<Item = &Entry> {
        self.entries.range(id.saturating_add(1)..).map(|(_, entry)| entry)
    }

    /// The number of the next record: the microseconds of the wall clock, or one more than any that is known. The number of a
    /// record that was deleted is nobody else's, also after a restart, when nobody knows of it any more. A JSON number can have
    /// it until the year 2255.
    pub fn take_id(&mut self, now: Duration) -> u64 {
        let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.last_id = now.max(self.last_id.saturating_add(1));
        self.last_id
    }

    /// The number of the next change.
    #[must_use]
    pub fn next_revision(&self) -> u64 {
        self.revision + 1
    }

    /// Takes down that a record had this number, though it cannot be read or was deleted.
    pub fn note_id(&mut self, id: u64) {
        self.last_id = self.last_id.max(id);
    }

    /// Takes down that a change had this number, though its record is not there any more.
    pub fn note_revision(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// The records that are to be looked at by now, at most so many. `now` is in Unix seconds.
    #[must_use]
    pub fn due(&self, now: u64, most: usize) -> Vec<u64> {
        self.due.range(..=(now, u64::MAX)).take(most).map(|(_, id)| *id).collect()
    }

    /// How many records are in each state.
    #[must_use]
    pub fn counts(&self) -> Vec<(State, usize)> {
        State::ALL.map(|state| (state, self.counts.get(&state).copied().unwrap_or(0))).to_vec()
    }

    /// How many machines are there only because they have asked: nobody has written anything of them, nor decided about them.
    #[must_use]
    pub fn count_strangers(&self) -> usize {
        self.strangers
    }

    /// How many are in their state for longer than they should be.
    #[must_use]
    pub fn count_overdue(&self) -> usize {
        self.overdue.len()
    }

    /// Those that are not served.
    pub fn unserved(&self) -> impl Iterator<Item = &Entry> {
        self.unserved.iter().filter_map(|id| self.get(*id))
    }

    /// How many are not served.
    #[must_use]
    pub fn count_unserved(&self) -> usize {
        self.unserved.len()
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn is_stranger(record: &Record) -> bool {
    record.status.state == State::Discovered && record.is_unwritten()
}
