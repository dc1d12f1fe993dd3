//! From a socket's payload to the frame that the shared function answers, and back.
//!
//! The daemon sees UDP payloads; [`respond`](boot_common::respond::respond) wants frames. The headers are put
//! together from what the socket said. A checksum of 0 is UDP's word for "not computed": the stack has checked
//! the real one already.

use std::net::Ipv4Addr;

use boot_common::Mac;
use boot_common::frame::Bytes;
use boot_common::tables::LinkEntry;
use boot_common::wire::{ETHERTYPE_IPV4, Eth, HEADERS, IP_UDP, Ipv4, MAX_FRAME, Udp};
use zerocopy::IntoBytes as _;
use zerocopy::network_endian::U16;

use crate::command::Incoming;

/// Most answers are no longer. The allocator has more trouble with greater pieces.
const USUAL_ANSWER: usize = 768;

/// The frame a payload came in, as far as it matters. `None` when it is longer than a frame.
#[must_use]
pub fn frame(incoming: &Incoming<'_>, link: &LinkEntry) -> Option<Bytes> {
    let length = HEADERS + incoming.payload.len();
    if length > MAX_FRAME {
        return None;
    }
    let total = u16::try_from(length - 14).ok()?;
    // Whoever sent it, the client is who it says it is: a relay's address would be no use in an answer.
    let source = incoming
        .payload
        .get(28..34)
        .and_then(|bytes| <[u8; 6]>::try_from(bytes).ok())
        .map_or(Mac::BROADCAST, Mac);
    let eth = Eth { destination: link.mac, source, ethertype: U16::new(ETHERTYPE_IPV4) };
    let mut ip = Ipv4 {
        version_ihl: 0x45,
        tos: 0,
        total_length: U16::new(total),
        id: U16::ZERO,
        fragment: U16::ZERO,
        ttl: 64,
        protocol: IP_UDP,
        checksum: U16::ZERO,
        source: incoming.from.ip().octets(),
        destination: if incoming.to == Ipv4Addr::BROADCAST { [255; 4] } else { link.address },
    };
    ip.checksum = U16::new(ip.sum().checksum());
    let udp = Udp {
        source: U16::new(incoming.from.port()),
        destination: U16::new(incoming.port),
        length: U16::new(total - 20),
        checksum: U16::ZERO,
    };
    let mut bytes = Vec::with_capacity(length.max(USUAL_ANSWER));
    bytes.extend_from_slice(eth.as_bytes());
    bytes.extend_from_slice(ip.as_bytes());
    bytes.extend_from_slice(udp.as_bytes());
    bytes.extend_from_slice(incoming.payload);
    Some(Bytes(bytes))
}

/// The DHCP message in an answer's frame.
#[must_use]
pub fn payload(frame: &[u8]) -> &[u8] {
    frame.get(HEADERS..).unwrap_or_default()
}
