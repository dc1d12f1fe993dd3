//! What became of the clients of a run.

use std::time::Duration;

/// Counts and times of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Machines that began.
    pub(crate) begun: u64,
    /// Exchanges that were completed.
    pub(crate) done: u64,
    /// Those of them that needed no repeated packet.
    pub(crate) at_first_try: u64,
    /// Exchanges that were given up.
    pub(crate) lost: u64,
    /// Refusals.
    pub(crate) naks: u64,
    /// Addresses that two machines were given.
    pub(crate) duplicates: u64,
    /// ACKs of another address than the offered one, or without a boot file for firmware.
    pub(crate) wrong: u64,
    /// Replies with a wrong checksum, of those that were looked at.
    pub(crate) damaged: u64,
    /// Replies nobody waited for any more.
    pub(crate) late: u64,
    /// Requests that came back unanswered.
    pub(crate) echoes: u64,
    /// Frames that the client's interface did not take or the generator did not get.
    pub(crate) dropped: u64,
    /// How long the rate was measured.
    pub(crate) measured: Duration,
    /// Exchanges completed in that time.
    pub(crate) in_time: u64,
    /// When the last exchange was completed.
    pub(crate) all_done: Duration,
    /// Nanoseconds from a machine's first packet to its last answer.
    pub(crate) latencies: Vec<u64>,
}

impl Outcome {
    /// Exchanges a second.
    pub(crate) fn rate(&self) -> f64 {
        self.in_time as f64 / self.measured.as_secs_f64().max(1e-9)
    }

    /// Every kind of failure together.
    pub(crate) fn errors(&self) -> u64 {
        self.lost + self.wrong + self.damaged
    }

    /// The latency that this share of the exchanges stayed below.
    pub(crate) fn quantile(&mut self, share: f64) -> Duration {
        if self.latencies.is_empty() {
            return Duration::ZERO;
        }
        let last = self.latencies.len() - 1;
        let at = (last as f64 * share).round() as usize;
        let (_, value, _) = self.latencies.select_nth_unstable(at.min(last));
        Duration::from_nanos(*value)
    }

    /// The share of the machines that were done within a time.
    pub(crate) fn share_within(&self, limit: Duration) -> f64 {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self.latencies.iter().filter(|latency| **latency <= limit).count() as f64 / self.begun.max(1) as f64
    }

    /// The share of the machines that were done without repeating a packet.
    pub(crate) fn share_at_first_try(&self) -> f64 {
        self.at_first_try as f64 / self.begun.max(1) as f64
    }
}
