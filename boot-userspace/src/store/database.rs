//! The leases' table in SQLite, which what the journal has goes into.
//!
//! There is one connection, because SQLite has one writer at a time. A commit returns when its data is on the disk (WAL
//! with `synchronous = FULL`), so what it has may leave the journal after it.
//!
//! A connection on which anything failed is closed, and the next use opens another. After a full disk SQLite has ended the
//! transaction by itself and sqlx believes it to be open, and after a disk that was read-only the file is open for reading
//! only: such a connection would refuse every later commit.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use std::sync::{Arc, PoisonError};

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;
use tracing::warn;

use super::copied::{self, IsCopy, Origin};
use super::file_id::{FileId, remove};
use super::sql::Row;
use super::{Change, FILE, Lease, Location, StoreError, lease, machines, write};
use boot_engine::registry::Record;

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
/// How long another process (a backup, the sqlite3 shell) may hold the database before a commit fails.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How many leases are turned into statements at once.
const AT_ONCE: usize = 10_000;

/// What became of a database's file while it was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It has its name.
    Kept,
    /// Nothing has its name.
    Deleted,
    /// Another file has its name.
    Replaced,
}

/// The open table.
#[derive(Clone, Debug)]
pub(super) struct Database {
    connection: Arc<Mutex<Option<SqliteConnection>>>,
    /// Which file it is.
    id: Arc<std::sync::Mutex<Option<FileId>>>,
    location: Location,
    pub(super) copy: Arc<IsCopy>,
}

impl Database {
    /// Opens the file, which is there, and brings the tables up to date.
    pub(super) async fn open(location: Location) -> Result<Self, StoreError> {
        let mut connection = begin(&location).await?;
        let origin = copied::origin(&mut connection).await.map_err(|error| location.explain(error))?;
        let id = FileId::at(&location.file);
        let connection = Arc::new(Mutex::new(Some(connection)));
        let copy = Arc::<IsCopy>::default();
        copy.set(origin.is_some());
        Ok(Self { connection, id: Arc::new(id.into()), location, copy })
    }

    /// All rows, in no particular order. One that cannot be read is reported in the log and left out.
    pub(super) async fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        self.with(async |connection| lease::all(connection).await).await
    }

    /// Whether there is any.
    pub(super) async fn has_leases(&self) -> Result<bool, StoreError> {
        let one = "SELECT 1 FROM leases LIMIT 1";
        self.with(async |connection| Ok(sqlx::query(one).fetch_optional(connection).await?.is_some())).await
    }

    /// Whether it has neither leases nor machines.
    pub(super) async fn is_empty(&self) -> Result<bool, StoreError> {
        let any = "SELECT 1 WHERE EXISTS (SELECT 1 FROM leases) \
                   OR EXISTS (SELECT 1 FROM machines WHERE state <> 'deleted')";
        self.with(async |connection| Ok(sqlx::query(any).fetch_optional(connection).await?.is_none())).await
    }

    /// How many addresses the database that this is a copy of does not have as they are here.
    pub(super) async fn unsent_count(&self) -> Result<i64, StoreError> {
        self.with(async |connection| copied::count(connection).await).await
    }

    /// It is no copy any more.
    pub(super) async fn end_copy(&self) -> Result<(), StoreError> {
        self.transact(async |connection| copied::end(connection).await).await?;
        self.copy.set(false);
        Ok(())
    }

    /// Makes all changes, in their order, or none. When it returns `Ok` they survive a power cut.
    pub(super) async fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let is_copy = self.copy.is_one();
        self.transact(async |connection| {
            let touched = write::changes(connection, changes, is_copy).await?;
            if is_copy {
                copied::note(connection, &touched.into_iter().collect::<Vec<_>>()).await?;
            }
            Ok(())
        })
        .await?;
        self.copy.ring();
        Ok(())
    }

    /// Makes a change of several statements, or none of it.
    pub(super) async fn transact<T>(
        &self,
        change: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> Result<T, StoreError> {
        self.with(async |connection| {
            // Taking the write lock at once lets the busy timeout work; a lock taken later may fail without waiting.
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            let changed = change(&mut transaction).await?;
            transaction.commit().await?;
            Ok(changed)
        })
        .await
    }

    /// See [`Store::machines`](super::Store::machines).
    pub(super) async fn machines(&self) -> Result<Vec<machines::Stored>, StoreError> {
        self.with(async |connection| machines::all(connection).await).await
    }

    /// The whole rows of those of these machines that there are.
    pub(super) async fn machine_rows(&self, ids: &[i64]) -> Result<Vec<Row>, StoreError> {
        self.with(async |connection| machines::rows(connection, ids).await).await
    }

    /// See [`Store::change_machines`](super::Store::change_machines).
    pub(super) async fn change_machines(
        &self,
        records: &[Record],
        gone: &[(u64, u64)],
    ) -> Result<(), StoreError> {
        self.durably(async |connection| machines::change(connection, records, gone).await).await
    }

    /// Changes something in a database that has its name before and after that.
    async fn durably(
        &self,
        change: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<()>,
    ) -> Result<(), StoreError> {
        let is_kept = || match self.fate() {
            Fate::Kept => Ok(()),
            // Who writes leases writes it anew, at once.
            Fate::Deleted => Err(self.location.busy()),
            Fate::Replaced => Err(self.location.replaced()),
        };
        is_kept()?;
        self.transact(change).await?;
        is_kept()
    }

    /// Writes to the disk as [`Database::commit`] does, and changes nothing.
    pub(super) async fn try_to_write(&self) -> Result<(), StoreError> {
        self.transact(async |connection| {
            let row = "INSERT INTO leases (mac, address, subnet, state, expires, updated) \
                       VALUES ('', '', '', 'resting', 0, 0)";
            sqlx::query(row).execute(&mut *connection).await?;
            sqlx::query("DELETE FROM leases WHERE address = ''").execute(connection).await.map(drop)
        })
        .await
    }

    /// See [`Store::shift`](super::Store::shift).
    pub(super) async fn shift(&self, seconds: i64, old: i64) -> Result<(), StoreError> {
        let shift = "UPDATE leases SET expires = expires + $1, updated = updated + $1 WHERE updated <= $2";
        let is_copy = self.copy.is_one();
        self.transact(async |connection| {
            sqlx::query(shift).bind(seconds).bind(old).execute(&mut *connection).await?;
            if is_copy { copied::note_all(connection).await } else { Ok(()) }
        })
        .await?;
        self.copy.ring();
        Ok(())
    }

    /// Closes the connection, the last one with its write-ahead log. The next use opens another.
    pub(super) async fn disconnect(&self) {
        if let Ok(mut place) = self.place().await {
            self.let_go(&mut place).await;
        }
    }

    /// Closes the connection, unless it is all that is left of a database that has lost its name.
    async fn let_go(&self, place: &mut Option<SqliteConnection>) {
        if self.fate() == Fate::Kept {
            close(place).await;
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
            none => {
                if self.fate() == Fate::Replaced {
                    return Err(self.location.replaced());
                }
                none.insert(connect(&self.location).await?)
            }
        };
        let worked = work(connection).await;
        if worked.is_err() {
            self.let_go(&mut place).await;
        }
        worked.map_err(|error| self.location.explain(error))
    }

    /// What became of the database's file since it was opened. It waits for the disk.
    pub(super) fn fate(&self) -> Fate {
        let id = *self.id();
        match FileId::at(&self.location.file) {
            None => Fate::Deleted,
            there if there != id => Fate::Replaced,
            _ => Fate::Kept,
        }
    }

    /// Makes sure that what was committed has a name to be found by: writes a database that was deleted anew, and moves
    /// what a deleted log had into the database.
    ///
    /// # Errors
    /// Another file has the database's name, or it cannot be written.
    pub(super) async fn keep(&self) -> Result<(), StoreError> {
        match self.fate() {
            Fate::Deleted => {
                let leases = self.write_anew().await?;
                warn!(
                    leases,
                    "the database was deleted while xpxe runs: its {leases} leases are in a new one. Leave the files in state_dir alone while xpxe runs: what is deleted just before xpxe ends is lost"
                );
                Ok(())
            }
            Fate::Replaced => Err(self.location.replaced()),
            Fate::Kept => self.keep_log().await,
        }
    }

    /// SQLite goes on in a log without a name, too, and another process that opens the database sees nothing of it.
    async fn keep_log(&self) -> Result<(), StoreError> {
        let is_there = || {
            [beside(&self.location.file, "-wal"), beside(&self.location.file, "-shm")]
                .iter()
                .all(|path| path.exists())
        };
        let mut place = self.place().await?;
        let Some(connection) = &mut *place else { return Ok(()) };
        if is_there() {
            return Ok(());
        }
        let moved = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(connection).await;
        // The next use makes a new log.
        close(&mut place).await;
        moved.map_err(|error| self.location.explain(error))?;
        warn!(
            "the database's log (-wal or -shm) was deleted while xpxe runs: what it had is in the database now. Leave the files in state_dir alone while xpxe runs: what is deleted just before xpxe ends is lost"
        );
        Ok(())
    }

    /// Writes all leases of a database that was deleted into a new one under its name, and gives their number. The new one
    /// gets the name when it is whole.
    async fn write_anew(&self) -> Result<usize, StoreError> {
        let leases = self.leases().await?;
        let machines = self.with(async |connection| machines::every_row(connection).await).await?;
        let explain = |error| self.location.explain_io(error);
        let (file, new) = (&self.location.file, self.location.beside("-new"));
        for ending in ["", "-wal", "-shm"] {
            remove(&beside(&new.file, ending)).map_err(explain)?;
        }
        create(OpenOptions::new().create_new(true), &new.file).map_err(explain)?;
        let unsent = self.with(async |connection| copied::all(connection).await).await?;
        fill(&new, &leases, &machines, &unsent).await?;
        let mut place = self.place().await?;
        // A new database must not be read with the old one's log.
        for ending in ["-wal", "-shm"] {
            remove(&beside(file, ending)).map_err(explain)?;
        }
        *self.id() = FileId::at(&new.file);
        // Nobody's file is written over that has come just now.
        std::fs::hard_link(&new.file, file).map_err(explain)?;
        remove(&new.file).map_err(explain)?;
        if let Some(dir) = file.parent() {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(explain)?;
        }
        close(&mut place).await;
        Ok(leases.len())
    }

    fn id(&self) -> std::sync::MutexGuard<'_, Option<FileId>> {
        self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn place(&self) -> Result<MutexGuard<'_, Option<SqliteConnection>>, StoreError> {
        timeout(BUSY_TIMEOUT, self.connection.lock()).await.map_err(|_| self.location.busy())
    }
}

/// Writes leases into a database that is empty, and closes it.
async fn fill(
    location: &Location,
    leases: &[Lease],
    rows: &[Row],
    (origin, unsent): &(Option<Origin>, Vec<String>),
) -> Result<(), StoreError> {
    let mut connection = begin(location).await?;
    let filled = async {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for some in leases.chunks(AT_ONCE) {
            let changes: Vec<Change> = some.iter().cloned().map(Change::Put).collect();
            write::changes(&mut *transaction, &changes, false).await?;
        }
        machines::put_rows(&mut *transaction, rows).await?;
        copied::set_origin(&mut *transaction, origin.as_ref()).await?;
        copied::note(&mut *transaction, unsent).await?;
        transaction.commit().await?;
        connection.close().await
    };
    filled.await.map_err(|error| location.explain(error))
}

async fn begin(location: &Location) -> Result<SqliteConnection, StoreError> {
    let mut connection = connect(location).await?;
    MIGRATIONS.run(&mut connection).await.map_err(|error| location.explain_migration(error))?;
    Ok(connection)
}

async fn connect(location: &Location) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(&location.file)
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

/// A file that SQLite has beside the database.
pub(super) fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
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
    create(OpenOptions::new().create(true).truncate(false), &state_dir.join(FILE))
}

fn create(how: &mut OpenOptions, file: &Path) -> io::Result<()> {
    how.read(true).write(true).mode(0o600).open(file).map(drop)
}
