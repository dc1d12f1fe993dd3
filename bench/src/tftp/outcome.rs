//! What a run of clients came to.

use std::time::Duration;

use super::histogram::Histogram;

/// What became of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) measured: Duration,
    /// Verified, each once.
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    /// Whole files.
    pub(crate) files: u64,
    /// From an ACK to the next block.
    pub(crate) latencies: Histogram,
    /// Packets that a client sent again because no answer came within a second.
    pub(crate) lost: u64,
    /// Blocks that came very late: most servers repeat what was lost before the client does.
    pub(crate) late: u64,
    /// Blocks that came again.
    pub(crate) repeated: u64,
    /// Transfers that a client gave up, or the server.
    pub(crate) failed: u64,
    /// Anything else that the server sent, and frames without room.
    pub(crate) stray: u64,
    /// Clients that got nothing at all.
    pub(crate) starved: u64,
    /// Of blocks, those that were compared whole.
    pub(crate) compared: u64,
}
