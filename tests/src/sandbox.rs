//! Private mounts for one test.
//!
//! [`Sandbox::enter`] gives the **calling thread**, and every thread and process it starts from then on, a
//! mount namespace of its own with a tmpfs for files and a bpffs for pins. Both are visible to nobody else
//! and vanish with the last of those threads and processes, so a killed test leaves no file, pin, program or
//! map behind. Tests of one process that run on threads of their own do not see each other's.
//!
//! Enter the sandbox first: a [`Namespace`](crate::netns::Namespace) created earlier keeps the mounts of that
//! time.

use std::cell::{Cell, RefCell};
use std::fs;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Empty directories of every system: mounted over, they need no mount point that would stay behind.
const EMPTY_DIRECTORIES: [&str; 4] = ["/media", "/srv", "/mnt", "/opt"];

/// Whether this test can run. Without root, prints that the test is skipped; with `XPXE_REQUIRE_ROOT=1`, which forbids
/// skipping, panics.
pub fn root_or_skip() -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var("XPXE_REQUIRE_ROOT").as_deref() != Ok("1"), "this test needs root");
    if !root {
        println!("skipped: needs root");
    }
    root
}

/// A scratch directory and a bpffs that only this thread and its descendants see. Bound to its thread.
#[derive(Debug)]
pub struct Sandbox {
    dir: PathBuf,
    next_rack: Cell<u32>,
    covered: RefCell<Vec<PathBuf>>,
    not_send: PhantomData<*const ()>,
}

impl Sandbox {
    /// Moves the calling thread into a mount namespace of its own.
    pub fn enter() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace of our own (are you root?)")?;
        // Otherwise these mounts would propagate to the rest of the system.
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .context("make all mounts private")?;
        let dir = mount_point()?;
        mount(Some("xpxe-test"), &dir, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .with_context(|| format!("mount a tmpfs on {}", dir.display()))?;
        let sandbox =
            Self { dir, next_rack: Cell::new(0), covered: RefCell::default(), not_send: PhantomData };
        // Outside /sys: tools such as `ip netns exec` mount a fresh /sys and would hide it.
        let pins = sandbox.pin_dir();
        fs::create_dir(&pins)?;
        mount(Some("xpxe-test"), &pins, Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mount a bpffs on {}", pins.display()))?;
        Ok(sandbox)
    }

    /// Covers a directory of the system with an empty one, for whatever has its files there and cannot be told otherwise.
    pub fn cover(&self, dir: &str) -> Result<()> {
        mount(Some("xpxe-test"), dir, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .with_context(|| format!("mount a tmpfs on {dir}"))?;
        self.covered.borrow_mut().push(PathBuf::from(dir));
        Ok(())
    }

    /// Puts a file with this content over one of the system.
    pub fn replace(&self, file: &str, content: &str) -> Result<()> {
        let own = self.dir.join(format!("replaced{}", self.covered.borrow().len()));
        fs::write(&own, content)?;
        mount(Some(&own), file, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("mount {} on {file}", own.display()))?;
        self.covered.borrow_mut().push(PathBuf::from(file));
        Ok(())
    }

    /// The scratch directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The root of the bpffs.
    pub fn pin_dir(&self) -> PathBuf {
        self.dir.join("bpf")
    }

    /// A new directory for one rack's files.
    pub(crate) fn new_rack_dir(&self) -> Result<PathBuf> {
        let number = self.next_rack.replace(self.next_rack.get() + 1);
        let dir = self.dir.join(format!("rack{number}"));
        fs::create_dir(&dir)?;
        Ok(dir)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The thread may go on, for example with the next test, which needs the directory as it was.
        let covered = self.covered.take();
        for mounted in covered.into_iter().chain([self.pin_dir(), self.dir.clone()]) {
            if let Err(error) = umount2(&mounted, MntFlags::MNT_DETACH) {
                eprintln!("unmount {}: {error}", mounted.display());
            }
        }
    }
}

fn mount_point() -> Result<PathBuf> {
    let is_empty = |dir: &&str| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
    if let Some(dir) = EMPTY_DIRECTORIES.iter().find(|dir| is_empty(dir)) {
        return Ok(PathBuf::from(dir));
    }
    let dir = std::env::temp_dir().join("xpxe-sandbox");
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    Ok(dir)
}
