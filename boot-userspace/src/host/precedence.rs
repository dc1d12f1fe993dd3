//! A thread that goes before all others of its core (`SCHED_FIFO`), while it leaves them a fifth of it.
//!
//! On a core that downloads have, a packet waits until the scheduler takes the core from one of them. A thread of this
//! policy has it at once. But while it has work, nobody else runs: so what a flood of packets gets is the policy that all
//! have, until there is less to do.

use std::cell::Cell;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tracing::debug;

use super::clock::thread_has_used;

/// The lowest of the priorities that go before all usual threads: what else is of them on a host, goes first.
const PRIORITY: libc::c_int = 1;
/// For how many seconds after a busy one the thread has the usual policy: a flood that goes on has the core for one second
/// in eleven, at most.
const USUAL: u32 = 10;

/// Of less than this, nothing is concluded.
const SHORTEST: Duration = Duration::from_millis(500);

/// The calling thread's precedence. It is for that thread only.
#[derive(Debug)]
pub(crate) struct Precedence {
    /// Whether the kernel allows it.
    is_allowed: bool,
    has_it: bool,
    share: Share,
    /// How long the thread had slept, what it had used of a core, and when.
    looked: (Duration, Duration, Instant),
}

impl Precedence {
    /// Has the calling thread go first.
    pub(crate) fn take() -> Self {
        let is_allowed = go_first();
        Self {
            is_allowed,
            has_it: is_allowed,
            share: Share::default(),
            looked: (slept(), thread_has_used(), Instant::now()),
        }
    }

    /// Comes about once a second, on the same thread.
    pub(crate) fn next_second(&mut self) {
        let (slept, used, at) = (slept(), thread_has_used(), Instant::now());
        let (slept_before, used_before, last) = self.looked;
        let time = at - last;
        if time < SHORTEST {
            return;
        }
        self.looked = (slept, used, at);
        // Its CPU time does not have the interrupts that bring it a flood, and its sleep has a wait that ends at once.
        let left =
            slept.saturating_sub(slept_before).min(time.saturating_sub(used.saturating_sub(used_before)));
        let may_have_it = self.share.next(left, time);
        if !self.is_allowed || may_have_it == self.has_it {
            return;
        }
        self.has_it = may_have_it;
        if may_have_it {
            go_first();
        } else if let Err(error) = set(libc::SCHED_OTHER, 0) {
            debug!(%error, "a thread goes before all others of its core, and is busy");
        }
    }
}

/// Has the calling thread go before all usual ones, for good: one that has little to do. Gives whether the kernel allows
/// that.
pub(crate) fn go_first() -> bool {
    let set = set(libc::SCHED_FIFO, PRIORITY);
    if let Err(error) = set {
        debug!(%error, "DHCP and TFTP share a core as other threads do (CAP_SYS_NICE or LimitRTPRIO=1 would change that)");
    }
    set.is_ok()
}

/// Threads that this one starts are usual ones, with a niceness of 0 at least.
#[expect(unsafe_code, reason = "no safe interface to sched_setscheduler(2) in nix or rustix")]
fn set(policy: libc::c_int, priority: libc::c_int) -> nix::Result<()> {
    let policy = policy | libc::SCHED_RESET_ON_FORK;
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the kernel reads the parameters, which outlive the call; 0 is the calling thread.
    Errno::result(unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) }).map(drop)
}

thread_local! {
    /// Since when the thread sleeps, and how long it slept before.
    static SLEEP: Cell<(Option<Instant>, Duration)> = const { Cell::new((None, Duration::ZERO)) };
}

/// The thread has nothing to do. A runtime calls it, and [`wakes`].
pub(crate) fn falls_asleep() {
    SLEEP.with(|sleep| sleep.set((Some(Instant::now()), sleep.get().1)));
}

/// The thread has something to do.
pub(crate) fn wakes() {
    SLEEP.with(|sleep| {
        let (since, slept) = sleep.get();
        sleep.set((None, slept + since.map_or(Duration::ZERO, |since| since.elapsed())));
    });
}

/// How long the calling thread has slept.
fn slept() -> Duration {
    SLEEP.with(|sleep| sleep.get().1)
}

/// Who has left less than a fifth of a second to others does not go first for a while.
#[derive(Debug, Default)]
struct Share {
    usual: u32,
}

impl Share {
    /// Whether the thread may go first, which left so much of this time.
    fn next(&mut self, left: Duration, of: Duration) -> bool {
        self.usual = if left < of / 5 { USUAL } else { self.usual.saturating_sub(1) };
        self.usual == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_leaves_hardly_anything_is_a_usual_one_until_it_has_left_more_for_ten_seconds() {
        let mut share = Share::default();
        let mut next = |ms| share.next(Duration::from_millis(ms), Duration::from_secs(1));
        assert!(next(1000) && next(200));
        assert!(!next(199));
        assert!((0..8).all(|_| !next(1000)));
        assert!(!next(100), "a flood that goes on");
        assert!((0..9).all(|_| !next(300)));
        assert!(next(300));
    }

    #[test]
    fn sleep_is_counted_when_it_is_over() {
        let before = slept();
        falls_asleep();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(slept(), before);
        wakes();
        let once = slept();
        assert!(once >= before + Duration::from_millis(2));
        wakes();
        assert_eq!(slept(), once, "it did not sleep");
    }
}
