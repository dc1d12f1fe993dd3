//! What survives a restart: the leases, in SQLite under `state_dir`, and before it in a journal.
//!
//! A commit returns when its data is on the disk: in the journal, which costs one small write and one fdatasync. From there
//! it goes into the database when there is time. Who opens the store brings into the database what an earlier process has
//! left in the journal. One process at a time may change anything; others read both and see the same.

pub mod boot_parameters;
mod copied;
mod copy;
mod database;
mod encoding;
mod error;
mod file_id;
mod journal;
#[cfg(test)]
mod kept_tests;
mod lease;
mod loss;
mod machines;
mod overlay;
#[cfg(test)]
mod places;
mod postgres;
mod sql;
#[cfg(test)]
mod tests;
mod write;
mod writer;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;

use database::Database;
use journal::Found;
use loss::Loss;
use postgres::Postgres;
use writer::Writer;

use boot_engine::config;
use boot_engine::registry::Record;

pub use boot_engine::leases::{Change, HoldCause, Lease, LeaseState};
pub use copy::Copy;
pub use error::StoreError;
pub use machines::{Unreadable, number_of as machine_number};
pub use overlay::overlay;
pub use postgres::{Remote, Trouble};

use crate::host::clock;
use crate::host::lock::{Lock, LockError};

const FILE: &str = "xpxe.db";
/// The journals are named as the database is, so that whoever moves `xpxe.db*` moves them too.
const JOURNALS: [&str; 2] = ["xpxe.db-leases0", "xpxe.db-leases1"];
/// The open store.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    /// None while another process may change the store: this one only reads.
    writer: Option<Writer>,
    /// The database that the file is a copy of, if it is one.
    postgres: Option<Postgres>,
    location: Location,
}

/// Which file an error is about.
#[derive(Clone, Debug)]
struct Location {
    /// The database.
    file: Arc<Path>,
    /// The path that errors name.
    shown: Arc<Path>,
}

/// What is waited for: that changes are durable, or why they cannot be.
pub type Committed = oneshot::Receiver<Result<(), StoreError>>;

/// Takes `state_dir`, which is made where it is not there, for this process: as long as what is given lives. Who only copies
/// it is waited for.
///
/// # Errors
/// Another process has it, or it cannot be made or opened.
pub fn lock(state_dir: &Path) -> Result<Lock, StoreError> {
    let made = database::create_directory(state_dir);
    made.map_err(|error| Location::in_dir(state_dir).explain_io(error))?;
    Lock::alone(state_dir).map_err(|error| not_locked(state_dir, error))
}

/// Keeps everybody from changing what is in `state_dir`, as long as what is given lives. A daemon that starts waits
/// meanwhile.
///
/// # Errors
/// A process has it that may change it, or it cannot be opened.
pub fn lock_to_copy(state_dir: &Path) -> Result<Lock, StoreError> {
    Lock::shared(state_dir).map_err(|error| not_locked(state_dir, error))
}

fn not_locked(state_dir: &Path, error: LockError) -> StoreError {
    match error {
        LockError::Held(pid) => StoreError::InUse { state_dir: state_dir.to_path_buf(), pid },
        LockError::Io(error) => Location::in_dir(state_dir).explain_io(error),
    }
}

impl Store {
    /// Opens `xpxe.db` in `state_dir`, creates both if they are missing, and brings the tables up to date. While another
    /// process has it, it can only be read.
    ///
    /// # Errors
    /// What is wrong with it, and what helps.
    pub async fn open(state_dir: &Path) -> Result<Self, StoreError> {
        match lock(state_dir) {
            Ok(lock) => Self::open_with(state_dir, Some(lock)).await,
            Err(StoreError::InUse { .. }) => Self::open_with(state_dir, None).await,
            Err(error) => Err(error),
        }
    }

    /// The same for the process that has the lock, which may change it.
    ///
    /// # Errors
    /// As for [`Store::open`].
    pub async fn open_alone(state_dir: &Path, lock: Lock) -> Result<Self, StoreError> {
        Self::open_with(state_dir, Some(lock)).await
    }

    async fn open_with(state_dir: &Path, lock: Option<Lock>) -> Result<Self, StoreError> {
        let location = Location::in_dir(state_dir);
        let opened = Self::open_at(&location, state_dir, lock).await;
        opened.map_err(|error| match look(&location) {
            Ok(found) if found.iter().any(|found| !found.changes.is_empty()) => {
                error.with_leases_in_journals()
            }
            _ => error,
        })
    }

    async fn open_at(location: &Location, state_dir: &Path, lock: Option<Lock>) -> Result<Self, StoreError> {
        let location = location.clone();
        let loss = prepare(state_dir, &location)?;
        let database = Database::open(location.clone()).await?;
        let Some(lock) = lock else { return Ok(Self { database, writer: None, postgres: None, location }) };
        let paths = location.journals();
        let found = look(&location)?;
        warn_of(loss, &found, &location, &database).await?;
        database.commit(&in_order(&found)).await?;
        // Of a journal whose head was damaged nobody knows the epoch, and records of that epoch must not count again.
        let clock = u64::try_from(clock::wall().as_nanos()).unwrap_or(0);
        let latest = found.iter().map(|found| found.epoch).max().unwrap_or(0).max(clock);
        let writer = Writer::start(paths.clone(), latest, database.clone(), location.clone(), lock);
        Ok(Self { database, writer: Some(writer?), postgres: None, location })
    }

    /// Has this file be the copy of a PostgreSQL database, or of none. Nobody may have read anything yet, because the
    /// file may become what the database has.
    ///
    /// # Errors
    /// The database is not for this file, or it is away and this file is no copy of it.
    pub async fn follow(self, postgres: Option<&config::Postgres>) -> Result<Self, StoreError> {
        let Some(settings) = postgres else {
            if self.database.copy.is_one() {
                self.database.end_copy().await?;
                tracing::info!(
                    "state_dir is no copy of a PostgreSQL database any more: both go on for themselves"
                );
            }
            return Ok(self);
        };
        let postgres = Postgres::start(settings, self.database.clone()).await?;
        Ok(Self { postgres: Some(postgres), ..self })
    }

    /// Why PostgreSQL takes nothing, if it does not. What is on this host's disk is not its matter.
    #[must_use]
    pub fn away(&self) -> Option<Trouble> {
        self.postgres.as_ref().and_then(Postgres::trouble)
    }

    /// What is known of the PostgreSQL database, if there is one.
    #[must_use]
    pub fn remote(&self) -> Option<Remote> {
        self.postgres.as_ref().map(Postgres::remote)
    }

    /// Waits until PostgreSQL has every lease that was committed, if there is one.
    ///
    /// # Errors
    /// When it does not take them: then they are on this host's disk.
    pub async fn deliver(&self) -> Result<(), StoreError> {
        self.settle().await?;
        match &self.postgres {
            Some(postgres) => postgres.deliver().await,
            None => Ok(()),
        }
    }

    /// All leases, in no particular order. A row that cannot be read is reported in the log and left out.
    ///
    /// # Errors
    /// When the database or the journal cannot be read.
    pub async fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        loop {
            let before = self.look().await?;
            let leases = self.database.leases().await?;
            // What leaves a journal meanwhile may be in neither.
            let after = self.look().await?;
            let epochs = |found: &[Found; 2]| found.each_ref().map(|found| found.epoch);
            if epochs(&before) == epochs(&after) {
                return Ok(overlay(leases, &in_order(&before)));
            }
        }
    }

    /// What the journals have. Reading them is done elsewhere: it may wait for the disk.
    async fn look(&self) -> Result<[Found; 2], StoreError> {
        let location = self.location.clone();
        let found = tokio::task::spawn_blocking(move || look(&location)).await;
        found.unwrap_or_else(|_| Ok(<[Found; 2]>::default()))
    }

    /// Begins to make all changes, in their order, or none. `Ok` comes when they survive a power cut.
    #[must_use]
    pub fn begin(&self, changes: Vec<Change>) -> Committed {
        if let Some(writer) = &self.writer {
            return writer.begin(changes);
        }
        let (reply, answer) = oneshot::channel();
        drop(reply.send(Err(self.location.busy())));
        answer
    }

    /// Makes all changes, in their order, or none. When it returns `Ok` they survive a power cut.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.wait(self.begin(changes.to_vec())).await
    }

    /// Waits for what was begun.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn wait(&self, begun: Committed) -> Result<(), StoreError> {
        begun.await.unwrap_or(Err(StoreError::Gone))
    }

    /// Writes to the disk as [`Store::commit`] does, and changes nothing.
    ///
    /// # Errors
    /// Why that is not possible.
    pub async fn try_to_write(&self) -> Result<(), StoreError> {
        // Nobody ever has this address.
        self.commit(&[Change::Lift([0; 4].into())]).await?;
        self.database.try_to_write().await
    }

    /// Why the database does not take what is in the journal, if it does not.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.writer.as_ref().and_then(Writer::trouble)
    }

    /// Makes the times of a clock later by so many seconds, which was set when it said `old`, in seconds since the Unix
    /// epoch. What was stored at a later time than that was so by another clock: at the start this one was wrong. Nothing
    /// may be committed meanwhile.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn shift(&self, seconds: i64, old: i64) -> Result<(), StoreError> {
        self.settle().await?;
        self.database.shift(seconds, old).await
    }

    /// Waits until the database has everything that was committed.
    ///
    /// # Errors
    /// When it does not take it: then the journal keeps it.
    pub async fn settle(&self) -> Result<(), StoreError> {
        let writer = self.writer.as_ref().ok_or_else(|| self.location.busy())?;
        self.wait(writer.settle()).await
    }

    /// The machines of the registry, in the order of their numbers; of a row that cannot be read what can be.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn machines(&self) -> Result<Vec<(i64, Result<Record, Unreadable>)>, StoreError> {
        self.database.machines().await
    }

    /// Stores machines of the registry in the place of what they were, and removes others, all or none. With the number of each
    /// that is removed comes the number of this change. When it returns `Ok` that survives a power cut.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn change_machines(&self, records: &[Record], gone: &[(u64, u64)]) -> Result<(), StoreError> {
        let _mine = self.writer.as_ref().ok_or_else(|| self.location.busy())?;
        let Some(postgres) = &self.postgres else {
            return self.database.change_machines(records, gone).await;
        };
        let ids = records.iter().map(|record| record.id).chain(gone.iter().map(|(id, _)| *id));
        let ids: Vec<i64> = ids.map(machines::row_of).collect();
        let before = self.database.machine_rows(&ids).await?;
        postgres.change(records, gone).await?;
        let stored = self.database.change_machines(records, gone).await;
        postgres.confirm(stored, ids, before).await
    }

    /// The greatest numbers of a machine and of a change that were ever given, those of deleted machines too.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn last_numbers(&self) -> Result<(u64, u64), StoreError> {
        self.database.with(async |connection| machines::last(connection).await).await
    }

    /// The machines that were deleted last, at most so many, with the numbers of these changes; the last one first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn deleted_machines(&self, most: usize) -> Result<Vec<(u64, u64)>, StoreError> {
        self.database.with(async |connection| machines::deleted(connection, most).await).await
    }

    /// Closes the store, so that the database has everything and no write-ahead log is left.
    pub async fn close(&self) {
        if let Some(writer) = &self.writer {
            // What fails stays in the journal.
            drop(self.deliver().await);
            writer.end().await;
        }
        if let Some(postgres) = &self.postgres {
            postgres.end().await;
        }
        self.database.disconnect().await;
    }
}

/// Makes the files that are missing, and says what of them has been lost before.
fn prepare(state_dir: &Path, location: &Location) -> Result<Loss, StoreError> {
    let loss = loss::look(&location.file);
    database::create_file(state_dir).map_err(|error| location.explain_io(error))?;
    Ok(loss)
}

/// Says what the files have lost.
async fn warn_of(
    loss: Loss,
    found: &[Found; 2],
    location: &Location,
    database: &Database,
) -> Result<(), StoreError> {
    loss.warn(&location.shown);
    let [first, second] = JOURNALS;
    if is_journal_lost(found, database).await? {
        let changes: usize = found.iter().map(|found| found.changes.len()).sum();
        let dir = location.shown.parent().unwrap_or(&location.shown).display();
        tracing::warn!(
            changes,
            "{first} or {second} in {dir} was deleted, emptied or replaced while no xpxe ran: {changes} changes of leases could be read from them. If xpxe was killed before, the latest leases are lost, unless the kernel's tables have them; their machines may be given other addresses"
        );
    }
    for (found, name) in found.iter().zip(JOURNALS).filter(|(found, _)| found.is_damaged) {
        let (changes, path) = (found.changes.len(), location.shown.with_file_name(name));
        let path = path.display();
        tracing::warn!(
            changes,
            "{path} was cut off or damaged: {changes} changes of leases could be read from it. The latest leases are lost, unless the kernel's tables have them; their machines may be given other addresses"
        );
    }
    Ok(())
}

/// Whether a journal that may have had leases is gone. During the very first start there are no leases, and perhaps not both
/// journals yet.
async fn is_journal_lost(found: &[Found; 2], database: &Database) -> Result<bool, StoreError> {
    let has_changes = found.iter().any(|found| !found.changes.is_empty());
    Ok(journal::is_one_missing(found) && (has_changes || database.has_leases().await?))
}

fn look(location: &Location) -> Result<[Found; 2], StoreError> {
    let read = |path: &Path| journal::read(path).map_err(|error| location.journal(path).explain_io(error));
    let [first, second] = location.journals();
    Ok([read(&first)?, read(&second)?])
}

/// What was committed first comes first.
fn in_order(found: &[Found; 2]) -> Vec<Change> {
    let mut found = found.each_ref();
    found.sort_by_key(|found| found.epoch);
    found.into_iter().flat_map(|found| found.changes.iter().cloned()).collect()
}
