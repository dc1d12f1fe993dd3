//! One transfer: which blocks are out, which are acknowledged, and when to send again.
//!
//! Blocks are counted from 1 without end; only the wire rolls over from 65535 to 0.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::packet::Agreed;
use super::request::Request;
use super::{Image, Token};

/// First wait for an acknowledgement; real clients answer within a few milliseconds.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Longest wait between two retransmissions.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How long a transfer may stand still.
const PATIENCE: Duration = Duration::from_secs(30);
/// Retransmissions to a client that has never acknowledged anything. Its address may be forged, and a real
/// client repeats its request by itself.
const UNPROVEN_RESENDS: u32 = 8;

/// What to do next for a transfer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Oack,
    Blocks(RangeInclusive<u64>),
    Finished,
    GiveUp,
}

/// The state of one transfer.
pub(super) struct Transfer {
    pub(super) request: Request,
    pub(super) phase: Phase,
    pub(super) started: Duration,
    /// When the client last made headway.
    pub(super) progressed: Duration,
    /// When the timer is next due.
    pub(super) due: Duration,
}

/// How far a transfer has come.
pub(super) enum Phase {
    /// The file is being opened.
    Opening(Token),
    Open(Flight),
}

/// An open file on its way to the client.
pub(super) struct Flight {
    pub(super) image: Image,
    pub(super) block_size: u16,
    pub(super) window: u16,
    pub(super) oack: Option<Vec<u8>>,
    /// Whether the OACK still waits for its ACK 0 (RFC 2347: DATA 1 only after it).
    pub(super) negotiating: bool,
    /// Last block the client has.
    pub(super) acked: u64,
    /// Last block that was ever sent.
    sent: u64,
    /// The block that ends the transfer: the first that is not full, so it may be empty.
    last: u64,
    /// Blocks sent more than once.
    pub(super) resent: u64,
    wait: Duration,
    last_sent: Duration,
    resends_in_a_row: u32,
}

impl Transfer {
    pub(super) fn opening(request: Request, token: Token, now: Duration) -> Self {
        Self { request, phase: Phase::Opening(token), started: now, progressed: now, due: now + PATIENCE }
    }

    /// Starts sending: the OACK, or the first block if no option was accepted.
    pub(super) fn open(&mut self, image: Image, agreed: Agreed, now: Duration) -> Step {
        let mut flight = Flight {
            image,
            block_size: agreed.block_size,
            window: agreed.window,
            negotiating: agreed.oack.is_some(),
            oack: agreed.oack,
            acked: 0,
            sent: 0,
            last: image.size / u64::from(agreed.block_size) + 1,
            resent: 0,
            wait: FIRST_WAIT,
            last_sent: now,
            resends_in_a_row: 0,
        };
        let step = if flight.negotiating { Step::Oack } else { flight.advance() };
        self.due = now + flight.wait;
        self.progressed = now;
        self.phase = Phase::Open(flight);
        step
    }

    /// An ACK arrived. It only ever moves the window forward and releases only blocks that were never sent:
    /// a server that answers repeats turned 150 packets into 80,000 with EDK2 (RFC 1123 section 4.2.3.1).
    pub(super) fn acknowledge(&mut self, block: u16, now: Duration) -> Step {
        let Phase::Open(flight) = &mut self.phase else { return Step::Nothing };
        if flight.negotiating {
            if block != 0 {
                return Step::Nothing;
            }
            flight.negotiating = false;
        } else {
            let ahead = u64::from(block.wrapping_sub(flight.acked as u16));
            if ahead == 0 || flight.acked + ahead > flight.sent {
                return Step::Nothing;
            }
            flight.acked += ahead;
        }
        if flight.acked == flight.last {
            return Step::Finished;
        }
        flight.settle_wait(now);
        flight.last_sent = now;
        self.progressed = now;
        self.due = now + flight.wait;
        flight.advance()
    }

    /// The timer is due.
    pub(super) fn expire(&mut self, now: Duration) -> Step {
        let gives_up = self.progressed + PATIENCE;
        let Phase::Open(flight) = &mut self.phase else { return Step::GiveUp };
        if now >= gives_up {
            return Step::GiveUp;
        }
        flight.resends_in_a_row += 1;
        if flight.is_unproven() && flight.resends_in_a_row > UNPROVEN_RESENDS {
            self.due = gives_up;
            return Step::Nothing;
        }
        flight.wait = flight.wait.mul_f32(1.5).min(LONGEST_WAIT);
        self.due = (now + flight.wait).min(gives_up);
        flight.outstanding()
    }

    /// The client repeated its request: it did not get the first answer.
    pub(super) fn ask_again(&mut self, now: Duration) -> Step {
        match &mut self.phase {
            Phase::Open(flight) if flight.is_unproven() => {
                flight.resends_in_a_row = 0;
                flight.wait = FIRST_WAIT;
                self.due = (now + FIRST_WAIT).min(self.progressed + PATIENCE);
                flight.outstanding()
            }
            _ => Step::Nothing,
        }
    }

    pub(super) fn flight(&self) -> Option<&Flight> {
        match &self.phase {
            Phase::Open(flight) => Some(flight),
            Phase::Opening(_) => None,
        }
    }
}

impl Flight {
    /// True until the client's first acknowledgement, even that of the OACK.
    pub(super) fn is_unproven(&self) -> bool {
        self.negotiating || (self.oack.is_none() && self.acked == 0)
    }

    /// True if everything was sent and only the last acknowledgement is missing.
    pub(super) fn is_all_sent(&self) -> bool {
        !self.is_unproven() && self.sent == self.last
    }

    /// Bytes the client has for certain.
    pub(super) fn acked_bytes(&self) -> u64 {
        (self.acked * u64::from(self.block_size)).min(self.image.size)
    }

    /// Where a block lies in the file, and how long it is.
    pub(super) fn extent(&self, block: u64) -> (u64, usize) {
        let offset = block.saturating_sub(1) * u64::from(self.block_size);
        let left = self.image.size.saturating_sub(offset);
        (offset, usize::try_from(left).unwrap_or(usize::MAX).min(usize::from(self.block_size)))
    }

    /// The blocks of the window that were never sent.
    fn advance(&mut self) -> Step {
        let end = (self.acked + u64::from(self.window)).min(self.last);
        if end <= self.sent {
            return Step::Nothing;
        }
        let blocks = self.sent + 1..=end;
        self.sent = end;
        Step::Blocks(blocks)
    }

    /// Everything that was sent and is not acknowledged.
    fn outstanding(&mut self) -> Step {
        if self.negotiating {
            return Step::Oack;
        }
        self.resent += self.sent - self.acked;
        Step::Blocks(self.acked + 1..=self.sent)
    }

    /// After headway without a retransmission the wait follows the path's round trip; after one, the longer
    /// wait stays until the next clean round trip (Karn's rule), so a slow path does not get everything twice.
    fn settle_wait(&mut self, now: Duration) {
        if self.resends_in_a_row == 0 {
            let round_trip = now.saturating_sub(self.last_sent);
            self.wait = (round_trip * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
        }
        self.resends_in_a_row = 0;
    }
}
