//! The file of boots. Leases are on the same disk, and worth more: the file leaves room for them, and gives way on a full disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use boot_common::Mac;
use tracing::warn;

use crate::daemon::request::Boots;
use crate::host::replace::{PRIVATE, replace_by};
use boot_engine::diagnosis::Boot;

/// So many lines more than there are boots, and the file is written anew.
const MOST_OLD: usize = 50_000;
/// So many bytes more than twice what it had then, and it is written anew, too.
const OLD_BYTES: u64 = 64 << 20;
/// The file has no more bytes than this.
const MOST_BYTES: u64 = 512 << 20;
/// So many bytes of boots are written anew, those of the machines that booted last.
const KEPT_BYTES: u64 = 256 << 20;
/// So many bytes of the disk stay free, or a quarter of a small disk.
const FREE: u64 = 64 << 20;
/// A disk with less room than this is full, and a smaller file has nothing to give.
const LEAST: u64 = 1 << 20;
/// The boots of so many machines are copied at once.
const AT_ONCE: usize = 1000;

/// The file.
pub(super) struct Store {
    pub(super) path: PathBuf,
    /// Tells how much room is left where the file is.
    pub(super) room: fn(&Path) -> io::Result<Room>,
    pub(super) lines: usize,
    /// How many bytes it had when it was written anew.
    pub(super) anew: u64,
    /// It has given way: what was in it is to be written once there is room.
    pub(super) is_gone: bool,
    /// When the last write failed, if it did.
    pub(super) failed: Option<Instant>,
}

/// How many bytes of a disk are free.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) free: u64,
    /// How many of them are not for boots.
    pub(super) kept: u64,
}

impl Room {
    /// Nothing can be written any more.
    pub(super) fn is_full(self) -> bool {
        self.free < LEAST
    }

    /// What boots may take.
    fn usable(self) -> u64 {
        self.free.saturating_sub(self.kept)
    }
}

impl Store {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, room, lines: 0, anew: 0, is_gone: false, failed: None }
    }

    /// Adds boots, or writes all of them anew.
    pub(super) fn append(&mut self, boots: &[Boot], all: &Boots) -> io::Result<()> {
        let kept = all.timelines().count();
        if self.is_gone || self.lines + boots.len() > 2 * kept + MOST_OLD {
            return self.rewrite(all);
        }
        let mut open = OpenOptions::new();
        open.create(true).read(true).append(true).mode(0o600).custom_flags(libc::O_NONBLOCK);
        let file = open.open(&self.path)?;
        let facts = file.metadata()?;
        if !facts.is_file() {
            // A pipe in its place would be waited for.
            return self.rewrite(all);
        }
        if is_cut(&file)? {
            (&file).write_all(b"\n")?;
        }
        let left = self.most().saturating_sub(facts.len());
        let usable = (self.room)(&self.path)?.usable();
        let mut writing = Writing::new(&file, left.min(usable));
        let mut fits = true;
        for boot in boots {
            fits = writing.put(boot)?;
            if !fits {
                break;
            }
        }
        self.lines += writing.end()?.lines;
        // Where little of it is old, writing it anew would gain no room.
        let is_old = facts.len() > self.anew + self.anew / 2;
        match fits {
            true => Ok(()),
            false if left < usable || is_old => self.rewrite(all),
            false => Err(short()),
        }
    }

    /// With so many bytes the file is written anew.
    fn most(&self) -> u64 {
        (2 * self.anew + OLD_BYTES).min(MOST_BYTES)
    }

    /// Writes the boots that are kept, those of the machines that booted last first, as far as there is room.
    fn rewrite(&mut self, all: &Boots) -> io::Result<()> {
        let facts = fs::symlink_metadata(&self.path).ok().filter(fs::Metadata::is_file);
        let old = facts.map_or(0, |facts| facts.len());
        let room = (self.room)(&self.path)?;
        let without = Room { free: room.free.saturating_add(old), ..room };
        if without.usable() < LEAST {
            return Err(short());
        }
        let mut usable = room.usable();
        if usable / 2 < old.min(KEPT_BYTES) {
            // There is no room for both.
            self.empty()?;
            usable = without.usable();
        }
        // The other half is for what is appended.
        let most = KEPT_BYTES.min(usable / 2);
        let mut written = Written::default();
        replace_by(&self.path, PRIVATE, |file| {
            written = write_kept(file, most, all)?;
            Ok(())
        })?;
        (self.lines, self.anew, self.is_gone) = (written.lines, written.bytes, false);
        Ok(())
    }

    /// Leaves its room on a full disk to the leases.
    pub(super) fn give_way(&mut self) {
        let is_large = |facts: fs::Metadata| facts.is_file() && facts.len() >= LEAST;
        if !fs::symlink_metadata(&self.path).is_ok_and(is_large) {
            return;
        }
        let path = self.path.display().to_string();
        match self.empty() {
            Ok(()) => warn!(
                "the disk is full: {path} is emptied, so that leases have its room, and is written again when there is more: \
                 free some space"
            ),
            Err(error) => warn!("the disk is full, and {path} cannot be emptied: {error}; delete it"),
        }
    }

    fn empty(&mut self) -> io::Result<()> {
        OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&self.path)?.set_len(0)?;
        (self.lines, self.anew, self.is_gone) = (0, 0, true);
        Ok(())
    }
}

fn room(path: &Path) -> io::Result<Room> {
    let facts = rustix::fs::statvfs(path.parent().unwrap_or(path))?;
    let unit = facts.f_frsize;
    let all = facts.f_blocks.saturating_mul(unit);
    if all == 0 {
        // Those that have no limit say that nothing is free of nothing.
        return Ok(Room { free: u64::MAX, kept: 0 });
    }
    // Root may use what is reserved for it.
    let blocks = if nix::unistd::geteuid().is_root() { facts.f_bfree } else { facts.f_bavail };
    let free = blocks.saturating_mul(unit);
    Ok(Room { free, kept: FREE.min(all / 4) })
}

/// There is room, but it is for leases: nothing has to give way yet.
fn short() -> io::Error {
    io::Error::other("the disk is nearly full, and what is left is for leases; free some space")
}

/// Whether the last line has no end: xpxe was killed while it wrote, or the disk was full.
fn is_cut(file: &File) -> io::Result<bool> {
    let Some(at) = file.metadata()?.len().checked_sub(1) else { return Ok(false) };
    let mut last = [0];
    file.read_exact_at(&mut last, at)?;
    Ok(last != *b"\n")
}

/// Writes boots, a line each, up to a number of bytes.
struct Writing<'f> {
    file: BufWriter<&'f File>,
    line: Vec<u8>,
    left: u64,
    written: Written,
}

#[derive(Clone, Copy, Debug, Default)]
struct Written {
    lines: usize,
    bytes: u64,
}

impl<'f> Writing<'f> {
    fn new(file: &'f File, most: u64) -> Self {
        Self { file: BufWriter::new(file), line: Vec::new(), left: most, written: Written::default() }
    }

    /// False: it does not fit.
    fn put(&mut self, boot: &Boot) -> io::Result<bool> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, boot)?;
        self.line.push(b'\n');
        let bytes = self.line.len() as u64;
        let Some(left) = self.left.checked_sub(bytes) else { return Ok(false) };
        self.file.write_all(&self.line)?;
        self.left = left;
        self.written.lines += 1;
        self.written.bytes += bytes;
        Ok(true)
    }

    fn end(mut self) -> io::Result<Written> {
        self.file.flush()?;
        Ok(self.written)
    }
}

fn write_kept(file: &File, most: u64, all: &Boots) -> io::Result<Written> {
    let mut macs: Vec<(u64, Mac)> = {
        let timelines = all.timelines();
        let newest = |mac: Mac| Some((timelines.boots(mac).next_back()?.opened, mac));
        timelines.macs().into_iter().filter_map(newest).collect()
    };
    macs.sort_unstable_by_key(|(opened, mac)| (std::cmp::Reverse(*opened), *mac));
    let mut writing = Writing::new(file, most);
    for some in macs.chunks(AT_ONCE) {
        let boots: Vec<Boot> = {
            let timelines = all.timelines();
            some.iter().flat_map(|(_, mac)| timelines.boots(*mac).rev().cloned()).collect()
        };
        for boot in &boots {
            if !writing.put(boot)? {
                return writing.end();
            }
        }
    }
    writing.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        for (text, cut) in [("", false), ("{}\n", false), ("{}\n{\"mac\"", true)] {
            let path = dir.path().join("boots");
            fs::write(&path, text).unwrap();
            assert_eq!(is_cut(&File::open(&path).unwrap()).unwrap(), cut, "{text:?}");
        }
    }
}
