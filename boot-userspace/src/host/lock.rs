//! What only one process may use: a directory, locked (flock(2)) for as long as the process lives.
//!
//! The kernel drops the lock with the process, however it ends, so nothing is left that a restart would have to
//! doubt. No file is made for it, so it works in a bpffs too.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// A directory that is ours until this is dropped.
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
    /// Locks a directory.
    ///
    /// # Errors
    /// Another process has it, or it cannot be opened.
    pub fn directory(dir: &Path) -> Result<Self, LockError> {
        loop {
            let directory = File::open(dir).map_err(LockError::Io)?;
            match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(LockError::Held(holder(&directory))),
                Err(error) => return Err(LockError::Io(error.into())),
            }
            // Somebody may have removed the directory, and made another one, in between.
            let (ours, there) = (directory.metadata(), dir.metadata());
            let number = |about: io::Result<std::fs::Metadata>| about.map(|about| (about.dev(), about.ino()));
            if number(ours).map_err(LockError::Io)? == number(there).map_err(LockError::Io)? {
                return Ok(Self(directory));
            }
        }
    }
}

/// Who has locked a directory, as far as the kernel tells. Nobody is kept from locking it meanwhile.
#[must_use]
pub fn holder_of(dir: &Path) -> Option<u32> {
    holder(&File::open(dir).ok()?)
}

/// " (pid 12)", or nothing where the process is not known.
#[must_use]
pub fn with_pid(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

fn holder(directory: &File) -> Option<u32> {
    let about = directory.metadata().ok()?;
    holder_in(&std::fs::read_to_string("/proc/locks").ok()?, about.dev(), about.ino())
}

/// `1: FLOCK  ADVISORY  WRITE 4242 08:01:131094 0 EOF`: the process, then the device and the inode.
fn holder_in(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let held = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        if words.next() != Some("FLOCK") {
            return None;
        }
        let pid = words.nth(2)?.parse::<u32>().ok()?;
        let mut file = words.next()?.split(':');
        let mut number = || u32::from_str_radix(file.next()?, 16).ok();
        let place = (number()?, number()?);
        (file.next()?.parse() == Ok(inode)).then_some((pid, place))
    };
    let here = (rustix::fs::major(device), rustix::fs::minor(device));
    let mut holders: Vec<_> = locks.lines().filter_map(held).collect();
    // btrfs and overlayfs tell stat(2) of another device than their own.
    holders.sort_by_key(|(_, place)| *place != here);
    holders.first().map(|(pid, _)| *pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_holder_s_until_that_ends_and_the_holder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::directory(dir.path()).unwrap();
        match Lock::directory(dir.path()) {
            Err(LockError::Held(pid)) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        assert_eq!(holder_of(dir.path()), Some(std::process::id()));
        drop(first);
        assert_eq!(holder_of(dir.path()), None);
        Lock::directory(dir.path()).unwrap();
        assert!(matches!(Lock::directory(&dir.path().join("gone")), Err(LockError::Io(_))));
    }

    #[test]
    fn a_directory_that_was_made_anew_is_not_the_one_that_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("pins");
        std::fs::create_dir(&place).unwrap();
        let _old = Lock::directory(&place).unwrap();
        std::fs::remove_dir(&place).unwrap();
        std::fs::create_dir(&place).unwrap();
        Lock::directory(&place).unwrap();
    }

    #[test]
    fn the_kernel_s_list_names_the_holder() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 00:1a:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 8 00:1b:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 00:1a:77 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 10 00:1a:78 0 EOF\n";
        let device = rustix::fs::makedev(0, 0x1a);
        assert_eq!(holder_in(locks, device, 77), Some(9));
        assert_eq!(holder_in(locks, rustix::fs::makedev(8, 1), 78), Some(10), "stat told of another device");
        assert_eq!(holder_in(locks, device, 79), None);
        assert_eq!(with_pid(Some(9)), " (pid 9)");
    }
}
