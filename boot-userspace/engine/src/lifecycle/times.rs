//! How long machines were in states that they have left.

use super::State;

/// The upper bounds of the buckets, in seconds: from a second to thirty days.
pub const TIMES: [u64; 10] = [1, 10, 60, 300, 900, 3_600, 14_400, 86_400, 604_800, 2_592_000];

/// A histogram for each state.
#[derive(Clone, Debug, Default)]
pub struct TimesInState([OfState; State::ALL.len()]);

/// One more bucket than [`TIMES`] has: what took longer than all of them.
#[derive(Clone, Debug, Default)]
struct OfState {
    counts: [u64; TIMES.len() + 1],
    sum: u64,
}

impl TimesInState {
    /// A machine has left a state, in which it was for so many seconds.
    pub fn add(&mut self, state: State, seconds: u64) {
        let bucket = TIMES.iter().position(|most| seconds <= *most).unwrap_or(TIMES.len());
        let Some(of) = State::ALL.iter().position(|it| *it == state).and_then(|at| self.0.get_mut(at)) else {
            return;
        };
        of.counts[bucket] += 1;
        of.sum = of.sum.saturating_add(seconds);
    }

    /// Of each state that was ever left: how often for at most as long as each of [`TIMES`] says, how often, and the sum of
    /// the seconds.
    pub fn all(&self) -> impl Iterator<Item = (State, [u64; TIMES.len()], u64, u64)> {
        let of = |(state, of): (State, &OfState)| {
            let (mut below, mut all) = ([0; TIMES.len()], 0);
            for (count, below) in of.counts.iter().zip(&mut below) {
                all += count;
                *below = all;
            }
            all += of.counts.last().copied().unwrap_or_default();
            (state, below, all, of.sum)
        };
        State::ALL.into_iter().zip(&self.0).map(of).filter(|(_, _, all, _)| *all > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_counts_what_took_at_most_so_long() {
        let mut times = TimesInState::default();
        for seconds in [0, 1, 11, 300, 2_592_001] {
            times.add(State::Installing, seconds);
        }
        let all: Vec<_> = times.all().collect();
        assert_eq!(all, [(State::Installing, [2, 2, 3, 4, 4, 4, 4, 4, 4, 4], 5, 2_592_313)]);
    }
}
