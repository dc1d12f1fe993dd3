//! What is counted of transfers.

use std::sync::atomic::{AtomicU64, Ordering};

use super::outcome::Outcome;

/// How the transfers of one interface have ended. Whoever watches reads it while they are served.
#[derive(Debug, Default)]
pub struct TftpStats {
    running: AtomicU64,
    crowded_out: AtomicU64,
    left_out: AtomicU64,
    bytes: AtomicU64,
    requests: AtomicU64,
    ended: [AtomicU64; Self::ENDS.len()],
}

impl TftpStats {
    /// The words for how transfers end, in the order of [`ended`](Self::ended).
    pub const ENDS: [&'static str; 9] = [
        "finished",
        "probed",
        "aborted",
        "stalled",
        "missing",
        "refused",
        "unreadable",
        "started-over",
        "crowded-out",
    ];

    /// Transfers under way.
    #[must_use]
    pub fn running(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    /// Requests that were dropped, and idle transfers that were ended, because there were too many.
    #[must_use]
    pub fn crowded_out(&self) -> u64 {
        self.crowded_out.load(Ordering::Relaxed)
    }

    /// Blocks that were not read from the disk because too many waited for it.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Bytes that clients have got, by transfers that have ended.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Read requests that came to the daemon's socket, whatever became of them.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Transfers that have ended in each way.
    #[must_use]
    pub fn ended(&self) -> [u64; Self::ENDS.len()] {
        self.ended.each_ref().map(|ended| ended.load(Ordering::Relaxed))
    }

    /// How many transfers are under way, and how many were crowded out so far.
    pub fn set_running(&self, running: usize, crowded_out: u64) {
        self.running.store(running as u64, Ordering::Relaxed);
        self.crowded_out.store(crowded_out, Ordering::Relaxed);
    }

    /// How many blocks were left out so far.
    pub fn set_left_out(&self, blocks: u64) {
        self.left_out.store(blocks, Ordering::Relaxed);
    }

    /// A read request came to the daemon's socket.
    pub fn hear_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A packet of a client that is not served.
    pub fn refuse(&self) {
        self.add(&Outcome::Refused("not served"));
    }

    /// A transfer or a request has ended.
    pub fn add(&self, outcome: &Outcome) {
        let (end, bytes) = match outcome {
            Outcome::Finished { bytes, .. } => ("finished", *bytes),
            Outcome::Probed => ("probed", 0),
            Outcome::Aborted { bytes, .. } => ("aborted", *bytes),
            Outcome::Stalled { bytes, .. } => ("stalled", *bytes),
            Outcome::Missing(_) => ("missing", 0),
            Outcome::Refused(_) => ("refused", 0),
            Outcome::Unreadable(_) => ("unreadable", 0),
            Outcome::StartedOver => ("started-over", 0),
            Outcome::CrowdedOut => ("crowded-out", 0),
        };
        let position = Self::ENDS.iter().position(|word| *word == end);
        if let Some(ended) = position.and_then(|position| self.ended.get(position)) {
            ended.fetch_add(1, Ordering::Relaxed);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_counted_under_its_word() {
        let stats = TftpStats::default();
        stats.add(&Outcome::Stalled { bytes: 100, size: 200, block: 3 });
        stats.add(&Outcome::Aborted { code: 3, message: String::new(), bytes: 20 });
        stats.add(&Outcome::CrowdedOut);
        stats.add(&Outcome::CrowdedOut);
        stats.add(&Outcome::Refused("no"));
        stats.set_running(7, 9);
        assert_eq!(stats.ended(), [0, 0, 1, 1, 0, 1, 0, 0, 2]);
        assert_eq!((stats.bytes(), stats.running(), stats.crowded_out()), (120, 7, 9));
    }
}
