//! How transfers end, for the log line.

use std::time::Duration;

use boot_common::tables::Hook;
use boot_common::tftp::Flight;

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
        /// Blocks that XDP sent.
        by_xdp: u64,
        /// Blocks that TC sent.
        by_tc: u64,
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
        /// The block that it did not acknowledge, counted without roll-over; 0 is the OACK.
        block: u64,
    },
    /// The file is not served.
    Missing(OpenError),
    /// The request was refused with this text.
    Refused(&'static str),
    /// The file could not be read to its end, for this reason.
    Unreadable(String),
    /// The client asked for another file, or for this one anew, from the same port.
    StartedOver,
    /// Ended while idle, to make room for others.
    CrowdedOut,
}

impl Outcome {
    /// Of a finished transfer, how many blocks it has.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        match self {
            Self::Finished { bytes, block_size, .. } => bytes / u64::from(*block_size) + 1,
            _ => 0,
        }
    }

    /// Who has sent the most of a finished transfer; of all others it is the daemon that tells.
    #[must_use]
    pub fn sent_by(&self) -> Hook {
        match *self {
            Self::Finished { by_xdp, by_tc, .. } if (by_xdp + by_tc) * 2 > self.blocks() => {
                if by_xdp >= by_tc { Hook::Xdp } else { Hook::Tc }
            }
            _ => Hook::Daemon,
        }
    }

    /// Times are those of the flight, which has the last acknowledgement's whoever took it.
    pub(super) fn finished(transfer: &Transfer, flight: Option<&Flight>, confirmed: bool) -> Self {
        let (Some(course), Some(flight)) = (transfer.course(), flight) else {
            return Self::Stalled { bytes: 0, size: 0, block: 0 };
        };
        let took = flight.progressed.get().saturating_sub(flight.opened.get());
        Self::Finished {
            bytes: course.image.size,
            block_size: course.shape.block_size,
            window: course.shape.window,
            resent: course.resent,
            by_xdp: flight.by_xdp.get(),
            by_tc: flight.by_tc.get(),
            took: Duration::from_nanos(took),
            confirmed,
        }
    }

    pub(super) fn given_up(transfer: &Transfer, flight: Option<&Flight>) -> Self {
        let (Some(course), Some(flight)) = (transfer.course(), flight) else {
            return Self::Stalled { bytes: 0, size: 0, block: 0 };
        };
        let state = flight.state();
        if course.is_all_sent(state) {
            return Self::finished(transfer, Some(flight), false);
        }
        let block = u64::from(state.acked);
        Self::Stalled { bytes: course.acked_bytes(state), size: course.image.size, block }
    }
}
