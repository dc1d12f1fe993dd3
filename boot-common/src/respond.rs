//! From a request frame and the tables to an answer, or the reason why not.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Reason;
use crate::answer::answer;
use crate::class::Class;
use crate::classify::{Kind, bootp, client, intact, port_of};
use crate::decide::decide;
use crate::facts::Walk;
use crate::frame::Frame;
use crate::tables::{Event, Hook, Tables};
use crate::wire::{HEADERS, Head, MAX_FRAME, Request};

/// Working memory: too large for the kernel's stack, so each CPU has one in a map.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Scratch {
    /// Where the walk through the options is.
    pub walk: Walk,
    /// The request.
    pub request: Request,
    /// Options that are returned unaltered.
    pub tail: [u8; 1024],
    /// The answer's headers.
    pub head: Head,
    reserved: [u8; 2],
}

impl Scratch {
    /// Empty working memory.
    #[must_use]
    pub fn new() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// What was answered, for counters and events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// [`Reason::Offered`], [`Reason::Acked`] or [`Reason::BootServer`].
    pub reason: Reason,
    /// Address given.
    pub address: [u8; 4],
    /// The client's class.
    pub class: Class,
}

impl Answered {
    /// The record of it.
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

/// Answers the request in `frame` from the tables, in place. `now` is boot-clock nanoseconds.
///
/// # Errors
/// Why not. The frame is then as it was, except after [`Reason::StoreFailed`].
#[inline(always)]
pub fn respond<F: Frame, T: Tables>(
    frame: &mut F,
    scratch: &mut Scratch,
    tables: &T,
    ifindex: u32,
    now: u64,
) -> Result<Answered, Reason> {
    let length = frame.length();
    if length < HEADERS as u32 {
        return Err(Reason::NotOurs);
    }
    if !frame.load(HEADERS as u32, &mut scratch.request) {
        return Err(Reason::NotOurs);
    }
    let kind = port_of(&scratch.request)?;
    let link = tables.link(ifindex).ok_or(Reason::NoLink)?;
    if kind == Kind::Tftp {
        return Err(Reason::Tftp);
    }
    let length = u32::from(scratch.request.ip.total_length.get()) + 14;
    if length > MAX_FRAME as u32 {
        return Err(Reason::TooLong);
    }
    if length < HEADERS as u32 || !frame.load(length, &mut scratch.request) {
        return Err(Reason::TooShort);
    }
    let end = intact(&scratch.request, length, link)?;
    bootp(&scratch.request, end)?;
    scratch.walk.begin(Request::OPTIONS as u32, end);
    frame.walk(&scratch.request, &mut scratch.walk);
    let facts = *scratch.walk.finish()?;
    let decision = decide(&scratch.request, kind, &facts, link, ifindex, tables, now)?;
    answer(frame, scratch, &facts, &decision)?;
    Ok(Answered { reason: decision.reason, address: decision.yiaddr, class: decision.class })
}
