//! Looking at a store without changing it. SQLite changes the files of a database that it only reads, too: whoever opens it
//! first makes its log's index anew, and with it goes what shows that the log was cut.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::database::{self, Database};
use super::{FILE, JOURNALS, Location, Store, StoreError, look, loss, warn_of};
use crate::host::lock::Lock;

/// A copy of a store, which can only be read. Dropping it removes it.
#[derive(Debug)]
pub struct Copy {
    /// The copy.
    pub store: Store,
    #[cfg_attr(not(test), expect(dead_code, reason = "it goes with the copy"))]
    dir: Directory,
}

impl Copy {
    /// Copies the store in `state_dir`, which nobody may change meanwhile, and warns of what it has lost. The lock is
    /// [`lock_to_copy`](super::lock_to_copy)'s; it is let go of as soon as the files are copied.
    ///
    /// # Errors
    /// As for [`Store::open`], about the original; about the directory for temporary files where that has no room.
    pub async fn of(state_dir: &Path, lock: Lock) -> Result<Self, StoreError> {
        let original = Location::in_dir(state_dir);
        let temporary = |error| Location::in_dir(&std::env::temp_dir()).explain_io(error);
        let loss = loss::look(&original.file);
        let dir = Directory::new().map_err(temporary)?;
        let names = [FILE.to_owned(), format!("{FILE}-wal")].into_iter().chain(JOURNALS.map(str::to_owned));
        for name in names {
            let bytes = match fs::read(state_dir.join(&name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read.map_err(|error| original.explain_io(error))?,
            };
            fs::write(dir.0.join(&name), bytes).map_err(temporary)?;
        }
        drop(lock);
        database::create_file(&dir.0).map_err(temporary)?;
        let location = original.copied_to(&dir.0);
        let database = Database::open(location.clone()).await?;
        let found = look(&location)?;
        warn_of(loss, &found, &location, &database).await?;
        Ok(Self { store: Store { database, writer: None, postgres: None, location }, dir })
    }
}

/// A directory among temporary files that only this process may read: leases tell who is where.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Self> {
        let mut number = 0_u32;
        loop {
            let dir = std::env::temp_dir().join(format!("xpxe-store-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                made => return made.map(|()| Self(dir)),
            }
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!("{} cannot be removed: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::places::lease;
    use super::super::{Change, lock, lock_to_copy};
    use super::*;

    fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
    }

    #[test]
    fn looking_changes_no_file_even_of_a_store_whose_log_was_cut() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (living, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        runtime.block_on(async {
            let store = Store::open(living.path()).await.unwrap();
            for machine in 1..=9 {
                store.commit(&[Change::Put(lease(machine, machine))]).await.unwrap();
                // The last one stays in the journal.
                if machine < 9 {
                    store.settle().await.unwrap();
                }
            }
            // As a kill leaves it, and then without the end of the log.
            for (path, bytes) in files(living.path()) {
                fs::write(dir.path().join(Path::new(&path).file_name().unwrap()), bytes).unwrap();
            }
            let log = database::beside(&dir.path().join(FILE), "-wal");
            let less = fs::metadata(&log).unwrap().len() - 100;
            fs::File::options().write(true).open(&log).unwrap().set_len(less).unwrap();
            let before = files(dir.path());
            assert!(matches!(loss::look(&dir.path().join(FILE)), loss::Loss::Cut { .. }));
            let copy = Copy::of(dir.path(), lock_to_copy(dir.path()).unwrap()).await.unwrap();
            // A daemon that starts need not wait until the copy is gone.
            lock(dir.path()).unwrap();
            let known = copy.store.leases().await.unwrap().len();
            assert_eq!(known, 8, "one is lost with the log");
            let place = copy.dir.0.clone();
            drop(copy);
            assert!(files(dir.path()) == before, "a file was changed");
            assert!(!place.exists());
            store.close().await;
        });
    }
}
