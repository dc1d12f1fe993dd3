//! The kind of a frame, and whether to believe it.

use core::hint::black_box;

use crate::frame::Frame;
use crate::reason::Reason;
use crate::tables::LinkEntry;
use crate::wire::{ETHERTYPE_IPV4, HEADERS, IP_UDP, MAGIC, MAX_FRAME, Request, Sum, op, port};
use crate::{Mac, wire};

/// The message in a frame for this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message to the DHCP server, port 67.
    Dhcp,
    /// A message to the PXE boot server, port 4011.
    Pxe,
    /// A message to the TFTP server, port 69.
    Tftp,
}

/// The kind of message, if the frame is worth loading whole. Reads only the first [`HEADERS`] bytes, because this runs for
/// every frame on the wire.
///
/// # Errors
/// [`Reason::NotOurs`] for all other traffic; [`Reason::IpOptions`] and [`Reason::Fragment`] for packets
/// that may be for this server but have to go through the stack.
#[inline(always)]
pub fn port_of(head: &Request) -> Result<Kind, Reason> {
    if head.eth.ethertype.get() != ETHERTYPE_IPV4 || head.ip.protocol != IP_UDP {
        return Err(Reason::NotOurs);
    }
    match head.ip.version_ihl {
        0x45 => {}
        0x46..=0x4f => return Err(Reason::IpOptions),
        _ => return Err(Reason::NotOurs),
    }
    // A later fragment has no ports, and a first one is not a whole packet.
    if head.ip.fragment.get() & 0x3fff != 0 {
        return Err(Reason::Fragment);
    }
    match head.udp.destination.get() {
        port::DHCP_SERVER => Ok(Kind::Dhcp),
        port::TFTP => Ok(Kind::Tftp),
        port::PXE => Ok(Kind::Pxe),
        _ => Err(Reason::NotOurs),
    }
}

/// Checks a whole frame of `length` bytes as a socket's stack would. Returns the offset behind the UDP payload.
///
/// # Errors
/// The reason why the frame is not believed or not for this server.
#[inline(always)]
pub fn intact<F: Frame>(request: &Request, length: u32, link: &LinkEntry) -> Result<u32, Reason> {
    if request.eth.destination != link.mac && request.eth.destination != Mac::BROADCAST {
        return Err(Reason::ForeignMac);
    }
    if request.ip.destination != link.address && request.ip.destination != [255; 4] {
        return Err(Reason::ForeignIp);
    }
    if request.ip.sum().folded() != 0xffff {
        return Err(Reason::BadIpChecksum);
    }
    let ip_length = u32::from(request.ip.total_length.get());
    let udp_length = u32::from(request.udp.length.get());
    if ip_length + wire_ethernet() > length {
        return Err(Reason::TooShort);
    }
    if udp_length < 8 || udp_length + 20 != ip_length {
        return Err(Reason::BadUdpLength);
    }
    if ip_length + wire_ethernet() > MAX_FRAME as u32 {
        return Err(Reason::TooLong);
    }
    if request.udp.source.get() == 0 || !can_be_a_source(request.ip.source) {
        return Err(Reason::BadSource);
    }
    let is_summed = !F::SUMS_IF_NEEDED || request.udp.checksum.get() != 0;
    if is_summed && !is_believed::<F>(request, udp_sum(request, udp_length)) {
        return Err(Reason::BadUdpChecksum);
    }
    // Read again: otherwise the verifier checks the rest once for each length at which the loop over the bytes could end.
    Ok(wire_ethernet() + u32::from(black_box(request).ip.total_length.get()))
}

/// Checks the fixed part of a BOOTP request that ends at `end`.
///
/// # Errors
/// The reason why it is not a valid request.
#[inline(always)]
pub fn bootp(request: &Request, end: u32) -> Result<(), Reason> {
    if (end as usize) < Request::OPTIONS {
        return Err(Reason::TooShort);
    }
    if request.bootp.op != op::REQUEST {
        return Err(Reason::NotARequest);
    }
    // EDK2 built with SendGUID sends hlen 16 and its GUID: that is no address to answer to.
    if request.bootp.htype != 1 || request.bootp.hlen != 6 {
        return Err(Reason::NotEthernet);
    }
    if !client(request).is_station() {
        return Err(Reason::NotEthernet);
    }
    // Answers go to these addresses, whatever address the packet came from.
    if !can_be_a_source(request.bootp.ciaddr) || !can_be_a_source(request.bootp.giaddr) {
        return Err(Reason::BadSource);
    }
    // Last: a request without a cookie is BOOTP (RFC 951), which the daemon may answer.
    if request.magic.get() != MAGIC {
        return Err(Reason::BadCookie);
    }
    Ok(())
}

/// The client's hardware address.
#[inline(always)]
#[must_use]
pub fn client(request: &Request) -> Mac {
    let [a, b, c, d, e, f, ..] = request.bootp.chaddr;
    Mac([a, b, c, d, e, f])
}

#[inline(always)]
const fn wire_ethernet() -> u32 {
    size_of::<wire::Eth>() as u32
}

/// Whether a source address is neither multicast, broadcast nor loopback. A client without an address sends from 0.0.0.0.
#[inline(always)]
pub(crate) fn can_be_a_source(address: [u8; 4]) -> bool {
    let [first, ..] = address;
    first != 127 && first < 224
}

/// Whether the UDP checksum is right, or may be unfinished at this hook. `sum` is that of the whole packet.
///
/// For one packet in 65,536 the checksum could be either; such a packet is passed on: the answer's checksum must be finished
/// or unfinished like the request's, and only the stack knows which.
#[inline(always)]
pub(crate) fn is_believed<F: Frame>(request: &Request, sum: Sum) -> bool {
    let is_right = sum.folded() == 0xffff;
    request.udp.checksum.get() == 0 || is_right != is_unfinished::<F>(request)
}

/// Whether the sender left the checksum to an offload (Linux: `CHECKSUM_PARTIAL`): then the field has the sum of the
/// pseudo header, and an answer in the same skb is finished when it leaves the machine.
#[inline(always)]
pub(crate) fn is_unfinished<F: Frame>(request: &Request) -> bool {
    F::MAY_BE_UNFINISHED && request.udp.checksum.get() == pseudo(request).folded()
}

#[inline(always)]
fn pseudo(request: &Request) -> Sum {
    Sum::pseudo(request.ip.source, request.ip.destination, request.udp.length.get())
}

/// Sum over pseudo header, UDP header and payload.
#[inline(always)]
fn udp_sum(request: &Request, udp_length: u32) -> Sum {
    use zerocopy::IntoBytes;
    let pseudo = pseudo(request);
    let Ok(buffer) = <&[u8; wire::BUFFER]>::try_from(request.as_bytes()) else { return pseudo };
    const WORDS: u32 = (MAX_FRAME as u32 - 34) / 2;
    pseudo.range::<{ wire::BUFFER }, WORDS>(buffer, HEADERS as u32 - 8, udp_length)
}
