//! The boots of every machine: events become notes where they happen, and one thread puts them into the timelines.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use boot_engine::diagnosis::{Note, Timelines};

/// How many notes wait for the thread at most; those beyond are counted as missed.
const WAITING: usize = 65_536;

/// The boots, and the notes that are not in them yet. Clones share both.
#[derive(Clone, Default)]
pub struct Boots(Arc<Inner>);

#[derive(Default)]
struct Inner {
    timelines: Mutex<Timelines>,
    waiting: Mutex<Vec<Note>>,
    missed: AtomicU64,
    /// Since when machines are listened to, in milliseconds since the Unix epoch.
    since: AtomicU64,
}

impl Boots {
    /// None yet. `since` is now, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn new(since: u64) -> Self {
        let boots = Self::default();
        boots.0.since.store(since, Relaxed);
        boots
    }

    /// Adds a note, from any thread; what it costs is what it costs to copy it.
    pub(super) fn push(&self, note: Note) {
        let mut waiting = lock(&self.0.waiting);
        if waiting.len() < WAITING {
            waiting.push(note);
        } else {
            self.0.missed.fetch_add(1, Relaxed);
        }
    }

    /// Exchanges the notes that wait for an empty list, whose memory is used for the next ones.
    pub(in crate::daemon) fn take_waiting(&self, into: &mut Vec<Note>) {
        into.clear();
        std::mem::swap(&mut *lock(&self.0.waiting), into);
    }

    /// The timelines. Nobody may hold them while it waits for something.
    pub fn timelines(&self) -> MutexGuard<'_, Timelines> {
        lock(&self.0.timelines)
    }

    /// How many notes had no room.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.0.missed.load(Relaxed)
    }

    /// Since when machines are listened to, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn since(&self) -> u64 {
        self.0.since.load(Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
