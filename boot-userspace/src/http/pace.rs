//! How often one machine may make the server work.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// So many at once, then one in each [`EVERY`].
const AT_ONCE: u32 = 8;
/// Each one is stored.
const EVERY: Duration = Duration::from_secs(15);
/// The same for how far an agent is, which it says every few seconds.
const EVERY_PROGRESS: Duration = Duration::from_secs(1);
/// With fewer machines, nobody looks for those that can be forgotten.
const FEW: usize = 1024;

/// What machines have used of what they may do, by their numbers in the registry. A machine that has been quiet for a
/// minute takes no memory.
#[derive(Debug, Default)]
pub struct Pace {
    used: Mutex<Used>,
    progress: Mutex<Used>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Used {
    /// When a machine may do as many at once again as one that was quiet, by the boot clock.
    until: HashMap<u64, Duration>,
    /// With so many machines those are looked for that can be forgotten.
    full: usize,
}

impl Pace {
    /// Lets a machine do it once more. `now` is by the boot clock.
    ///
    /// # Errors
    /// After how many seconds it may ask again. It is counted.
    pub fn take(&self, machine: u64, now: Duration) -> Result<(), u64> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.take(machine, now, EVERY).map_err(|wait| {
            self.refused.fetch_add(1, Relaxed);
            wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
        })
    }

    /// Whether a machine's agent may say once more how far it is. `now` is by the boot clock.
    pub fn take_progress(&self, machine: u64, now: Duration) -> bool {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.take(machine, now, EVERY_PROGRESS).is_ok()
    }

    /// How often a machine was refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

impl Used {
    /// Lets a machine do it once more, or says after how long it may ask again.
    fn take(&mut self, machine: u64, now: Duration, every: Duration) -> Result<(), Duration> {
        if self.until.len() >= self.full.max(FEW) {
            self.until.retain(|_, until| *until > now);
            self.full = self.until.len().saturating_mul(2);
        }
        let until = self.until.entry(machine).or_default();
        let left = until.saturating_sub(now);
        if let Some(wait) = left.checked_sub(every * (AT_ONCE - 1)).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        *until = now + left + every;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_at_once_and_then_one_at_a_time() {
        let pace = Pace::default();
        let at = Duration::from_secs;
        for _ in 0..8 {
            assert_eq!(pace.take(1, at(100)), Ok(()));
        }
        assert_eq!(pace.take(1, at(100)), Err(15));
        assert_eq!(pace.take(2, at(100)), Ok(()), "each machine has its own");
        assert_eq!(pace.take(1, at(114)), Err(1));
        assert_eq!(pace.take(1, at(115)), Ok(()));
        assert_eq!(pace.take(1, at(115)), Err(15));
        for _ in 0..8 {
            assert_eq!(pace.take(1, at(1000)), Ok(()), "after a while it is as at first");
        }
        assert_eq!(pace.take(1, at(1000)), Err(15));
        assert_eq!(pace.refused(), 4);
    }

    #[test]
    fn an_agent_says_how_far_it_is_once_a_second() {
        let pace = Pace::default();
        let said = |at| (0..100).filter(|_| pace.take_progress(1, Duration::from_secs(at))).count();
        assert_eq!([said(100), said(101), said(103), said(1000)], [8, 1, 2, 8]);
        assert_eq!((pace.take(1, Duration::from_secs(1000)), pace.refused()), (Ok(()), 0));
    }

    #[test]
    fn machines_that_are_quiet_take_no_memory() {
        let pace = Pace::default();
        for machine in 0..100_000 {
            assert_eq!(pace.take(machine, Duration::from_millis(machine)), Ok(()));
        }
        // Each is remembered for 15 s, and 1000 come in a second.
        assert!(pace.used.lock().unwrap().until.len() < 40_000);
    }
}
