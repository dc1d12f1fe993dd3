//! Which records were changed, and which were deleted, in the order of their changes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, Registry};

/// How many deletions are remembered.
pub const MOST_DELETED: usize = 10_000;

/// A record that is not there any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The number that it had.
    pub id: u64,
    /// How people called it; nothing if it was deleted before this start.
    pub called: Option<String>,
}

/// What has become of a record.
#[derive(Clone, Copy, Debug)]
pub enum Newer<'r> {
    /// It is this now.
    Record(&'r Entry),
    /// It is gone.
    Deleted(&'r Deleted),
}

/// Why changes cannot be told from a revision on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untold {
    /// Machines were deleted since, and it is forgotten which.
    #[error(
        "which machines were deleted since revision {0} is not known any more: list all machines again, and begin from the \
         revision of that list"
    )]
    Forgotten(u64),
    /// There was no such change yet.
    #[error(
        "there is no revision {0} yet, the last one is {1}: what you have listed is of another registry; list all machines \
         again"
    )]
    Future(u64, u64),
}

/// The changes by their numbers.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The last change of each record, with the record's number.
    records: BTreeSet<(u64, u64)>,
    deleted: BTreeMap<u64, Deleted>,
    /// The greatest number of a deletion that is forgotten.
    forgotten: u64,
    /// The greatest number of a change that was made.
    last: u64,
}

impl Changes {
    pub(super) fn put(&mut self, revision: u64, id: u64) {
        self.records.insert((revision, id));
        self.last = self.last.max(revision);
    }

    /// A record has another change, or is deleted.
    pub(super) fn replace(&mut self, revision: u64, id: u64) {
        self.records.remove(&(revision, id));
    }

    fn delete(&mut self, revision: u64, deleted: Deleted) {
        self.last = self.last.max(revision);
        self.deleted.insert(revision, deleted);
        while self.deleted.len() > MOST_DELETED
            && let Some((revision, _)) = self.deleted.pop_first()
        {
            self.forgotten = self.forgotten.max(revision);
        }
    }
}

impl Registry {
    /// The number of the last change that was made. [`Registry::next_revision`] may be further: a change that could not be
    /// stored had a number, too.
    #[must_use]
    pub fn last_change(&self) -> u64 {
        self.changes.last
    }

    /// Takes down which change has deleted a record.
    pub fn note_deleted(&mut self, revision: u64, deleted: Deleted) {
        self.note_revision(revision);
        self.changes.delete(revision, deleted);
    }

    /// What was changed behind a revision, in the order of the changes, each record once and as it is now.
    ///
    /// # Errors
    /// Nobody knows.
    pub fn newer(&self, since: u64) -> Result<impl Iterator<Item = (u64, Newer<'_>)>, Untold> {
        let Changes { records, deleted, forgotten, last } = &self.changes;
        // Who begins at the beginning knows no machine that could be gone.
        if since > 0 && since < *forgotten {
            return Err(Untold::Forgotten(since));
        }
        if since > *last {
            return Err(Untold::Future(since, *last));
        }
        let next = since.saturating_add(1);
        let mut records = records.range((next, 0)..).peekable();
        let mut deleted = deleted.range(next..).peekable();
        let merged = std::iter::from_fn(move || {
            let record_at = records.peek().map(|(revision, _)| *revision);
            let deleted_at = deleted.peek().map(|(revision, _)| **revision);
            let is_record = record_at.is_some_and(|at| deleted_at.is_none_or(|other| at <= other));
            if is_record {
                let (revision, id) = records.next()?;
                return Some((*revision, self.get(*id).map(Newer::Record)));
            }
            let (revision, deleted) = deleted.next()?;
            Some((*revision, Some(Newer::Deleted(deleted))))
        });
        Ok(merged.filter_map(|(revision, newer)| Some((revision, newer?))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{entry, record, rules};
    use super::*;
    use crate::lifecycle::State;

    fn told(registry: &Registry, since: u64) -> Vec<(u64, u64, bool)> {
        let newer = registry.newer(since).unwrap();
        let told = newer.map(|(revision, newer)| match newer {
            Newer::Record(entry) => (revision, entry.record.id, true),
            Newer::Deleted(deleted) => (revision, deleted.id, false),
        });
        told.collect()
    }

    #[test]
    fn a_record_is_told_once_as_it_is_now_and_so_is_its_end() {
        let mut registry = Registry::default();
        for id in 1..=3 {
            registry.put(entry(record(id, "x", State::Ready)), &rules());
        }
        assert_eq!(told(&registry, 0), [(1, 1, true), (2, 2, true), (3, 3, true)]);
        let mut changed = record(1, "x", State::Running);
        changed.revision = 4;
        registry.put(entry(changed), &rules());
        assert_eq!(told(&registry, 0), [(2, 2, true), (3, 3, true), (4, 1, true)]);
        registry.remove(2);
        registry.note_deleted(5, Deleted { id: 2, called: None });
        assert_eq!(told(&registry, 3), [(4, 1, true), (5, 2, false)]);
        assert_eq!((told(&registry, 5), registry.last_change()), (vec![], 5));
        // A number that was given to a change that could not be stored is no change.
        registry.note_revision(6);
        assert_eq!((registry.last_change(), registry.next_revision()), (5, 7));
        assert_eq!(registry.newer(6).err(), Some(Untold::Future(6, 5)));
    }

    #[test]
    fn whoever_has_missed_a_deletion_that_is_forgotten_is_told_so() {
        let mut registry = Registry::default();
        let most = u64::try_from(MOST_DELETED).unwrap();
        for revision in 1..=most + 2 {
            registry.note_deleted(revision, Deleted { id: revision, called: None });
        }
        assert_eq!(registry.newer(1).err(), Some(Untold::Forgotten(1)));
        assert_eq!(told(&registry, 0).len(), MOST_DELETED, "who begins has missed none");
        assert_eq!(told(&registry, 2).len(), MOST_DELETED, "all behind the last one that is forgotten");
    }
}
