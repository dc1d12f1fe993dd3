//! Writing an answer over the request it belongs to.

use zerocopy::IntoBytes;
use zerocopy::network_endian::U16;

use crate::Reason;
use crate::decide::Decision;
use crate::facts::{Facts, Span};
use crate::frame::Frame;
use crate::respond::Scratch;
use crate::tables::{ANSWER_BODY, HOST_OPTIONS};
use crate::wire::{
    BootpFixed, ETHERTYPE_IPV4, Eth, Head, IP_UDP, Ipv4, MAX_FRAME, SNAME_AND_FILE, Sum, Udp, op, option,
};

/// Ethernet header.
const ETHERNET: u32 = 14;
/// IP and UDP headers: what option 57 counts on top of the DHCP message (RFC 2132 section 9.10 counts the
/// whole IP packet, so these have to fit in it too).
const IP_AND_UDP: u32 = 28;
/// Old ROMs and relays drop BOOTP messages of less than 300 bytes (RFC 1542 section 2.1).
const SHORTEST_FRAME: u32 = ETHERNET + IP_AND_UDP + 300;
/// The most that is ever missing to that.
const MAX_PAD: u32 = 300 - (Head::SIZE as u32 - 42) - (SNAME_AND_FILE as u32 + 4);
/// What every client takes (RFC 2131 section 2).
const SMALLEST_MAXIMUM: u32 = 576;
/// The longest of an option's echo: more is left to the daemon.
const MAX_SPAN: u32 = 257;
/// Words in the longest tail: machine identifier, client identifier, relay information, END.
const TAIL_WORDS: u32 = (19 + 2 * MAX_SPAN + 1 + MAX_PAD).div_ceil(2);

/// Turns the request in `frame` into the answer.
///
/// # Errors
/// [`Reason::ReplyTooBig`] and [`Reason::NoTailRoom`] leave the frame as it was;
/// [`Reason::StoreFailed`] does not.
#[inline(always)]
pub fn answer<F: Frame>(
    frame: &mut F,
    scratch: &mut Scratch,
    facts: &Facts,
    decision: &Decision<'_>,
) -> Result<(), Reason> {
    let mut tail_length = tail(frame, scratch, facts)?;
    let body_length = u32::from(decision.answer.body_length);
    let own_length = decision.host.map_or(0, |host| u32::from(host.options_length));
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
    let own_sum = decision.host.map_or(0, |host| host.options_sum);
    head(scratch, decision, length, decision.answer.body_sum, own_sum, tail_length);

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
    if let Some(host) = decision.host
        && own_length != 0
    {
        stored &= frame.store(at, &host.options, own_length);
        at += own_length;
    }
    stored &= frame.store(at, &scratch.tail, tail_length);
    if stored { Ok(()) } else { Err(Reason::StoreFailed) }
}

/// The largest IP packet the client takes.
#[inline(always)]
fn limit(facts: &Facts) -> u32 {
    let asked = u32::from(facts.max_size);
    if asked > SMALLEST_MAXIMUM { asked } else { SMALLEST_MAXIMUM }
}

/// Puts the options that are returned unaltered into the scratch, and END. Gives their length.
#[inline(always)]
fn tail<F: Frame>(frame: &F, scratch: &mut Scratch, facts: &Facts) -> Result<u32, Reason> {
    let mut length = echo(frame, scratch, facts.guid, 0)?;
    length = echo(frame, scratch, facts.client_id, length)?;
    // Last, as RFC 3046 section 2.2 wants it.
    length = echo(frame, scratch, facts.relay, length)?;
    if let Some(end) = scratch.tail.get_mut(length as usize & 1023) {
        *end = option::END;
    }
    Ok(length + 1)
}

/// Puts zeros behind END until the tail has `wanted` bytes. Gives its new length.
#[inline(always)]
fn pad(scratch: &mut Scratch, length: u32, wanted: u32) -> u32 {
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
fn echo<F: Frame>(frame: &F, scratch: &mut Scratch, span: Span, at: u32) -> Result<u32, Reason> {
    if span.length == 0 {
        return Ok(at);
    }
    if span.length > MAX_SPAN || at > 511 {
        return Err(Reason::ReplyTooBig);
    }
    if !frame.load_part(span.offset, span.length, &mut scratch.tail, at) {
        return Err(Reason::TooShort);
    }
    Ok(at + span.length)
}

/// Writes the headers and the fixed BOOTP fields (RFC 2131 section 4.3.1, table 3).
#[inline(always)]
fn head(
    scratch: &mut Scratch,
    decision: &Decision<'_>,
    length: u32,
    body_sum: u16,
    own_sum: u16,
    tail_length: u32,
) {
    let request = &scratch.request.bootp;
    let bootp = BootpFixed {
        op: op::REPLY,
        htype: 1,
        hlen: 6,
        hops: 0,
        xid: request.xid,
        secs: U16::ZERO,
        flags: request.flags,
        ciaddr: decision.ciaddr,
        yiaddr: decision.yiaddr,
        siaddr: decision.answer.siaddr,
        giaddr: request.giaddr,
        chaddr: request.chaddr,
    };
    let udp_length = (length - ETHERNET - 20) as u16;
    let mut ip = Ipv4 {
        version_ihl: 0x45,
        tos: 0,
        total_length: U16::new(udp_length + 20),
        id: U16::ZERO,
        fragment: U16::new(0x4000),
        ttl: 64,
        protocol: IP_UDP,
        checksum: U16::ZERO,
        source: decision.source,
        destination: decision.to.address,
    };
    ip.checksum = U16::new(ip.sum().checksum());
    let mut udp = Udp {
        source: U16::new(decision.source_port),
        destination: U16::new(decision.to.port),
        length: U16::new(udp_length),
        checksum: U16::ZERO,
    };
    // Everything before the tail has an even length, so the parts' sums simply add up.
    let sum = Sum::of(body_sum)
        .word(own_sum)
        .address(decision.source)
        .address(decision.to.address)
        .word(u16::from(IP_UDP))
        .word(udp_length)
        .word(decision.source_port)
        .word(decision.to.port)
        .word(udp_length)
        .bytes(bootp.as_bytes())
        .range::<1024, TAIL_WORDS>(&scratch.tail, 0, tail_length);
    udp.checksum = U16::new(sum.udp_checksum());
    let eth = Eth {
        destination: decision.to.mac,
        source: decision.source_mac,
        ethertype: U16::new(ETHERTYPE_IPV4),
    };
    scratch.head = Head { eth, ip, udp, bootp };
}
