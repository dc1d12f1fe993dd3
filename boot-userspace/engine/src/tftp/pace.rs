//! How long an acknowledgement is waited for, and how many repeats a client gets that stays silent.
//!
//! Nothing in TFTP proves that a client receives what it acknowledges: its address may be forged, and block numbers can be
//! guessed. So what nobody asked for is bounded by what was acknowledged.

use std::time::Duration;

use boot_common::tftp::{Flight, RoundTrip};

/// Until a block's round trip is known: longer than any client takes that writes a block to flash memory.
const UNKNOWN: Duration = Duration::from_millis(500);
/// The shortest wait, however quick the client is: it may have something else to do for a while.
const SHORTEST: Duration = Duration::from_millis(50);
/// The longest wait between two repeats, unless the client asked for a longer one.
const LONGEST: Duration = Duration::from_secs(4);
/// How long a transfer may stand still.
const PATIENCE: Duration = Duration::from_secs(30);
/// How soon the timer looks again at a transfer that the kernel half moves on, and that may lose something any moment.
const LIVELY: Duration = Duration::from_millis(50);
/// How soon it looks again at one that stands still.
const STILL: Duration = Duration::from_secs(1);
/// Repeats before the first block is acknowledged: the OACK leaves three times at most.
const FIRST_REPEATS: u32 = 2;
/// Windows sent again before anything beyond the first one is acknowledged.
const FIRST_WINDOWS: u32 = 2;
/// Repeats that are saved up at most, and windows.
const MOST_REPEATS: u32 = 12;

/// The waits and repeats of one transfer.
#[derive(Debug)]
pub(super) struct Pace {
    /// How often the wait has been doubled (RFC 6298 section 5.5).
    doublings: u32,
    /// Repeats that the client has left until it acknowledges more.
    repeats: u32,
    /// Windows that it still gets once more for repeated acknowledgements until it acknowledges more.
    windows: u32,
}

impl Pace {
    /// Before anything is acknowledged. A first packet that is a block of 512 bytes is sent once for each request: that is
    /// nine times as long as the request.
    pub(super) fn new(has_oack: bool, window: u16) -> Self {
        Self {
            doublings: 0,
            repeats: if has_oack { FIRST_REPEATS } else { 0 },
            windows: first_windows(window),
        }
    }

    /// Of a transfer that an earlier daemon began. Each restart adds repeats, and their number has no bound: so before
    /// a block is acknowledged, there are none of what was repeated already, and none for a client without an OACK.
    pub(super) fn adopted(flight: &Flight) -> Self {
        let state = flight.state();
        let is_bounded = match state.acked {
            // Nothing can be sent before the OACK is acknowledged.
            0 => true,
            1 => flight.is_acknowledged() && flight.resent.get() < u64::from(state.sent),
            _ => true,
        };
        let repeats = if is_bounded { FIRST_REPEATS } else { 0 };
        Self { doublings: 0, repeats, windows: first_windows(flight.shape().window) }
    }

    /// So many windows of blocks were acknowledged: each earns a repeat, and one more window for repeated
    /// acknowledgements, of which few are saved up until something beyond the first window is acknowledged.
    pub(super) fn earn(&mut self, windows: u32, beyond_first: bool) {
        self.repeats = self.repeats.saturating_add(windows).min(MOST_REPEATS);
        let most = if beyond_first { MOST_REPEATS } else { FIRST_WINDOWS.max(self.windows) };
        self.windows = self.windows.saturating_add(windows).min(most);
    }

    /// Takes a repeat that nobody asked for; false when there is none left.
    pub(super) fn spend(&mut self) -> bool {
        take(&mut self.repeats)
    }

    /// Takes a window that a repeated acknowledgement asks for; false when there is none left.
    pub(super) fn spend_window(&mut self) -> bool {
        take(&mut self.windows)
    }

    /// The next wait is twice as long.
    pub(super) fn back_off(&mut self) {
        self.doublings = self.doublings.saturating_add(1).min(16);
    }

    /// Something that was sent once only is acknowledged. Until then the longer wait stays (Karn's rule), so a slow path
    /// does not get everything twice.
    pub(super) fn is_known_again(&mut self) {
        self.doublings = 0;
    }

    /// How long a silent client is waited for.
    pub(super) fn wait(&self, flight: &Flight) -> Duration {
        let timeout = Duration::from_nanos(flight.timeout.get());
        let first = if timeout.is_zero() { unasked(flight.round_trip()) } else { timeout };
        first.saturating_mul(1 << self.doublings).min(LONGEST.max(first))
    }

    /// How long a block is under way at least before a repeated acknowledgement says that it was lost: shorter than any
    /// client's own timer, longer than what a doubled packet takes.
    pub(super) fn wait_for_repeated(&self, flight: &Flight) -> Duration {
        let twice = flight.round_trip().map_or(SHORTEST, |known| Duration::from_nanos(known.mean) * 2);
        twice.max(SHORTEST).min(self.wait(flight))
    }

    /// How long a transfer may stand still: a client's own wait fits in more than once.
    pub(super) fn patience(flight: &Flight) -> Duration {
        PATIENCE.max(Duration::from_nanos(flight.timeout.get()) * 3)
    }

    /// When the timer has to look again at what will be due at `ready`: the kernel half may move on meanwhile.
    pub(super) fn look(flight: &Flight, moved: bool, ready: Duration, now: Duration) -> Duration {
        // A client that has not begun is not looked at for long: it may have agreed on a timeout of minutes.
        let begins =
            flight.round_trip().is_none() && now < Duration::from_nanos(flight.sent_at.get()) + STILL;
        let lively = moved || begins;
        ready.min(now + if lively { LIVELY } else { STILL })
    }
}

/// A single block for a repeated acknowledgement is no more than what any acknowledgement brings.
fn first_windows(window: u16) -> u32 {
    if window > 1 { FIRST_WINDOWS } else { MOST_REPEATS }
}

fn take(budget: &mut u32) -> bool {
    let left = budget.checked_sub(1);
    *budget = left.unwrap_or(0);
    left.is_some()
}

/// RFC 6298 section 2, and four round trips at least: clients that write to flash memory take their time now and then.
fn unasked(known: Option<RoundTrip>) -> Duration {
    let Some(RoundTrip { mean, deviation }) = known else { return UNKNOWN };
    let wait = mean.saturating_add(deviation.saturating_mul(4)).max(mean.saturating_mul(4));
    Duration::from_nanos(wait).max(SHORTEST)
}

#[cfg(test)]
mod tests;
