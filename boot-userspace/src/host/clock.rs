//! The only place that reads clocks.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use boot_engine::command::Now;

/// Time since boot, suspended time included: the clock the kernel half reads.
#[must_use]
pub fn boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// What the calling thread has used of a core so far.
#[must_use]
pub fn thread_has_used() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Time since the Unix epoch.
#[must_use]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// When the clocks were read first.
static START: LazyLock<Now> = LazyLock::new(|| Now { boot: boot(), wall: wall() });

/// Now, as the engine counts: the wall clock as it was at the start, and from there on the boot clock. So a wall clock
/// that is set neither ends nor lengthens what machines are promised.
#[must_use]
pub fn now() -> Now {
    let start = *START;
    let boot = boot();
    Now { boot, wall: start.wall + boot.saturating_sub(start.boot) }
}

/// By how many seconds the wall clock has been set forward (or back, where negative) since the start.
#[must_use]
pub fn was_set_by() -> i64 {
    set_by(now().wall, wall())
}

/// To the nearest second: both clocks are read one after the other.
fn set_by(counted: Duration, wall: Duration) -> i64 {
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let by = millis(wall).saturating_sub(millis(counted));
    (by + 500).div_euclid(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_is_set_shows_and_one_that_is_read_later_does_not() {
        let at = |millis: u64| Duration::from_millis(1_800_000_000_000 + millis);
        assert_eq!(set_by(at(0), at(3)), 0);
        assert_eq!(set_by(at(999), at(1001)), 0);
        assert_eq!(set_by(at(0), at(3_600_000)), 3600);
        assert_eq!(set_by(at(3_600_000), at(2)), -3600);
        assert_eq!(set_by(Duration::from_secs(40), at(40_000)), 1_800_000_000);
    }

    #[test]
    fn both_clocks_of_the_engine_run_alike() {
        let (first, second) = (now(), now());
        assert_eq!(second.wall - first.wall, second.boot - first.boot);
    }
}
