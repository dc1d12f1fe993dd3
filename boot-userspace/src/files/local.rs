//! Whether a boot directory is on a disk of this machine, where the kernel opens what it remembers without asking anybody.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, StatxFlags, fstatfs, statx};

/// linux/magic.h: those that ask no server and no other process. An open of a file on any other one may take as long as
/// that takes.
const LOCAL: [u32; 13] = [
    0x0000_ef53, // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x794c_7630, // overlayfs
    0x7371_7368, // squashfs
    0xe0f5_e1e2, // erofs
    0xf2f5_2010, // f2fs
    0x2fc1_2fc1, // zfs
    0xca45_1a4e, // bcachefs
    0x0000_9660, // iso9660
    0x0000_4d44, // vfat
];

/// The last file system that was found to be local.
#[derive(Debug, Default)]
pub(super) struct Local {
    /// Its device number, 0 before there is one.
    device: AtomicU64,
}

impl Local {
    /// Looks at the file system of a directory. Waits for it.
    pub(super) fn learn(&self, dir: impl AsFd) {
        let dir = dir.as_fd();
        let is_local = fstatfs(dir).is_ok_and(|facts| LOCAL.contains(&(facts.f_type as u32)));
        self.device.store(if is_local { device(dir).unwrap_or(0) } else { 0 }, Ordering::Relaxed);
    }

    /// Whether a directory is on that file system. Waits for nothing.
    pub(super) fn has(&self, dir: impl AsFd) -> bool {
        let known = self.device.load(Ordering::Relaxed);
        known != 0 && device(dir.as_fd()) == Some(known)
    }
}

/// As the kernel remembers it.
fn device(dir: BorrowedFd<'_>) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let facts = statx(dir, "", flags, StatxFlags::TYPE).ok()?;
    Some(rustix::fs::makedev(facts.stx_dev_major, facts.stx_dev_minor))
}
