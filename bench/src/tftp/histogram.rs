//! Many durations in little memory.

use std::time::Duration;

/// Steps within each power of two: a quantile is at most 3 % too high.
const STEPS: u64 = 32;

/// How often which duration was seen.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    all: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; slot(u64::MAX) + 1], all: 0 }
    }
}

impl Histogram {
    pub(crate) fn add(&mut self, nanoseconds: u64) {
        self.counts[slot(nanoseconds)] += 1;
        self.all += 1;
    }

    /// What this share of the durations stayed below; none of none.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = ((self.all as f64 * share).ceil() as u64).max(1);
        let mut sum = 0;
        let at = self.counts.iter().position(|count| {
            sum += count;
            sum >= wanted
        })?;
        Some(Duration::from_nanos(top(at)))
    }
}

/// Exact below `STEPS`, then that many steps for each doubling.
fn slot(value: u64) -> usize {
    let shift = (value / STEPS).checked_ilog2().unwrap_or(0);
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

/// The largest value of a slot.
fn top(slot: usize) -> u64 {
    let slot = slot as u64;
    match slot / STEPS {
        0 | 1 => slot,
        doublings => {
            let shift = doublings - 1;
            let first = (slot - shift * STEPS) << shift;
            first + ((1 << shift) - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_slot_that_ends_at_most_a_step_above_it() {
        for value in (0..5000).chain([1 << 20, (1 << 20) + 12_345, u64::MAX / 3, u64::MAX - 1, u64::MAX]) {
            let top = top(slot(value));
            assert!(top >= value && top - value <= value / STEPS, "{value}: {top}");
            assert!(value == 0 || super::top(slot(value) - usize::from(slot(value) > 0)) < value, "{value}");
        }
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=100).for_each(|value| histogram.add(value * 1000));
        let near = |share, wanted: u64| {
            let found = histogram.quantile(share).unwrap().as_nanos() as u64;
            assert!((wanted..=wanted + wanted / STEPS).contains(&found), "{share}: {found}");
        };
        near(0.5, 50_000);
        near(0.99, 99_000);
        near(1.0, 100_000);
    }
}
