//! TFTP at a hook: an acknowledgement comes in, the next block goes out.
//!
//! The hooks answer only an acknowledgement of everything under way, and only with blocks that were never sent. The daemon
//! handles the rest (requests, repeated acknowledgements, those inside a window, errors) and owns the timer. Answering
//! repeats made 80,000 packets of 150 with EDK2 (RFC 1123 section 4.2.3.1).

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Reason;
use crate::classify::{is_believed, is_unfinished};
use crate::frame::Frame;
use crate::tables::LinkEntry;
use crate::wire::{ETHERTYPE_IPV4, Eth, Ipv4, Request, Sum, Udp, port};

mod flight;
pub(crate) mod tables;
mod word;

pub use flight::{Ack, Flight, NAME, RoundTrip, Shape, State, TransferKey};
pub use tables::{CHUNK, Chunk, LONGEST_BLOCK, MAX_FLIGHTS, SUMS, Sums, Transfers};
pub use word::Word;

/// A daemon without a heartbeat for this long has died. A heartbeat comes every second.
const SILENCE: u64 = 3_500_000_000;
/// The age of a block from which a repeated acknowledgement means that the block was lost, while no daemon runs whose timer
/// would know.
const LOST: u64 = 200_000_000;

/// Bytes of an acknowledgement's frame, and of the headers before a block's bytes.
pub const ACK_FRAME: u32 = 46;
/// Ethernet's shortest frame, without the checksum at its end.
const SHORTEST_FRAME: u32 = 60;
const OPCODE_READ: u16 = 1;
const OPCODE_DATA: u16 = 3;
const OPCODE_ACK: u16 = 4;

/// The headers of a DATA packet, and padding for a frame that would be too short.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DataHead {
    eth: Eth,
    ip: Ipv4,
    udp: Udp,
    opcode: U16,
    block: U16,
    padding: [u8; 18],
}

const _: () = assert!(size_of::<DataHead>() == 64);

/// The positions to send.
#[derive(Clone, Copy)]
struct Range {
    slot: u32,
    first: u32,
    end: u32,
}

/// Answers the acknowledgement in `frame`; `request` has its headers. Returns how it ended:
/// [`Reason::TftpBlock`] when an answer stands in the frame, [`Reason::TftpDone`] when there is nothing to say.
/// After every other reason but [`Reason::TftpRace`] and [`Reason::StoreFailed`] the frame is as it was.
// A function of its own, with the reason as a number in a register: the kernel's stack has no room for more.
#[inline(never)]
pub fn answer<F: Frame, T: Transfers>(
    frame: &mut F,
    request: &Request,
    head: &mut DataHead,
    ifindex: u32,
    tables: &T,
) -> Reason {
    match next(frame, request, ifindex, tables) {
        Ok(range) => send(frame, request, head, range, tables),
        Err(reason) => reason,
    }
}

/// Reads the acknowledgement and advances its transfer. Returns the positions to send; the frame then has the length of
/// the first one.
#[inline(always)]
fn next<F: Frame, T: Transfers>(
    frame: &mut F,
    request: &Request,
    ifindex: u32,
    tables: &T,
) -> Result<Range, Reason> {
    let slot = tables.slot(&key(request, ifindex)).ok_or(Reason::TftpUnknown)?;
    let flight = tables.flight(slot).ok_or(Reason::TftpUnknown)?;
    let state = flight.state();
    let now = tables.now();
    let last = flight.last();
    match state.judge(block(request)) {
        Ack::Everything => {}
        Ack::Impossible => return Err(Reason::TftpImpossible),
        Ack::Repeated => return again(frame, flight, slot, state, state, now, tables, Reason::TftpRepeated),
        Ack::Inside(ahead) => {
            let after = State { sent: state.sent, acked: state.acked.wrapping_add(ahead) };
            return again(frame, flight, slot, state, after, now, tables, Reason::TftpInside);
        }
    }
    let window = flight.window();
    let left = last.wrapping_sub(state.sent);
    let count = if left < window { left } else { window };
    let after = State { sent: state.sent.wrapping_add(count), acked: state.sent };
    let range = Range { slot, first: after.acked.wrapping_add(1), end: after.sent };
    if count != 0 {
        prepare(frame, flight, range)?;
    }
    if !tables.exchange(&flight.state, state.packed(), after.packed()) {
        return Err(Reason::TftpRace);
    }
    flight.measure(state.sent, now.wrapping_sub(flight.sent_at.get()));
    flight.progressed.set(now);
    if count == 0 {
        return Err(Reason::TftpDone);
    }
    flight.sent_at.set(now);
    let by = if F::IS_XDP { &flight.by_xdp } else { &flight.by_tc };
    by.set(by.get().wrapping_add(u64::from(count)));
    Ok(range)
}

/// While no daemon runs, sends blocks again that were sent long enough ago.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "it is inlined, and a struct would stand on the kernel's stack"
)]
fn again<F: Frame, T: Transfers>(
    frame: &mut F,
    flight: &Flight,
    slot: u32,
    before: State,
    after: State,
    now: u64,
    tables: &T,
    otherwise: Reason,
) -> Result<Range, Reason> {
    let sent_at = flight.sent_at.get();
    let daemon_lives = now.wrapping_sub(tables.heartbeat()) as i64 <= SILENCE as i64;
    // Position 1 is the OACK, whose text only the daemon had.
    if daemon_lives || now.wrapping_sub(sent_at) < LOST || after.outstanding() == 0 || after.acked == 0 {
        return Err(otherwise);
    }
    let range = Range { slot, first: after.acked.wrapping_add(1), end: after.sent };
    prepare(frame, flight, range)?;
    // The CPU that advances the time sends.
    if !tables.exchange(&flight.sent_at, sent_at, now) {
        return Err(Reason::TftpRace);
    }
    flight.resent.set(u64::from(after.sent));
    if before != after && !tables.exchange(&flight.state, before.packed(), after.packed()) {
        return Err(Reason::TftpRace);
    }
    Ok(range)
}

/// Checks that this hook can send the whole range, and gives the frame the length of the first block's.
#[inline(always)]
fn prepare<F: Frame>(frame: &mut F, flight: &Flight, range: Range) -> Result<(), Reason> {
    if range.first != range.end && !F::COPIES {
        return Err(Reason::TftpWindow);
    }
    let (_, length) = flight.shape().extent(range.first);
    if frame.resize(frame_length(length)) { Ok(()) } else { Err(Reason::NoTailRoom) }
}

/// The most blocks that are sent at once: the largest window that is granted.
pub const MAX_WINDOW: u16 = 64;

/// Writes the range's blocks over the frame, one after the other; all but the last leave as copies.
#[inline(always)]
fn send<F: Frame, T: Transfers>(
    frame: &mut F,
    request: &Request,
    head: &mut DataHead,
    range: Range,
    tables: &T,
) -> Reason {
    let Some(flight) = tables.flight(range.slot) else { return Reason::StoreFailed };
    let mut sent = 0;
    while sent < MAX_WINDOW {
        let position = range.first.wrapping_add(u32::from(sent));
        if store(frame, request, head, flight, position, sent == 0, tables).is_none() {
            return Reason::StoreFailed;
        }
        if position == range.end || !F::COPIES {
            break;
        }
        if !frame.send_copy() {
            return Reason::StoreFailed;
        }
        sent += 1;
    }
    Reason::TftpBlock
}

/// Writes one block's packet.
#[inline(always)]
fn store<F: Frame, T: Transfers>(
    frame: &mut F,
    request: &Request,
    head: &mut DataHead,
    flight: &Flight,
    position: u32,
    is_first: bool,
    tables: &T,
) -> Option<()> {
    let shape = flight.shape();
    let (offset, length) = shape.extent(position);
    let chunk = tables.chunk(shape.chunk.wrapping_add((offset / CHUNK as u64) as u32))?;
    let nth = shape.sums.wrapping_add(position.wrapping_sub(2));
    let sums = tables.sums(nth / SUMS as u32)?;
    let sum = *sums.folded.get(nth as usize % SUMS)?;
    write::<F>(head, request, position, length, sum);
    let frame_length = frame_length(length);
    if !is_first && !frame.resize(frame_length) {
        return None;
    }
    // The padding of a short frame first, so that no earlier bytes of the frame leave with it.
    let head_length = if frame_length > SHORTEST_FRAME { ACK_FRAME } else { SHORTEST_FRAME };
    let head = <&[u8; 64]>::try_from(head.as_bytes()).ok()?;
    let stored = frame.store(0, head, head_length)
        && (length == 0 || frame.store_chunk(ACK_FRAME, chunk, offset as u32 % CHUNK as u32, length));
    stored.then_some(())
}

/// The headers of a block's packet, back to where the acknowledgement came from.
#[inline(always)]
fn write<F: Frame>(head: &mut DataHead, request: &Request, position: u32, length: u32, sum: u16) {
    let udp_length = (length + 12) as u16;
    let block = position.wrapping_sub(1) as u16;
    head.eth.destination = request.eth.source;
    head.eth.source = request.eth.destination;
    head.eth.ethertype = U16::new(ETHERTYPE_IPV4);
    head.ip.fill(udp_length, request.ip.destination, request.ip.source);
    head.udp.source = U16::new(port::TFTP);
    head.udp.destination = request.udp.source;
    head.udp.length = U16::new(udp_length);
    head.opcode = U16::new(OPCODE_DATA);
    head.block = U16::new(block);
    head.padding = [0; 18];
    let pseudo = Sum::pseudo(request.ip.destination, request.ip.source, udp_length);
    if is_unfinished::<F>(request) {
        head.udp.checksum = U16::new(pseudo.folded());
        return;
    }
    let sum = pseudo
        .word(sum)
        .word(port::TFTP)
        .word(request.udp.source.get())
        .word(udp_length)
        .word(OPCODE_DATA)
        .word(block);
    head.udp.checksum = U16::new(sum.udp_checksum());
}

#[inline(always)]
fn frame_length(block_length: u32) -> u32 {
    let length = ACK_FRAME + block_length;
    if length < SHORTEST_FRAME { SHORTEST_FRAME } else { length }
}

/// Checks an acknowledgement's frame of `length` bytes as a socket's stack would.
///
/// # Errors
/// [`Reason::TftpRequest`], [`Reason::TftpNotAsked`] or [`Reason::Tftp`] if it is not a plain acknowledgement; otherwise the
/// reason why the frame is not believed or not for this server.
#[inline(always)]
pub fn intact<F: Frame>(request: &Request, length: u32, link: &LinkEntry) -> Result<(), Reason> {
    if length < ACK_FRAME {
        return Err(Reason::Tftp);
    }
    let opcode = opcode(request);
    // Counted separately only if the daemon's socket should get it: the daemon compares the counts.
    let to_us = request.eth.destination == link.mac && request.ip.destination == link.address;
    if opcode == OPCODE_READ && to_us {
        return Err(Reason::TftpRequest);
    }
    // Clients also send 2, a request to write, and 5, an error. Only servers send the others.
    if to_us && !matches!(opcode, 2 | OPCODE_ACK | 5) {
        return Err(Reason::TftpNotAsked);
    }
    if opcode != OPCODE_ACK || request.ip.total_length.get() != 32 || request.udp.length.get() != 12 {
        return Err(Reason::Tftp);
    }
    if request.eth.destination != link.mac {
        return Err(Reason::ForeignMac);
    }
    if request.ip.sum().folded() != 0xffff {
        return Err(Reason::BadIpChecksum);
    }
    let sum = Sum::pseudo(request.ip.source, request.ip.destination, 12)
        .word(request.udp.source.get())
        .word(request.udp.destination.get())
        .word(12)
        .word(request.udp.checksum.get())
        .word(OPCODE_ACK)
        .word(block(request));
    if !is_believed::<F>(request, sum) {
        return Err(Reason::BadUdpChecksum);
    }
    Ok(())
}

// A request buffer is laid out for DHCP; these are the four bytes behind the UDP header.
#[inline(always)]
fn opcode(request: &Request) -> u16 {
    u16::from_be_bytes([request.bootp.op, request.bootp.htype])
}

#[inline(always)]
fn block(request: &Request) -> u16 {
    u16::from_be_bytes([request.bootp.hlen, request.bootp.hops])
}

#[inline(always)]
fn key(request: &Request, ifindex: u32) -> TransferKey {
    TransferKey {
        client: request.ip.source,
        local: request.ip.destination,
        ifindex,
        port: request.udp.source.get(),
        reserved: 0,
    }
}

#[cfg(test)]
mod tests;
