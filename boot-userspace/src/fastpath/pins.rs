//! What outlives the daemon: files in a bpffs, and taking them away.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use boot_common::tables::name;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::fastpath::{NoPermission, NotInBpffs, sys};
use crate::host::lock::{Lock, LockError, with_pid};

/// Where bpffs usually is.
pub(super) const USUAL: &str = "/sys/fs/bpf";

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
    match fs::create_dir_all(pin_dir) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(NoPermission.into()),
        other => other.with_context(|| format!("making {}", pin_dir.display())),
    }
}

fn is_bpffs(dir: &Path) -> Result<bool> {
    Ok(statfs(dir).with_context(|| format!("looking at {}", dir.display()))?.filesystem_type()
        == BPF_FS_MAGIC)
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

/// Takes `pin_dir` for this process, as long as what is given lives; nothing where there is no such directory.
///
/// # Errors
/// [`PinsInUse`], or the directory cannot be opened.
pub fn lock(pin_dir: &Path) -> Result<Option<Lock>> {
    match Lock::directory(pin_dir) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Held(pid)) => Err(PinsInUse { pin_dir: pin_dir.to_path_buf(), pid }.into()),
        Err(LockError::Io(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(LockError::Io(error)) => {
            Err(error).with_context(|| format!("locking pin_dir {}", pin_dir.display()))
        }
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
        other => other.with_context(|| format!("removing {}", pin_dir.display()))?,
    }
    Ok(detached)
}

/// The same, and the directory stays: with it stays its lock.
///
/// # Errors
/// As [`detach`].
pub(super) fn remove(pin_dir: &Path) -> Result<Detached> {
    if pin_dir.exists() && !is_bpffs(pin_dir)? {
        return Err(NotInBpffs(pin_dir.to_path_buf()).into());
    }
    let mut names = match fs::read_dir(pin_dir) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<Vec<_>>>()?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Detached::default()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", pin_dir.display())),
    };
    names.retain(|pin| name::ALL.contains(&pin.as_str()) || LINKS.iter().any(|link| pin.starts_with(link)));
    names.sort_by_key(|name| (!name.starts_with("link-"), name.clone()));
    let mut detached = Detached::default();
    let mut failed = None;
    for name in names {
        let path = pin_dir.join(&name);
        if name.starts_with("link-") {
            stop(&path);
        }
        match fs::remove_file(&path) {
            Ok(()) if name.starts_with("link-") => detached.links.push(name),
            Ok(()) => detached.tables.push(name),
            Err(error) => failed = failed.or(Some((path, error))),
        }
    }
    if let Some((path, error)) = failed {
        return Err(error).with_context(|| format!("removing {}", path.display()));
    }
    Ok(detached)
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
