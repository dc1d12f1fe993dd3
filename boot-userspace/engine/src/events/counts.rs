//! How many events there were.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Kind;

/// Counts events by their kind, and those that were lost. Shared by all threads.
#[derive(Debug)]
pub struct Counts {
    by_kind: [AtomicU64; Kind::ALL.len()],
    lost: AtomicU64,
    missed: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            by_kind: std::array::from_fn(|_| AtomicU64::new(0)),
            lost: AtomicU64::default(),
            missed: AtomicU64::default(),
        }
    }
}

impl Counts {
    /// Counts one.
    pub fn add(&self, kind: Kind) {
        if let Some(count) = self.by_kind.get(kind as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Counts events for which the engine's queue had no room.
    pub fn lose(&self, events: u64) {
        self.lost.fetch_add(events, Relaxed);
    }

    /// Counts events that a reader came too late for.
    pub fn miss(&self, events: u64) {
        self.missed.fetch_add(events, Relaxed);
    }

    /// How many there were of each kind, in the order of [`Kind::ALL`].
    #[must_use]
    pub fn by_kind(&self) -> [(Kind, u64); Kind::ALL.len()] {
        Kind::ALL.map(|kind| (kind, self.by_kind.get(kind as usize).map_or(0, |count| count.load(Relaxed))))
    }

    /// How many had no room in the engine's queue.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// How many readers came too late for.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_count_and_name() {
        let counts = Counts::default();
        for (nth, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, nth, "{kind:?}");
            (0..=nth).for_each(|_| counts.add(kind));
        }
        for (nth, (kind, count)) in counts.by_kind().into_iter().enumerate() {
            assert_eq!((kind, count), (Kind::ALL[nth], nth as u64 + 1));
        }
        let mut names = Kind::ALL.map(Kind::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len());
        counts.lose(3);
        counts.miss(4);
        assert_eq!((counts.lost(), counts.missed()), (3, 4));
    }
}
