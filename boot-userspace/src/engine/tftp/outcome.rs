//! How transfers end, for the log line.

use std::time::Duration;

use super::transfer::Transfer;
use super::{OpenError, Peer};

/// How one transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whose transfer.
    pub peer: Peer,
    /// The file name as asked.
    pub name: String,
    /// The end.
    pub outcome: Outcome,
}

/// The ways a transfer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The client has the file.
    Finished {
        /// Its size.
        bytes: u64,
        /// The block size agreed on.
        block_size: u16,
        /// The window size agreed on.
        window: u16,
        /// Blocks sent more than once.
        resent: u64,
        /// From request to last acknowledgement.
        took: Duration,
        /// False if the last acknowledgement never came, as when a client closes its port too early.
        confirmed: bool,
    },
    /// The client only wanted to know the size (EDK2 does so before every file); a normal step.
    Probed,
    /// The client ended it with an ERROR.
    Aborted {
        /// The code of its ERROR.
        code: u16,
        /// Its text.
        message: String,
        /// What the client had by then.
        bytes: u64,
    },
    /// The client fell silent.
    Stalled {
        /// What the client had by then.
        bytes: u64,
        /// The file's size.
        size: u64,
    },
    /// The file is not served.
    Missing(OpenError),
    /// The request was refused with this text.
    Refused(&'static str),
    /// The file could not be read to its end.
    Unreadable,
    /// The client asked for another file, or for this one anew, from the same port.
    StartedOver,
    /// Ended while idle, to make room for others.
    CrowdedOut,
}

impl Outcome {
    pub(super) fn finished(transfer: &Transfer, now: Duration, confirmed: bool) -> Self {
        let Some(flight) = transfer.flight() else { return Self::Stalled { bytes: 0, size: 0 } };
        Self::Finished {
            bytes: flight.image.size,
            block_size: flight.block_size,
            window: flight.window,
            resent: flight.resent,
            took: now.saturating_sub(transfer.started),
            confirmed,
        }
    }

    pub(super) fn given_up(transfer: &Transfer, now: Duration) -> Self {
        match transfer.flight() {
            Some(flight) if flight.is_all_sent() => {
                let progressed = transfer.progressed.min(now);
                Self::finished(transfer, progressed, false)
            }
            Some(flight) => Self::Stalled { bytes: flight.acked_bytes(), size: flight.image.size },
            None => Self::Stalled { bytes: 0, size: 0 },
        }
    }
}
