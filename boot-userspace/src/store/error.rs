//! What can go wrong with the store, as sentences that say what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{StatVfsMountFlags, statvfs};
use sqlx::migrate::MigrateError;

use super::postgres::Trouble;
use super::{FILE, JOURNALS, Location};
use crate::host::lock::with_pid;

/// What follows for machines in use where the database is gone, and what helps.
pub(super) const WITHOUT_IT: &str = "Without it machines of the registry that are in use are unknown, and a rule \
    of [lifecycle] that accepts them has them wiped: take accept out of [lifecycle] before xpxe serves without \
    it, and import an export then (xpxe machines import FILE)";

/// Why the store cannot be used. Its text is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system is full.
    #[error("the disk is full: free some space for {path}")]
    DiskFull {
        /// The database.
        path: PathBuf,
    },
    /// The file system is full, and what was stored last is not in the database yet.
    #[error(
        "the disk is full: free some space for {path} (4 MB are enough) and start xpxe again. The leases that were stored last are in \
         {path}-leases0 and {path}-leases1, and go into {path} then: leave these files where they are"
    )]
    NoRoomForJournal {
        /// The database.
        path: PathBuf,
    },
    /// The user of this process may not read and write the file.
    #[error(
        "no permission to read and write {path}: run as root, or give the file and its directory to the user xpxe runs as"
    )]
    Permission {
        /// The database.
        path: PathBuf,
    },
    /// The file or its file system is read-only.
    #[error("{path} is read-only: set state_dir to a place that can be written")]
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// Another xpxe uses the directory.
    #[error("another xpxe{} uses state_dir {}: stop it, or set another state_dir", with_pid(*.pid), .state_dir.display())]
    InUse {
        /// The directory.
        state_dir: PathBuf,
        /// That xpxe's process, where the kernel tells.
        pid: Option<u32>,
    },
    /// Another file has its name.
    #[error(
        "{path} was replaced while xpxe runs, and nothing is stored meanwhile: restart xpxe to use the file that is there now, \
         or move that file away, and xpxe writes its leases into a new one"
    )]
    Replaced {
        /// The database.
        path: PathBuf,
    },
    /// Another process does not let go of it.
    #[error("{path} is locked by another process: is a second xpxe running, or a backup?")]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// The disk does not read or write it.
    #[error(
        "{path} cannot be read or written ({error}): look for errors of its disk in the kernel's log (dmesg)"
    )]
    Disk {
        /// The database.
        path: PathBuf,
        /// SQLite's or the system's answer.
        error: sqlx::Error,
    },
    /// It is no SQLite database, or a broken one.
    #[error(
        "{path} is damaged ({detail}): put a backup in its place, or move it away to start without leases and machines. {}",
        WITHOUT_IT
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// SQLite's words.
        detail: String,
    },
    /// A later version of xpxe has written it.
    #[error(
        "{path} is from a newer xpxe (it has migration {version}): install that version, or move the file away. {}",
        WITHOUT_IT
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// The migration this xpxe does not know.
        version: i64,
    },
    /// Anything else about the file or its directory.
    #[error("cannot open {path}: {error}: check state_dir")]
    File {
        /// The database.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// A bug.
    #[error(
        "the thread that stores leases has ended: restart xpxe, and report what the log says before this"
    )]
    Gone,
    /// PostgreSQL takes nothing.
    #[error(transparent)]
    Postgres(#[from] Trouble),
    /// Anything else SQLite said.
    #[error("the database {path} failed: {error}")]
    Database {
        /// The database.
        path: PathBuf,
        /// SQLite's answer.
        error: sqlx::Error,
    },
}

// Primary result codes of SQLite (sqlite.org/rescode.html); the low byte of the extended ones.
const PERM: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const AUTH: i32 = 23;
const NOTADB: i32 = 26;

impl StoreError {
    /// The same at a start that finds leases in the journals.
    pub(super) fn with_leases_in_journals(self) -> Self {
        match self {
            Self::DiskFull { path } => Self::NoRoomForJournal { path },
            other => other,
        }
    }

    /// Whether it is a trouble of PostgreSQL's that may be over by itself.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Postgres(trouble) if trouble.may_pass())
    }

    /// The same for who asks about PostgreSQL.
    pub(super) fn as_trouble(&self) -> Trouble {
        match self {
            Self::Postgres(trouble) => trouble.clone(),
            other => Trouble::passing(other.to_string()),
        }
    }
}

impl Location {
    pub(super) fn explain_io(&self, error: io::Error) -> StoreError {
        let path = self.shown.to_path_buf();
        match error.kind() {
            io::ErrorKind::PermissionDenied => StoreError::Permission { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::DiskFull { path },
            io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { path },
            _ => StoreError::File { path, error },
        }
    }

    /// What a journal's file said.
    pub(super) fn explain_write(&self, error: io::Error) -> StoreError {
        match self.explain_io(error) {
            StoreError::File { path, error } => StoreError::Disk { path, error: error.into() },
            other => other,
        }
    }

    /// Another process may change the store.
    pub(super) fn busy(&self) -> StoreError {
        StoreError::Busy { path: self.shown.to_path_buf() }
    }

    /// The database of a `state_dir`.
    pub(super) fn in_dir(state_dir: &Path) -> Self {
        let file: Arc<Path> = state_dir.join(FILE).into();
        Self { shown: Arc::clone(&file), file }
    }

    /// A copy of this one in another directory. Errors name the original.
    pub(super) fn copied_to(&self, dir: &Path) -> Self {
        Self { file: dir.join(FILE).into(), shown: Arc::clone(&self.shown) }
    }

    /// Another database beside this one.
    pub(super) fn beside(&self, ending: &str) -> Self {
        Self { file: super::database::beside(&self.file, ending).into(), shown: Arc::clone(&self.shown) }
    }

    /// This file, as errors have it.
    pub(super) fn journal(&self, path: &Path) -> Self {
        let shown = path.file_name().map_or_else(|| path.to_owned(), |name| self.shown.with_file_name(name));
        Self { file: Arc::clone(&self.file), shown: shown.into() }
    }

    /// The two journals.
    pub(super) fn journals(&self) -> [PathBuf; 2] {
        JOURNALS.map(|name| self.file.with_file_name(name))
    }

    /// Another file has the database's name.
    pub(super) fn replaced(&self) -> StoreError {
        StoreError::Replaced { path: self.shown.to_path_buf() }
    }

    pub(super) fn explain(&self, error: sqlx::Error) -> StoreError {
        let path = self.shown.to_path_buf();
        match result_code(&error) {
            Some(FULL) => StoreError::DiskFull { path },
            Some(PERM | AUTH) => StoreError::Permission { path },
            Some(READONLY) => StoreError::ReadOnly { path },
            Some(BUSY | LOCKED) => StoreError::Busy { path },
            // The files beside the database cannot be made or grow, and SQLite does not say why.
            Some(IOERR | CANTOPEN) => match self.state_of_disk() {
                Some(Disk::Full) => StoreError::DiskFull { path },
                Some(Disk::ReadOnly) => StoreError::ReadOnly { path },
                None => StoreError::Disk { path, error },
            },
            Some(CORRUPT | NOTADB) => StoreError::Damaged { path, detail: error.to_string() },
            _ => StoreError::Database { path, error },
        }
    }

    fn state_of_disk(&self) -> Option<Disk> {
        let disk = statvfs(self.file.parent()?).ok()?;
        if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Some(Disk::ReadOnly);
        }
        // Some file systems have no fixed number of files.
        let is_full = disk.f_bavail == 0 || (disk.f_files > 0 && disk.f_favail == 0);
        is_full.then_some(Disk::Full)
    }

    pub(super) fn explain_migration(&self, error: MigrateError) -> StoreError {
        let path = self.shown.to_path_buf();
        match error {
            MigrateError::VersionMissing(version) => StoreError::Newer { path, version },
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => self.explain(source),
            other => StoreError::Database { path, error: other.into() },
        }
    }
}

/// Why a file system does not take anything.
enum Disk {
    Full,
    ReadOnly,
}

fn result_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_room_for_the_journals_is_told_to_leave_them_alone() {
        let path = PathBuf::from("/s").join(FILE);
        let said = StoreError::DiskFull { path: path.clone() }.with_leases_in_journals().to_string();
        assert!(said.starts_with("the disk is full: free some space for /s/xpxe.db"), "{said}");
        for name in JOURNALS {
            assert!(said.contains(&format!("/s/{name}")), "{said}");
        }
        let other = StoreError::ReadOnly { path }.with_leases_in_journals();
        assert!(matches!(other, StoreError::ReadOnly { .. }));
    }
}
