//! From a request frame and the tables to an answer, or to the reason why there is none.

use crate::Reason;
use crate::answer::answer;
use crate::class::Class;
use crate::classify::{Kind, bootp, client, intact, port_of};
use crate::decide::decide;
use crate::frame::Frame;
use crate::scratch::Scratch;
use crate::tables::{Event, Hook, LinkEntry, Tables};
use crate::tftp;
use crate::wire::{HEADERS, MAX_FRAME, Request};

/// An answer, for counters and events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The kind of answer, for example [`Reason::Offered`]; after [`Reason::TftpDone`] there is nothing to send.
    pub reason: Reason,
    /// Address given.
    pub address: [u8; 4],
    /// The client's class.
    pub class: Class,
}

impl Answered {
    /// The event of this answer.
    #[inline(always)]
    #[must_use]
    pub fn event(&self, scratch: &Scratch, hook: Hook, ifindex: u32, at: u64) -> Event {
        Event {
            at,
            ifindex,
            xid: scratch.request.bootp.xid.get(),
            address: self.address,
            reason: self.reason.index(),
            mac: client(&scratch.request),
            hook: hook as u8,
            class: self.class.key(),
        }
    }
}

/// Answers the request in `frame` from the tables, in place. `now` returns boot-clock nanoseconds; it is not called for
/// frames that are not for this server.
///
/// # Errors
/// The reason why there is no answer. The frame is then as it was, except after [`Reason::StoreFailed`].
#[inline(always)]
pub fn respond<F: Frame, T: Tables>(
    frame: &mut F,
    scratch: &mut Scratch,
    tables: &T,
    ifindex: u32,
    now: impl Fn() -> u64,
) -> Result<Answered, Reason> {
    let length = frame.length();
    if length < HEADERS as u32 {
        return Err(Reason::NotOurs);
    }
    // Enough for a whole TFTP acknowledgement.
    let first = if length < tftp::ACK_FRAME { HEADERS as u32 } else { tftp::ACK_FRAME };
    if !frame.load(first, &mut scratch.request) {
        return Err(Reason::NotOurs);
    }
    let kind = port_of(&scratch.request)?;
    let link = tables.link(ifindex).ok_or(Reason::NoLink)?;
    if kind == Kind::Tftp {
        return acknowledged(frame, scratch, tables, ifindex, length, link);
    }
    let length = u32::from(scratch.request.ip.total_length.get()) + 14;
    if length > MAX_FRAME as u32 {
        return Err(Reason::TooLong);
    }
    if length < HEADERS as u32 || !frame.load(length, &mut scratch.request) {
        return Err(Reason::TooShort);
    }
    let end = intact::<F>(&scratch.request, length, link)?;
    bootp(&scratch.request, end)?;
    scratch.scan.begin(Request::OPTIONS as u32, end);
    scratch.scan.facts.is_raspberry_pi = u8::from(client(&scratch.request).is_raspberry_pi());
    frame.scan(&scratch.request, &mut scratch.scan);
    let Scratch { scan, request, reply } = scratch;
    let facts = scan.finish()?;
    let decision = decide(request, kind, facts, link, tables, now())?;
    answer(frame, request, reply, facts, &decision)?;
    Ok(Answered { reason: decision.reason, address: decision.yiaddr, class: decision.class })
}

/// Answers a TFTP acknowledgement.
#[inline(always)]
fn acknowledged<F: Frame, T: Tables>(
    frame: &mut F,
    scratch: &mut Scratch,
    tables: &T,
    ifindex: u32,
    length: u32,
    link: &LinkEntry,
) -> Result<Answered, Reason> {
    tftp::intact::<F>(&scratch.request, length, link)?;
    match tftp::answer(frame, &scratch.request, &mut scratch.reply.data, ifindex, tables) {
        reason @ (Reason::TftpBlock | Reason::TftpDone) => {
            Ok(Answered { reason, address: scratch.request.ip.source, class: Class::OS })
        }
        reason => Err(reason),
    }
}

#[cfg(test)]
mod tests;
