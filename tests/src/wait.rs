//! Conditions with a deadline.
//!
//! A fixture never sleeps for a fixed time: it names its condition, and the error after the deadline has that
//! name.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Short enough not to spoil a measured time, long enough to leave the CPU to the machines under test.
const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds; fails with `what` after `within`.
pub fn eventually(within: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    eventually_some(within, what, || condition().then_some(()))
}

/// Waits until `condition` returns a value; fails with `what` after `within`.
pub fn eventually_some<T>(
    within: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("not within {:.1} s: {what}", within.as_secs_f64());
        }
        std::thread::sleep(POLL);
    }
}
