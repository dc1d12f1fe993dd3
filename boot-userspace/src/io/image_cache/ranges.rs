//! Which parts of a row of equal elements are taken.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A row of elements, and the ranges of it that are taken.
#[derive(Debug)]
pub(super) struct Ranges {
    length: u32,
    /// Start → length. Ranges do not overlap.
    taken: BTreeMap<u32, u32>,
}

impl Ranges {
    pub(super) fn new(length: u32) -> Self {
        Self { length, taken: BTreeMap::new() }
    }

    /// Takes the first free range of so many elements.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        let mut free_from = 0;
        for (start, length) in &self.taken {
            if start - free_from >= count {
                break;
            }
            free_from = start + length;
        }
        if self.length.checked_sub(free_from)? < count {
            return None;
        }
        self.taken.insert(free_from, count);
        Some(free_from)
    }

    /// Takes this range, as an earlier daemon did. False when it is not free.
    pub(super) fn take_at(&mut self, start: u32, count: u32) -> bool {
        let Some(end) = start.checked_add(count).filter(|end| *end <= self.length) else { return false };
        let before = self.taken.range(..end).next_back();
        if before.is_some_and(|(other, length)| other + length > start) {
            return false;
        }
        self.taken.insert(start, count);
        true
    }

    pub(super) fn give_back(&mut self, start: u32) {
        self.taken.remove(&start);
    }

    /// Every free range of at least so many elements that there would be without those that begin at `leaving`.
    pub(super) fn rooms(&self, count: u32, leaving: &BTreeSet<u32>) -> Vec<Range<u32>> {
        let staying = self.taken.iter().filter(|(start, _)| !leaving.contains(start));
        let (mut rooms, mut from) = (Vec::new(), 0);
        for (start, length) in staying.chain([(&self.length, &0)]) {
            if start - from >= count {
                rooms.push(from..*start);
            }
            from = start + length;
        }
        rooms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_taken_where_they_fit_first() {
        let mut ranges = Ranges::new(10);
        assert_eq!(
            [ranges.take(4), ranges.take(4), ranges.take(3), ranges.take(2)],
            [Some(0), Some(4), None, Some(8)]
        );
        ranges.give_back(4);
        assert_eq!(
            [ranges.take(5), ranges.take(3), ranges.take(1), ranges.take(1)],
            [None, Some(4), Some(7), None]
        );
    }

    #[test]
    fn rooms_are_between_what_stays() {
        let mut ranges = Ranges::new(10);
        for (start, count) in [(0, 2), (2, 1), (4, 2), (7, 3)] {
            assert!(ranges.take_at(start, count));
        }
        let rooms = |count, leaving: &[u32]| ranges.rooms(count, &leaving.iter().copied().collect());
        assert_eq!(rooms(1, &[]), [3..4, 6..7]);
        assert_eq!(rooms(2, &[]), []);
        assert_eq!(rooms(2, &[2, 7]), [2..4, 6..10]);
        assert_eq!(rooms(10, &[0, 2, 4, 7]), [Range { start: 0, end: 10 }]);
        assert_eq!(rooms(11, &[0, 2, 4, 7]), []);
    }

    #[test]
    fn what_an_earlier_daemon_took_stays_taken() {
        let mut ranges = Ranges::new(10);
        assert!(ranges.take_at(3, 4));
        for (start, count) in [(3, 4), (0, 4), (6, 1), (6, 4), (2, 6), (8, 3)] {
            assert!(!ranges.take_at(start, count), "{start} {count}");
        }
        assert!(ranges.take_at(7, 3) && ranges.take_at(0, 3));
        assert_eq!(ranges.take(1), None);
    }
}
