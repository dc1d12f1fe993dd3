//! Writing an answer over its request.

use core::hint::black_box;

use zerocopy::IntoBytes;
use zerocopy::network_endian::U16;

use crate::Reason;
use crate::classify::is_unfinished;
use crate::decide::Decision;
use crate::facts::{Facts, Span};
use crate::frame::Frame;
use crate::scratch::ReplyScratch;
use crate::tables::{ANSWER_BODY, HOST_OPTIONS, SERVER_ID_AT};
use crate::wire::{ETHERTYPE_IPV4, Head, MAX_FRAME, Request, SNAME_AND_FILE, Sum, op, option};

/// Ethernet header.
const ETHERNET: u32 = 14;
/// Bytes of the IP and UDP headers: option 57 counts the whole IP packet (RFC 2132 section 9.10), so these headers
/// have to fit in it too.
const IP_AND_UDP: u32 = 28;
/// Old ROMs and relays drop BOOTP messages of less than 300 bytes (RFC 1542 section 2.1).
const SHORTEST_FRAME: u32 = ETHERNET + IP_AND_UDP + 300;
/// The most padding that an answer needs to reach 300 bytes.
const MAX_PAD: u32 = 300 - (Head::SIZE as u32 - 42) - (SNAME_AND_FILE as u32 + 4);
/// The length that every client accepts (RFC 2131 section 2).
const SMALLEST_MAXIMUM: u32 = 576;
/// The longest option that is echoed here; the daemon handles requests with longer ones.
const MAX_SPAN: u32 = 257;
/// Words in the longest tail: machine identifier, client identifier, relay information, END.
const TAIL_WORDS: u32 = (19 + 2 * MAX_SPAN + 1 + MAX_PAD).div_ceil(2);

/// Turns the request in `frame` into the answer.
///
/// # Errors
/// [`Reason::ReplyTooBig`] and [`Reason::NoTailRoom`] leave the frame as it was;
/// [`Reason::StoreFailed`] does not.
// A function of its own: the kernel's stack of 512 bytes has no room for its working memory beside that of the option
// scan.
#[inline(never)]
pub fn answer<F: Frame>(
    frame: &mut F,
    request: &Request,
    scratch: &mut ReplyScratch,
    facts: &Facts,
    decision: &Decision<'_>,
) -> Result<(), Reason> {
    let mut tail_length = tail(frame, scratch, facts)?;
    let body_length = u32::from(decision.answer.body_length);
    let own = if facts.gets_name() { decision.host } else { None };
    let own_length = own.map_or(0, |host| u32::from(host.options_length));
    if body_length < SNAME_AND_FILE as u32 + 4
        || body_length > ANSWER_BODY as u32
        || own_length > HOST_OPTIONS as u32
    {
        return Err(Reason::NoAnswer);
    }
    let before_tail = Head::SIZE as u32 + body_length + own_length;
    if before_tail + tail_length < SHORTEST_FRAME {
        tail_length = pad(scratch, tail_length, SHORTEST_FRAME - before_tail);
    }
    let length = before_tail + tail_length;
    if length - ETHERNET > limit(facts) || length > MAX_FRAME as u32 {
        return Err(Reason::ReplyTooBig);
    }
    let own_sum = own.map_or(0, |host| host.options_sum);
    let tail_length = forgotten(scratch, tail_length);
    head::<F>(request, scratch, decision, length, decision.answer.body_sum, own_sum, tail_length);

    let tail_length = forgotten(scratch, tail_length);
    if !frame.resize(length) {
        return Err(Reason::NoTailRoom);
    }
    let Ok(head) = <&[u8; Head::SIZE]>::try_from(scratch.head.as_bytes()) else {
        return Err(Reason::StoreFailed);
    };
    let mut at = Head::SIZE as u32;
    let mut stored = frame.store(0, head, at);
    stored &= frame.store(at, &decision.answer.body, body_length);
    at += body_length;
    if let Some(host) = own
        && own_length != 0
    {
        stored &= frame.store(at, &host.options, own_length);
        at += own_length;
    }
    if decision.server_id != [0; 4] {
        stored &= frame.store(Head::SIZE as u32 + SERVER_ID_AT as u32, &decision.server_id, 4);
    }
    stored &= frame.store(at, &scratch.tail, tail_length);
    if stored { Ok(()) } else { Err(Reason::StoreFailed) }
}

/// `length`, read back from memory that the verifier does not track. Otherwise the verifier checks the code behind this once
/// for each possible length, of which the loops over the tail make hundreds: Linux 6.1 gives up.
#[inline(always)]
fn forgotten(scratch: &mut ReplyScratch, length: u32) -> u32 {
    scratch.tail_length = length;
    black_box(scratch).tail_length
}

/// The largest IP packet that the client accepts.
#[inline(always)]
fn limit(facts: &Facts) -> u32 {
    let asked = u32::from(facts.max_size);
    if asked > SMALLEST_MAXIMUM { asked } else { SMALLEST_MAXIMUM }
}

/// Writes the options that are returned unaltered into the scratch, then END. Returns their length.
#[inline(always)]
fn tail<F: Frame>(frame: &F, scratch: &mut ReplyScratch, facts: &Facts) -> Result<u32, Reason> {
    let mut length = echo(frame, scratch, facts.guid, 0)?;
    length = echo(frame, scratch, facts.client_id, length)?;
    // Last, as RFC 3046 section 2.2 wants it.
    length = echo(frame, scratch, facts.relay, length)?;
    if let Some(end) = scratch.tail.get_mut(length as usize & 1023) {
        *end = option::END;
    }
    Ok(length + 1)
}

/// The body's sum with another server identifier in it.
#[inline(always)]
fn exchanged(body_sum: u16, decision: &Decision<'_>) -> u16 {
    if decision.server_id == [0; 4] {
        return body_sum;
    }
    // At an odd offset its octets are the low, high, low and high halves of three words.
    const { assert!(SERVER_ID_AT % 2 == 1) };
    let words =
        |[a, b, c, d]: [u8; 4]| [u16::from(a), u16::from_be_bytes([b, c]), u16::from_be_bytes([d, 0])];
    let [a, b, c] = words(decision.answer.server_id);
    let [d, e, f] = words(decision.server_id);
    Sum::of(body_sum).word(!a).word(!b).word(!c).word(d).word(e).word(f).folded()
}

/// Pads the tail behind END with zeros to `wanted` bytes. Returns its new length.
#[inline(always)]
fn pad(scratch: &mut ReplyScratch, length: u32, wanted: u32) -> u32 {
    let mut i = 0;
    while i < MAX_PAD {
        if let Some(byte) = scratch.tail.get_mut((length + i) as usize & 1023) {
            *byte = 0;
        }
        i += 1;
    }
    wanted
}

#[inline(always)]
fn echo<F: Frame>(frame: &F, scratch: &mut ReplyScratch, span: Span, at: u32) -> Result<u32, Reason> {
    let mut end = at;
    if span.length != 0 {
        if span.length > MAX_SPAN || at > 511 {
            return Err(Reason::ReplyTooBig);
        }
        if !frame.load_part(span.offset, span.length, &mut scratch.tail, at) {
            return Err(Reason::TooShort);
        }
        end += span.length;
    }
    Ok(forgotten(scratch, end))
}

/// Writes the headers and the fixed BOOTP fields (RFC 2131 section 4.3.1, table 3).
#[inline(always)]
fn head<F: Frame>(
    request: &Request,
    scratch: &mut ReplyScratch,
    decision: &Decision<'_>,
    length: u32,
    body_sum: u16,
    own_sum: u16,
    tail_length: u32,
) {
    // Field by field, where they stand: the kernel's stack has no room for copies.
    let ReplyScratch { head, tail, .. } = scratch;
    let udp_length = (length - ETHERNET - 20) as u16;
    head.eth.destination = decision.to.mac;
    head.eth.source = decision.source_mac;
    head.eth.ethertype = U16::new(ETHERTYPE_IPV4);

    let bootp = &mut head.bootp;
    bootp.op = op::REPLY;
    bootp.htype = 1;
    bootp.hlen = 6;
    bootp.hops = 0;
    bootp.xid = request.bootp.xid;
    bootp.secs = U16::ZERO;
    bootp.flags = request.bootp.flags;
    bootp.ciaddr = decision.ciaddr;
    bootp.yiaddr = decision.yiaddr;
    bootp.siaddr = decision.answer.siaddr;
    bootp.giaddr = request.bootp.giaddr;
    bootp.chaddr = request.bootp.chaddr;

    head.ip.fill(udp_length, decision.source, decision.to.address);

    let udp = &mut head.udp;
    udp.source = U16::new(decision.source_port);
    udp.destination = U16::new(decision.to.port);
    udp.length = U16::new(udp_length);
    let pseudo = Sum::pseudo(decision.source, decision.to.address, udp_length);
    if is_unfinished::<F>(request) {
        head.udp.checksum = U16::new(pseudo.folded());
        return;
    }
    // Everything before the tail has an even length, so the parts' sums simply add up.
    let sum = pseudo
        .word(exchanged(body_sum, decision))
        .word(own_sum)
        .word(decision.source_port)
        .word(decision.to.port)
        .word(udp_length)
        .bytes(head.bootp.as_bytes())
        .range::<1024, TAIL_WORDS>(tail, 0, tail_length);
    head.udp.checksum = U16::new(sum.udp_checksum());
}
