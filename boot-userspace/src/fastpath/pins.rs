//! What outlives the daemon: files in a bpffs, and taking them away.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use boot_common::tables::name;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::fastpath::{NotInBpffs, sys};
use crate::host::lock::{Lock, LockError, with_pid};

/// Where bpffs usually is.
pub(super) const USUAL: &str = "/sys/fs/bpf";

/// Makes `pin_dir` as [`prepare`] does, and takes it as [`lock`] does.
///
/// # Errors
/// As they have.
pub(super) fn take(pin_dir: &Path) -> Result<Lock> {
    loop {
        prepare(pin_dir)?;
        // `xpxe detach` may have removed it meanwhile.
        if let Some(lock) = lock(pin_dir)? {
            return Ok(lock);
        }
    }
}

/// Makes `pin_dir`, in a bpffs.
///
/// # Errors
/// When it is not in one and cannot be made so.
pub(super) fn prepare(pin_dir: &Path) -> Result<()> {
    let existing = pin_dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    if !is_bpffs(existing)? {
        if !pin_dir.starts_with(USUAL) {
            return Err(NotInBpffs(pin_dir.to_path_buf()).into());
        }
        mount(Some("bpf"), USUAL, Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting a bpffs on {USUAL} needs CAP_SYS_ADMIN: do it once by hand (mount -t bpf bpf {USUAL})"))?;
    }
    fs::create_dir_all(pin_dir).map_err(|error| failed("making", pin_dir, error))?;
    let pins = names(pin_dir)?.into_iter().filter(|name| is_ours(name)).map(|name| pin_dir.join(name));
    let whole = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
    let denied = |(path, access): (PathBuf, _)| {
        let asked = rustix::fs::accessat(rustix::fs::CWD, &path, access, rustix::fs::AtFlags::EACCESS);
        // Of what is gone meanwhile there is nothing to use.
        let error = asked.err().filter(|error| *error != rustix::io::Errno::NOENT);
        error.map(|error| failed("using", &path, error.into()))
    };
    let dir = (pin_dir.to_path_buf(), whole | rustix::fs::Access::EXEC_OK);
    std::iter::once(dir).chain(pins.map(|pin| (pin, whole))).find_map(denied).map_or(Ok(()), Err)
}

fn is_bpffs(dir: &Path) -> Result<bool> {
    let about = statfs(dir).map_err(|error| failed("looking at", dir, error.into()))?;
    Ok(about.filesystem_type() == BPF_FS_MAGIC)
}

/// What the process may not do with a file of the bpffs. Capabilities for BPF are no help: the files have owners and modes.
#[derive(Debug, thiserror::Error)]
#[error(
    "no permission to use {} in pin_dir ({}): run xpxe as root or through its systemd unit, or set pin_dir to a directory of \
     a bpffs that the user xpxe runs as may enter and write to (mount -t bpf bpf DIR; chown USER DIR)",
    .path.display(), .answer
)]
pub struct PinsDenied {
    /// The file or directory.
    pub path: PathBuf,
    /// The system's answer.
    pub answer: io::Error,
}

/// What did not work with a path in the bpffs.
pub(super) fn failed(doing: &str, path: &Path, answer: io::Error) -> anyhow::Error {
    match answer.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            PinsDenied { path: path.to_path_buf(), answer }.into()
        }
        _ => anyhow::Error::new(answer).context(format!("{doing} {}", path.display())),
    }
}

/// The files of a directory; none where it is not there.
fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| failed("reading", dir, error))?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn is_ours(pin: &str) -> bool {
    name::ALL.contains(&pin) || LINKS.iter().any(|link| pin.starts_with(link))
}

/// Another daemon's tables are in `pin_dir`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "another xpxe{} uses pin_dir {}, whose tables in the kernel can be one daemon's only: stop it, or set another pin_dir",
    with_pid(*.pid), .pin_dir.display()
)]
pub struct PinsInUse {
    /// The directory.
    pub pin_dir: PathBuf,
    /// The daemon's process, where the kernel tells.
    pub pid: Option<u32>,
}

/// Takes `pin_dir` for this process, as long as what is given lives; nothing where there is no such directory. `xpxe detach`
/// is waited for.
///
/// # Errors
/// [`PinsInUse`], or the directory cannot be opened.
pub fn lock(pin_dir: &Path) -> Result<Option<Lock>> {
    found(pin_dir, Lock::alone(pin_dir))
}

/// Keeps daemons from using `pin_dir`, as long as what is given lives: one that starts waits. Nothing where there is no such
/// directory.
///
/// # Errors
/// [`PinsInUse`], or the directory cannot be opened.
pub fn keep_daemons_out(pin_dir: &Path) -> Result<Option<Lock>> {
    found(pin_dir, Lock::shared(pin_dir))
}

fn found(pin_dir: &Path, lock: Result<Lock, LockError>) -> Result<Option<Lock>> {
    match lock {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Held(pid)) => Err(PinsInUse { pin_dir: pin_dir.to_path_buf(), pid }.into()),
        Err(LockError::Io(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(LockError::Io(error)) => Err(failed("locking", pin_dir, error)),
    }
}

/// What the names of links begin with.
const LINKS: [&str; 2] = ["link-xdp-", "link-tc-"];

/// Path of an interface's link.
pub(super) fn link(pin_dir: &Path, hook: &str, interface: &str) -> PathBuf {
    // bpffs refuses names with a dot, which interfaces may have (eth0.5). No interface's name has a colon.
    pin_dir.join(format!("link-{hook}-{}", interface.replace('.', ":")))
}

/// What [`detach`] removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detached {
    /// Programs taken off their interfaces.
    pub links: Vec<String>,
    /// Tables given back.
    pub tables: Vec<String>,
}

/// Removes xpxe's links and tables that are pinned in `pin_dir`, links first, and the directory if nothing else is in it.
///
/// # Errors
/// The directory is in no bpffs, so that no pins of ours can be in it. The first file that cannot be removed; the others are
/// removed all the same.
pub fn detach(pin_dir: &Path) -> Result<Detached> {
    let detached = remove(pin_dir)?;
    match fs::remove_dir(pin_dir) {
        // Other people's pins, or the bpffs itself; or there was nothing.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy | ErrorKind::NotFound
            ) => {}
        other => other.map_err(|error| failed("removing", pin_dir, error))?,
    }
    Ok(detached)
}

/// The same, and the directory stays: with it stays its lock.
///
/// # Errors
/// As [`detach`].
pub fn remove(pin_dir: &Path) -> Result<Detached> {
    if pin_dir.exists() && !is_bpffs(pin_dir)? {
        return Err(NotInBpffs(pin_dir.to_path_buf()).into());
    }
    let mut names = names(pin_dir)?;
    names.retain(|pin| is_ours(pin));
    names.sort_by_key(|name| (!name.starts_with("link-"), name.clone()));
    let mut detached = Detached::default();
    let mut not_removed = None;
    for name in names {
        let path = pin_dir.join(&name);
        if name.starts_with("link-") {
            stop(&path);
        }
        match fs::remove_file(&path) {
            Ok(()) if name.starts_with("link-") => detached.links.push(name),
            Ok(()) => detached.tables.push(name),
            // Somebody else detaches, too.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => not_removed = not_removed.or(Some((path, error))),
        }
    }
    match not_removed {
        Some((path, error)) => Err(failed("removing", &path, error)),
        None => Ok(detached),
    }
}

/// Takes a pinned link's program off its interface at once: a link whose last pin goes would linger a little.
///
/// A link that cannot be opened is gone from its interface already, and its pin is removed all the same.
pub(super) fn stop(pin: &Path) {
    if let Err(error) = sys::detach_link(pin) {
        tracing::debug!("{}: {error}", pin.display());
    }
}

/// A directory for the tables of programs that are only tried out: gone, with its tables, when dropped.
pub struct Temporary(PathBuf);

impl Temporary {
    /// Makes one below `base`, which is in a bpffs.
    ///
    /// # Errors
    /// As [`FastPath::start`](super::FastPath::start).
    pub fn new(base: &Path) -> Result<Self> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = base.join(format!("xpxe-try-{}-{number}", std::process::id()));
        prepare(&dir)?;
        Ok(Self(dir))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = detach(&self.0) {
            tracing::warn!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_has_a_pin_of_its_own() {
        let dir = Path::new("/sys/fs/bpf/xpxe");
        assert_eq!(link(dir, "tc", "eth0.5"), dir.join("link-tc-eth0:5"));
        assert_ne!(link(dir, "tc", "eth0.5"), link(dir, "tc", "eth0_5"));
    }

    #[test]
    fn a_directory_that_cannot_have_pins_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a.txt", "LINKS", "link-tc-eth0"] {
            fs::write(dir.path().join(file), "x").unwrap();
        }
        assert!(detach(dir.path()).unwrap_err().is::<NotInBpffs>());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        assert_eq!(detach(&dir.path().join("gone")).unwrap(), Detached::default());
    }
}
