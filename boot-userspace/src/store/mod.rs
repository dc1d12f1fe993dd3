//! What survives a restart: the leases, in SQLite under `state_dir`.
//!
//! There is one connection, because SQLite has one writer at a time. A commit returns when its data is on the
//! disk (WAL with `synchronous = FULL`: one fsync for each commit), so an address may be promised after it;
//! changes that are committed together share that one fsync.
//!
//! A connection on which anything failed is closed, and the next use opens another. After a full disk SQLite has ended the
//! transaction by itself and sqlx believes it to be open, and after a disk that was read-only the file is open for reading
//! only: such a connection would refuse every later commit.

mod error;
mod lease;
mod loss;
#[cfg(test)]
mod tests;
mod write;

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, SqliteConnection, SqlitePool};

pub use boot_engine::record::{Change, Lease, LeaseState};
pub use error::StoreError;
use loss::Loss;

use crate::host::lock::{Lock, LockError};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
const FILE: &str = "xpxe.db";
/// How long another process (a backup, the sqlite3 shell) may hold the database before a commit fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The open database.
#[derive(Clone, Debug)]
pub struct Store {
    writer: SqlitePool,
    location: Location,
}

/// Which file an error is about.
#[derive(Clone, Debug)]
struct Location(std::sync::Arc<Path>);

impl Location {
    fn of(state_dir: &Path) -> Self {
        Self(state_dir.join(FILE).into())
    }
}

/// Takes `state_dir`, which is made where it is not there, for this process: as long as what is given lives.
pub fn lock(state_dir: &Path) -> Result<Lock, StoreError> {
    let location = Location::of(state_dir);
    create_directory(state_dir).map_err(|error| location.explain_io(error))?;
    Lock::directory(state_dir).map_err(|error| match error {
        LockError::Held(pid) => StoreError::InUse { state_dir: state_dir.to_path_buf(), pid },
        LockError::Io(error) => location.explain_io(error),
    })
}

impl Store {
    /// Opens `xpxe.db` in `state_dir`, creates both if they are missing, and brings the tables up to date.
    pub async fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let location = Location::of(state_dir);
        let loss = loss::look(&location.0);
        create_file(state_dir, &location.0).map_err(|error| location.explain_io(error))?;
        let options = SqliteConnectOptions::new()
            .filename(&location.0)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(BUSY_TIMEOUT)
            .connect_with(options)
            .await
            .map_err(|error| location.explain(error))?;
        MIGRATIONS.run(&writer).await.map_err(|error| location.explain_migration(error))?;
        warn_of(loss, &location.0);
        Ok(Self { writer, location })
    }

    /// All leases, in no particular order. A row that cannot be read is reported in the log and left out.
    pub async fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        let mut leases = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let rows = self.with(async |connection| lease::page(connection, after.as_deref()).await).await?;
            leases.extend(rows.iter().filter_map(lease::read_or_report));
            // Damaged keys come last, because they are no text: they are no place to go on from.
            let last = rows.iter().rev().find_map(lease::key);
            if rows.len() < lease::PAGE || last.is_none() || last == after {
                return Ok(leases);
            }
            after = last;
        }
    }

    /// Makes all changes, in their order, or none. When it returns `Ok` they survive a power cut.
    pub async fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.with(async |connection| {
            // Taking the write lock at once lets the busy timeout work; a lock taken later may fail without waiting.
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            write::changes(&mut transaction, changes).await?;
            transaction.commit().await
        })
        .await
    }

    /// Writes to the disk as [`Store::commit`] does, and changes nothing.
    pub async fn try_to_write(&self) -> Result<(), StoreError> {
        self.with(async |connection| {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            let row = "INSERT INTO leases (mac, address, subnet, state, expires, updated) \
                       VALUES ('', '', '', 'resting', 0, 0)";
            sqlx::query(row).execute(&mut *transaction).await?;
            sqlx::query("DELETE FROM leases WHERE address = ''").execute(&mut *transaction).await?;
            transaction.commit().await
        })
        .await
    }

    /// Makes the times of a clock later by so many seconds, which was set when it said `old`, in seconds since the Unix
    /// epoch. What was stored at a later time than that was so by another clock: at the start this one was wrong.
    pub async fn shift(&self, seconds: i64, old: i64) -> Result<(), StoreError> {
        let shift = "UPDATE leases SET expires = expires + $1, updated = updated + $1 WHERE updated <= $2";
        self.with(async |connection| {
            sqlx::query(shift).bind(seconds).bind(old).execute(connection).await.map(drop)
        })
        .await
    }

    /// Uses the connection, and closes it if that fails.
    async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> Result<T, StoreError> {
        let explain = |error| self.location.explain(error);
        let mut connection = self.writer.acquire().await.map_err(explain)?;
        match work(&mut connection).await {
            Ok(done) => Ok(done),
            Err(error) => {
                if let Err(error) = connection.close().await {
                    tracing::debug!("closing the store after a failure: {error}");
                }
                Err(explain(error))
            }
        }
    }

    /// Closes the database, so that one file without a write-ahead log is left.
    pub async fn close(&self) {
        self.writer.close().await;
    }
}

/// What was lost, what follows from it, and what helps.
fn warn_of(loss: Loss, database: &Path) {
    let path = database.display();
    match loss {
        Loss::Nothing => {}
        Loss::Emptied => tracing::warn!(
            "{path} was there and is empty: no lease is known, unless the kernel's tables have some. Machines may be given other addresses than they have; put a backup in its place if there is one"
        ),
        Loss::Cut { committed, there } => tracing::warn!(
            committed,
            there,
            "{path}-wal was cut off or damaged: of {committed} pages that were committed to it {there} are there. The latest leases are lost, unless the kernel's tables have them; their machines may be given other addresses"
        ),
    }
}

/// Leases tell who is where, so only the owner may read them. A directory that exists keeps its mode.
fn create_file(state_dir: &Path, file: &Path) -> io::Result<()> {
    create_directory(state_dir)?;
    OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(file).map(drop)
}

fn create_directory(state_dir: &Path) -> io::Result<()> {
    if let Some(parent) = state_dir.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(state_dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
