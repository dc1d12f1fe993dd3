//! Time in the engine.

use std::time::Duration;

/// The time, as an argument: the engine reads no clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since boot, suspended time included: the kernel half's clock.
    pub boot: Duration,
    /// Since the Unix epoch: what the store keeps. It runs as the boot clock does, whenever the wall clock is set.
    pub wall: Duration,
}

impl Now {
    /// Boot-clock nanoseconds.
    #[must_use]
    pub fn nanos(self) -> u64 {
        u64::try_from(self.boot.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Unix seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.wall.as_secs()
    }
}
