//! From the name a client asks for to a file beneath the boot directory.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::OpenError;

/// The relative path a client means.
pub(super) fn tidy(name: &str) -> Result<String, OpenError> {
    let name = name.trim_end_matches(['\0', '\u{ff}', '\u{fffd}']).replace('\\', "/");
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") || name.contains('\0') {
        return Err(OpenError::Outside);
    }
    // The boot directory itself, so that the answer is "not a regular file".
    Ok(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

/// Opens beneath `root`; NONBLOCK keeps a named pipe from holding the daemon.
pub(super) fn beneath(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let open = || rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
    // EAGAIN means that something was renamed meanwhile, so the kernel could not prove where the path leads.
    (0..8).map(|_| open()).find(|result| !matches!(result, Err(Errno::AGAIN))).unwrap_or(Err(Errno::AGAIN))
}

/// Finds a path whose letters differ from `name` in case only.
pub(super) fn in_any_case(root: &OwnedFd, name: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in name.split('/') {
        if beneath(root, &path.join(part), OFlags::PATH).is_ok() {
            path.push(part);
            continue;
        }
        let here = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
        let entries = Dir::new(beneath(root, here, OFlags::DIRECTORY).ok()?).ok()?;
        let mut matches: Vec<Vec<u8>> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name().to_bytes().to_vec()))
            .filter(|entry| entry.eq_ignore_ascii_case(part.as_bytes()))
            .collect();
        // Two spellings side by side: always the same one, whatever order the file system lists them in.
        matches.sort();
        path.push(OsString::from_vec(matches.into_iter().next()?));
    }
    Some(path)
}
