//! A file on its way to a client: what of it has left, whether it is still the same, and the log line at its end.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise, fstatfs, sendfile};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::ending::Ending;
use crate::files::OpenFile;
use crate::host::clock;
use crate::host::size::human_size;
use boot_engine::events::{BootEvent, Events, Http, Machine, Step};

/// Bytes that are read at a time.
pub(super) const CHUNK: usize = 128 * 1024;
/// The kernel reads no less than that ahead of a reader, so a look at one byte of as many tells of all.
const LOOK_EVERY: usize = 128 * 1024;

/// Who gets a file, and who is told of it.
pub(super) struct Recipient {
    pub(super) machine: Option<Machine>,
    pub(super) client: IpAddr,
    pub(super) file: Arc<str>,
    pub(super) ending: Ending,
    pub(super) events: Events,
}

impl Recipient {
    pub(super) fn happened(&self, http: Http) {
        let event = BootEvent::new(clock::boot(), Step::Http(self.client, http));
        self.events.emit(event.of(self.machine.clone()));
    }

    /// The connection ended before the client had everything: by whose doing.
    pub(super) fn cut_short(&self, bytes: u64, whole: u64, took: Duration) -> Http {
        let file = Arc::clone(&self.file);
        match self.ending.why() {
            Some(why) => Http::Ended { file, bytes, whole, took, why },
            None => Http::Left { file, bytes, whole, took },
        }
    }
}

/// A file that is being sent. The log line is written when nobody needs it any more: its last byte has been handed to the
/// kernel, or the connection has ended before.
pub(super) struct Delivery {
    open: OpenFile,
    /// Its file system has no disk that one could wait for.
    in_memory: bool,
    wanted: u64,
    /// Neither the file's beginning nor its end is wanted: it is read like a disk.
    is_read: bool,
    sent: AtomicU64,
    /// Why the file could not be sent to the end.
    failed: OnceLock<String>,
    started: Instant,
    to: Recipient,
}

impl Delivery {
    /// `wanted` bytes of a file will be sent. `in_memory`: see [`has_no_disk`].
    pub(super) fn new(open: OpenFile, in_memory: bool, wanted: u64, to: Recipient) -> Self {
        let (sent, failed) = (AtomicU64::new(0), OnceLock::new());
        Self { open, in_memory, wanted, is_read: false, sent, failed, started: Instant::now(), to }
    }

    /// `is_read`: neither the file's beginning nor its end is wanted, as when firmware boots it as a disk.
    pub(super) fn with_read(mut self, is_read: bool) -> Self {
        self.is_read = is_read;
        self
    }

    /// Whether bytes can be had without waiting for a disk.
    pub(super) fn is_at_hand(&self, at: u64, length: usize) -> bool {
        let last = length.saturating_sub(1);
        let looks = (0..last).step_by(LOOK_EVERY).chain([last]);
        self.in_memory || looks.map(|look| at + look as u64).all(|at| self.has_cached(at))
    }

    fn has_cached(&self, at: u64) -> bool {
        let (mut byte, file) = ([0], &self.open.file);
        // A file system that cannot say so may have to wait.
        preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT).is_ok()
    }

    /// Waits until the disk has given these bytes.
    ///
    /// # Errors
    /// As the disk gives them.
    pub(super) fn fetch(&self, at: u64, length: usize) -> io::Result<()> {
        // Only what is read faster is lost without it.
        fadvise(&self.open.file, at, NonZeroU64::new(length as u64), Advice::WillNeed).ok();
        let mut bytes = vec![0; length.min(CHUNK)];
        let mut read = 0;
        while read < length {
            let most = bytes.len().min(length - read);
            match self.open.file.read_at(bytes.get_mut(..most).unwrap_or_default(), at + read as u64) {
                // Who sends finds that it was cut.
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fail(error)),
            }
        }
        Ok(())
    }

    /// Copies at most [`CHUNK`] bytes. None: they have to come from the disk.
    ///
    /// # Errors
    /// When they cannot be read, or the file is not the same any more.
    pub(super) fn read(&self, at: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
        let length = length.min(CHUNK);
        if !self.is_at_hand(at, length) {
            return Ok(None);
        }
        self.read_from_disk(at, length).map(Some)
    }

    /// The same, and waits for the disk.
    ///
    /// # Errors
    /// As above.
    pub(super) fn read_from_disk(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length.min(CHUNK)];
        self.open.file.read_exact_at(&mut bytes, at).map_err(|error| self.fail(error))?;
        self.check()?;
        self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Has the kernel send bytes, and says how many it has taken.
    ///
    /// # Errors
    /// Of the socket; or when they cannot be read, or the file is not the same any more: then [`Delivery::has_failed`].
    pub(super) fn send(&self, to: impl AsFd, at: u64, length: usize) -> io::Result<usize> {
        let sent = match sendfile(to, &self.open.file, Some(&mut at.clone()), length) {
            Ok(0) => return Err(self.fail(io::ErrorKind::UnexpectedEof.into())),
            Ok(sent) => sent,
            Err(Errno::IO) => return Err(self.fail(Errno::IO.into())),
            Err(error) => return Err(error.into()),
        };
        // Afterwards: what was sent before a change was right.
        self.check()?;
        self.sent.fetch_add(sent as u64, Ordering::Relaxed);
        Ok(sent)
    }

    /// Whether it is the file's fault that the rest is not sent.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.get().is_some()
    }

    fn check(&self) -> io::Result<()> {
        if self.open.is_unchanged().map_err(|error| self.fail(error))? {
            return Ok(());
        }
        // Seen here as a rule, and only sometimes as the file's end.
        if self.open.file.metadata().is_ok_and(|facts| facts.len() < self.open.size) {
            return Err(self.fail(io::ErrorKind::UnexpectedEof.into()));
        }
        let is_written = self.open.file.metadata()?.modified().ok() != Some(self.open.modified);
        let why = if is_written {
            "the file was written to meanwhile; replace boot files by renaming new ones over them"
        } else {
            "the file's names or attributes were changed meanwhile, and nothing tells whether its content was, too; do that to boot files while no machine boots"
        };
        self.failed.get_or_init(|| why.to_owned());
        Err(io::Error::other(why))
    }

    /// The connection ends with that, and the log has to say that the file is to blame.
    fn fail(&self, error: io::Error) -> io::Error {
        let is_cut = error.kind() == io::ErrorKind::UnexpectedEof;
        self.failed.get_or_init(|| if is_cut { self.cut() } else { error.to_string() });
        error
    }

    fn cut(&self) -> String {
        let left = self.open.file.metadata().map_or(0, |facts| facts.len());
        format!(
            "the file was cut to {} meanwhile; replace boot files by renaming new ones over them",
            human_size(left)
        )
    }
}

/// Whether a file is in memory whatever happens. Asks the file system, which may have to wait for a disk.
pub(super) fn has_no_disk(file: &File) -> bool {
    // tmpfs and ramfs, which do not know RWF_NOWAIT (linux/magic.h).
    const TMPFS: u32 = 0x0102_1994;
    const RAMFS: u32 = 0x8584_58f6;
    fstatfs(file).is_ok_and(|facts| [TMPFS, RAMFS].contains(&(facts.f_type as u32)))
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let (file, bytes, took) = (Arc::clone(&self.to.file), *self.sent.get_mut(), self.started.elapsed());
        self.to.happened(match self.failed.take() {
            _ if bytes == self.wanted && self.is_read => Http::Read { file, bytes, took },
            _ if bytes == self.wanted => Http::Sent { file, bytes, took },
            Some(why) => Http::Broken { file, bytes, took, why },
            None => self.to.cut_short(bytes, self.wanted, took),
        });
    }
}
