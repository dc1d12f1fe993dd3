//! A control group around a server: what it used, with every process that it ever started.
//!
//! A process clock is not enough for servers that start a process for each transfer: those that do not wait for it
//! (SIGCHLD ignored) are never told what it used.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use boot_tests::wait::eventually;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

const END: Duration = Duration::from_secs(10);

/// A control group of the second version, with nobody in it. Dropping it kills who is.
#[derive(Debug)]
pub struct Group {
    mounted: PathBuf,
    dir: PathBuf,
}

impl Group {
    /// A new one. The file system for it is mounted on `dir`, which is made for that; the caller is in a mount
    /// namespace of its own.
    ///
    /// # Errors
    /// When this kernel has no such groups.
    pub fn new(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        mount(Some("xpxe-bench"), dir, Some("cgroup2"), MsFlags::empty(), None::<&str>)
            .context("mount the control groups")?;
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("xpxe-bench-{}-{number}", std::process::id());
        let group = Self { mounted: dir.to_owned(), dir: dir.join(name) };
        match fs::create_dir(&group.dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(error).context("make a control group")
            }
            _ => Ok(group),
        }
    }

    /// Puts a process in, and with it what it starts from now on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn add(&self, pid: u32) -> Result<()> {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string())
            .context("put a process into a control group")
    }

    /// Who is in it.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let text = fs::read_to_string(self.dir.join("cgroup.procs")).context("read a control group")?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Where [`used`] reads the CPU time of all that were ever in it.
    pub(crate) fn stat(&self) -> PathBuf {
        self.dir.join("cpu.stat")
    }
}

/// What a group used, to the microsecond.
pub(crate) fn used(stat: &Path) -> Result<Duration> {
    let text = fs::read_to_string(stat).with_context(|| format!("read {}", stat.display()))?;
    let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    Ok(Duration::from_micros(used.context("no usage_usec")?.parse()?))
}

impl Drop for Group {
    fn drop(&mut self) {
        let end = || -> Result<()> {
            fs::write(self.dir.join("cgroup.kill"), "1")?;
            // Only an empty one can be removed, and killing takes a moment.
            eventually(END, "the end of a server", || fs::remove_dir(&self.dir).is_ok())?;
            umount2(&self.mounted, MntFlags::MNT_DETACH)?;
            Ok(fs::remove_dir(&self.mounted)?)
        };
        if let Err(error) = end() {
            eprintln!("remove the control group {}: {error:#}", self.dir.display());
        }
    }
}
