//! The leases' table in SQLite, which what the journal has goes into.
//!
//! There is one connection, because SQLite has one writer at a time. A commit returns when its data is on the disk (WAL
//! with `synchronous = FULL`), so what it has may leave the journal after it.
//!
//! A connection on which anything failed is closed, and the next use opens another. After a full disk SQLite has ended the
//! transaction by itself and sqlx believes it to be open, and after a disk that was read-only the file is open for reading
//! only: such a connection would refuse every later commit.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use std::sync::Arc;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use super::{Change, FILE, Lease, Location, StoreError, lease, write};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
/// How long another process (a backup, the sqlite3 shell) may hold the database before a commit fails.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The open table.
#[derive(Clone, Debug)]
pub(super) struct Database {
    connection: Arc<Mutex<Option<SqliteConnection>>>,
    location: Location,
}

impl Database {
    /// Opens the file, which is there, and brings the tables up to date.
    pub(super) async fn open(location: Location) -> Result<Self, StoreError> {
        let mut connection = connect(&location).await?;
        MIGRATIONS.run(&mut connection).await.map_err(|error| location.explain_migration(error))?;
        Ok(Self { connection: Arc::new(Mutex::new(Some(connection))), location })
    }

    /// All rows, in no particular order. One that cannot be read is reported in the log and left out.
    pub(super) async fn leases(&self) -> Result<Vec<Lease>, StoreError> {
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
    pub(super) async fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
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

    /// Writes to the disk as [`Database::commit`] does, and changes nothing.
    pub(super) async fn try_to_write(&self) -> Result<(), StoreError> {
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

    /// See [`Store::shift`](super::Store::shift).
    pub(super) async fn shift(&self, seconds: i64, old: i64) -> Result<(), StoreError> {
        let shift = "UPDATE leases SET expires = expires + $1, updated = updated + $1 WHERE updated <= $2";
        self.with(async |connection| {
            sqlx::query(shift).bind(seconds).bind(old).execute(connection).await.map(drop)
        })
        .await
    }

    /// Closes the connection, the last one with its write-ahead log. The next use opens another.
    pub(super) async fn disconnect(&self) {
        if let Ok(mut place) = self.place().await {
            close(&mut place).await;
        }
    }

    /// Uses the connection, and closes it if that fails.
    pub(super) async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> Result<T, StoreError> {
        let mut place = self.place().await?;
        let connection = match &mut *place {
            Some(connection) => connection,
            none => none.insert(connect(&self.location).await?),
        };
        let worked = work(connection).await;
        if worked.is_err() {
            close(&mut place).await;
        }
        worked.map_err(|error| self.location.explain(error))
    }

    async fn place(&self) -> Result<MutexGuard<'_, Option<SqliteConnection>>, StoreError> {
        timeout(BUSY_TIMEOUT, self.connection.lock()).await.map_err(|_| self.location.busy())
    }
}

async fn connect(location: &Location) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(&location.0)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT);
    options.connect().await.map_err(|error| location.explain(error))
}

async fn close(place: &mut Option<SqliteConnection>) {
    if let Some(connection) = place.take()
        && let Err(error) = connection.close().await
    {
        tracing::debug!("closing the store after a failure: {error}");
    }
}

/// Leases tell who is where, so only the owner may read them. A directory that exists keeps its mode.
pub(super) fn create_directory(state_dir: &Path) -> io::Result<()> {
    if let Some(parent) = state_dir.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(state_dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The same of the database.
pub(super) fn create_file(state_dir: &Path) -> io::Result<()> {
    create_directory(state_dir)?;
    let file = state_dir.join(FILE);
    OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(file).map(drop)
}
