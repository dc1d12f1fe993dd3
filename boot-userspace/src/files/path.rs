//! From the name a client asks for to a file beneath the boot directory.

use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::OpenError;
use super::listing::Listings;
use super::local::Local;

/// The relative path a client means. `..` takes back the part before it (RFC 3986 section 5.2.4); what would lead out
/// of the boot directory is refused.
pub(super) fn tidy(name: &str) -> Result<String, OpenError> {
    let name = name.trim_end_matches(['\0', '\u{ff}', '\u{fffd}']).replace('\\', "/");
    if name.contains('\0') {
        return Err(OpenError::Outside);
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or(OpenError::Outside)?;
            }
            part => parts.push(part),
        }
    }
    // The boot directory itself, so that the answer is "not a regular file".
    Ok(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

/// NONBLOCK keeps a named pipe from holding the daemon.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// An open boot directory.
pub(super) struct Root<'a> {
    dir: OwnedFd,
    path: &'a Path,
}

impl<'a> Root<'a> {
    pub(super) fn open(path: &'a Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { dir: rustix::fs::open(path, flags, Mode::empty())?, path })
    }

    /// Has it learnt whether files here can be opened at once.
    pub(super) fn learn(&self, local: &Local) {
        local.learn(&self.dir);
    }

    /// Opens a file beneath a boot directory with what the kernel remembers of both paths; EAGAIN where that is not enough,
    /// or a server would be asked for the file.
    pub(super) fn open_at_hand(path: &Path, inside: &Path, local: &Local) -> Result<OwnedFd, Errno> {
        let (flags, cached) = (OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, ResolveFlags::CACHED);
        let dir = rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), cached)?;
        if !local.has(&dir) {
            return Err(Errno::AGAIN);
        }
        rustix::fs::openat2(&dir, inside, FLAGS, Mode::empty(), RESOLVE | cached | ResolveFlags::NO_XDEV)
    }

    /// Opens beneath it. A link that leads out and in again, as one does that names a place inside by its whole path,
    /// is followed as every other program would, and what it leads to is opened as if it had been asked for.
    pub(super) fn beneath(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        match self.strictly_beneath(path, flags) {
            Err(Errno::XDEV) => self.strictly_beneath(&self.in_fact(path).ok_or(Errno::XDEV)?, flags),
            opened => opened,
        }
    }

    fn strictly_beneath(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let open = || rustix::fs::openat2(&self.dir, path, flags | FLAGS, Mode::empty(), RESOLVE);
        // EAGAIN means that something was renamed meanwhile, so the kernel could not prove where the path leads.
        (0..8)
            .map(|_| open())
            .find(|result| !matches!(result, Err(Errno::AGAIN)))
            .unwrap_or(Err(Errno::AGAIN))
    }

    /// The same place by a path without links, if it is inside. Only a guess: links may change meanwhile.
    fn in_fact(&self, path: &Path) -> Option<PathBuf> {
        let place = fs::canonicalize(self.path.join(path)).ok()?;
        let inside = place.strip_prefix(fs::canonicalize(self.path).ok()?).ok()?;
        Some(if inside.as_os_str().is_empty() { PathBuf::from(".") } else { inside.to_path_buf() })
    }

    /// Finds a path whose letters differ from `name` in case only.
    pub(super) fn in_any_case(&self, name: &str, listings: &Listings) -> Option<PathBuf> {
        let mut path = PathBuf::new();
        for part in name.split('/') {
            if self.beneath(&path.join(part), OFlags::PATH).is_ok() {
                path.push(part);
                continue;
            }
            let here = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
            let dir = self.beneath(here, OFlags::DIRECTORY).ok()?;
            path.push(OsString::from_vec(listings.find(dir, part)?));
        }
        Some(path)
    }
}
