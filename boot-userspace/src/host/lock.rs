//! What only one process may use: a directory, locked (flock(2)) for as long as the process lives. Commands that are done
//! with it soon share it, and keep out only who wants it alone.
//!
//! The kernel drops the lock with the process, however it ends, so nothing is left that a restart would have to
//! doubt. No file is made for it, so it works in a bpffs too.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How long those who share a directory are waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether they are done.
const LOOK: Duration = Duration::from_millis(5);

/// A directory that is ours, or shared, until this is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock is the open directory's")] File);

/// Why a directory is not locked.
#[derive(Debug)]
pub enum LockError {
    /// By this process, as far as the kernel tells: not those in other pid namespaces.
    Held(Option<u32>),
    /// The directory cannot be opened or locked.
    Io(io::Error),
}

impl Lock {
    /// Locks a directory for this process alone. Those who share it are waited for, at most for 5 s: they are commands that
    /// end by themselves.
    ///
    /// # Errors
    /// Another process has it, or it cannot be opened.
    pub fn alone(dir: &Path) -> Result<Self, LockError> {
        Self::alone_within(dir, PATIENCE)
    }

    /// Locks a directory together with others who share it, so that nobody has it alone meanwhile.
    ///
    /// # Errors
    /// Another process has it alone, or it cannot be opened.
    pub fn shared(dir: &Path) -> Result<Self, LockError> {
        match Self::attempt(dir, FlockOperation::NonBlockingLockShared)? {
            Some(lock) => Ok(lock),
            None => Err(held(dir)),
        }
    }

    fn alone_within(dir: &Path, patience: Duration) -> Result<Self, LockError> {
        let began = Instant::now();
        let mut is_told = false;
        loop {
            if let Some(lock) = Self::attempt(dir, FlockOperation::NonBlockingLockExclusive)? {
                return Ok(lock);
            }
            // Where it can be shared, nobody has it alone.
            let is_shared = Self::attempt(dir, FlockOperation::NonBlockingLockShared)?.is_some();
            if !is_shared || began.elapsed() >= patience {
                return Err(held(dir));
            }
            if !is_told {
                let who = with_pid(any_holder(dir).map(|holder| holder.pid));
                tracing::info!(
                    "waiting for a command{who} that uses {}, at most {} s",
                    dir.display(),
                    patience.as_secs()
                );
                is_told = true;
            }
            thread::sleep(LOOK);
        }
    }

    /// Nothing where another lock is in the way.
    fn attempt(dir: &Path, how: FlockOperation) -> Result<Option<Self>, LockError> {
        loop {
            let directory = File::open(dir).map_err(LockError::Io)?;
            match flock(&directory, how) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(LockError::Io(error.into())),
            }
            // Somebody may have removed the directory, and made another one, in between.
            let (ours, there) = (directory.metadata(), dir.metadata());
            let number = |about: io::Result<std::fs::Metadata>| about.map(|about| (about.dev(), about.ino()));
            if number(ours).map_err(LockError::Io)? == number(there).map_err(LockError::Io)? {
                return Ok(Some(Self(directory)));
            }
        }
    }
}

/// Who has a directory alone, as far as the kernel tells. Nobody is kept from locking it meanwhile.
#[must_use]
pub fn holder_of(dir: &Path) -> Option<u32> {
    any_holder(dir).filter(|holder| holder.is_alone).map(|holder| holder.pid)
}

/// " (pid 12)", or nothing where the process is not known.
#[must_use]
pub fn with_pid(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// A process with a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    pid: u32,
    /// It shares the lock with nobody.
    is_alone: bool,
}

fn held(dir: &Path) -> LockError {
    LockError::Held(any_holder(dir).map(|holder| holder.pid))
}

fn any_holder(dir: &Path) -> Option<Holder> {
    let about = dir.metadata().ok()?;
    holder_in(&std::fs::read_to_string("/proc/locks").ok()?, about.dev(), about.ino())
}

/// `1: FLOCK  ADVISORY  WRITE 4242 08:01:131094 0 EOF`: `READ` if it is shared; the process, then the device and the inode.
fn holder_in(locks: &str, device: u64, inode: u64) -> Option<Holder> {
    let held = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        if words.next() != Some("FLOCK") {
            return None;
        }
        let is_alone = words.nth(1)? == "WRITE";
        let pid = words.next()?.parse().ok()?;
        let mut file = words.next()?.split(':');
        let mut number = || u32::from_str_radix(file.next()?, 16).ok();
        let place = (number()?, number()?);
        (file.next()?.parse() == Ok(inode)).then_some((Holder { pid, is_alone }, place))
    };
    let here = (rustix::fs::major(device), rustix::fs::minor(device));
    let mut holders: Vec<_> = locks.lines().filter_map(held).collect();
    // btrfs and overlayfs tell stat(2) of another device than their own.
    holders.sort_by_key(|(_, place)| *place != here);
    holders.first().map(|(holder, _)| *holder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_holder_s_until_that_ends_and_the_holder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::alone(dir.path()).unwrap();
        for refused in [Lock::alone(dir.path()), Lock::shared(dir.path())] {
            match refused {
                Err(LockError::Held(pid)) => assert_eq!(pid, Some(std::process::id())),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(holder_of(dir.path()), Some(std::process::id()));
        drop(first);
        assert_eq!(holder_of(dir.path()), None);
        Lock::alone(dir.path()).unwrap();
        assert!(matches!(Lock::alone(&dir.path().join("gone")), Err(LockError::Io(_))));
        assert!(matches!(Lock::shared(&dir.path().join("gone")), Err(LockError::Io(_))));
    }

    #[test]
    fn those_who_share_a_directory_are_waited_for_and_who_has_it_alone_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let readers = [Lock::shared(dir.path()).unwrap(), Lock::shared(dir.path()).unwrap()];
        assert_eq!(holder_of(dir.path()), None, "nobody has it alone");
        let (began, patience) = (Instant::now(), Duration::from_millis(30));
        match Lock::alone_within(dir.path(), patience) {
            Err(LockError::Held(pid)) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() >= patience);
        let ages = Duration::from_secs(3600);
        let lock = thread::scope(|scope| {
            let waiting = scope.spawn(|| Lock::alone_within(dir.path(), ages));
            drop(readers);
            waiting.join().unwrap().unwrap()
        });
        assert!(matches!(Lock::alone_within(dir.path(), ages), Err(LockError::Held(_))));
        drop(lock);
    }

    #[test]
    fn a_directory_that_was_made_anew_is_not_the_one_that_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("pins");
        std::fs::create_dir(&place).unwrap();
        let _old = Lock::alone(&place).unwrap();
        std::fs::remove_dir(&place).unwrap();
        std::fs::create_dir(&place).unwrap();
        Lock::alone(&place).unwrap();
    }

    #[test]
    fn the_kernel_s_list_names_the_holder() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 00:1a:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 8 00:1b:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 00:1a:77 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 10 00:1a:78 0 EOF\n\
                     5: FLOCK  ADVISORY  READ  11 00:1a:80 0 EOF\n";
        let device = rustix::fs::makedev(0, 0x1a);
        let alone = |pid| Some(Holder { pid, is_alone: true });
        assert_eq!(holder_in(locks, device, 77), alone(9));
        assert_eq!(holder_in(locks, rustix::fs::makedev(8, 1), 78), alone(10), "stat told of another device");
        assert_eq!(holder_in(locks, device, 80), Some(Holder { pid: 11, is_alone: false }));
        assert_eq!(holder_in(locks, device, 79), None);
        assert_eq!(with_pid(Some(9)), " (pid 9)");
    }
}
