//! Ethernet, IPv4 and UDP headers.

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Mac;
use crate::wire::Sum;

/// Ethertype of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// IP protocol number of UDP.
pub const IP_UDP: u8 = 17;

/// Ethernet II header.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Eth {
    /// The receiver's MAC address.
    pub destination: Mac,
    /// The sender's MAC address.
    pub source: Mac,
    /// [`ETHERTYPE_IPV4`] or another type.
    pub ethertype: U16,
}

/// IPv4 header without options (RFC 791 section 3.1).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv4 {
    /// Version and header length in 32-bit words; 0x45 here, always.
    pub version_ihl: u8,
    /// Type of service.
    pub tos: u8,
    /// Bytes of header and payload.
    pub total_length: U16,
    /// Identification of fragments.
    pub id: U16,
    /// Flags (0x4000 = do not fragment, 0x2000 = more fragments) and fragment offset.
    pub fragment: U16,
    /// Time to live.
    pub ttl: u8,
    /// [`IP_UDP`] or another protocol.
    pub protocol: u8,
    /// Ones' complement sum over the header.
    pub checksum: U16,
    /// Sender.
    pub source: [u8; 4],
    /// Receiver.
    pub destination: [u8; 4],
}

impl Ipv4 {
    /// The header of a UDP datagram of `udp_length` bytes that must not be fragmented.
    #[inline(always)]
    pub fn fill(&mut self, udp_length: u16, source: [u8; 4], destination: [u8; 4]) {
        self.version_ihl = 0x45;
        self.tos = 0;
        self.total_length = U16::new(udp_length + 20);
        self.id = U16::ZERO;
        self.fragment = U16::new(0x4000);
        self.ttl = 64;
        self.protocol = IP_UDP;
        self.checksum = U16::ZERO;
        self.source = source;
        self.destination = destination;
        self.checksum = U16::new(self.sum().checksum());
    }

    /// The sum over the header's ten words; 0xffff when a received header is intact (RFC 1071).
    #[inline(always)]
    #[must_use]
    pub fn sum(&self) -> Sum {
        Sum::ZERO
            .word(u16::from_be_bytes([self.version_ihl, self.tos]))
            .word(self.total_length.get())
            .word(self.id.get())
            .word(self.fragment.get())
            .word(u16::from_be_bytes([self.ttl, self.protocol]))
            .word(self.checksum.get())
            .address(self.source)
            .address(self.destination)
    }
}

/// UDP header (RFC 768).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Udp {
    /// Sender's port.
    pub source: U16,
    /// Receiver's port.
    pub destination: U16,
    /// Bytes of header and payload.
    pub length: U16,
    /// Ones' complement sum over pseudo header, header and payload; 0 = not computed.
    pub checksum: U16,
}

/// An address that a relay names. 0.0.0.0 in the facts means that the relay names none, so a relay that does name 0.0.0.0
/// gets another impossible address.
#[inline(always)]
pub(crate) fn named(address: [u8; 4]) -> [u8; 4] {
    if address == [0; 4] { [255; 4] } else { address }
}
