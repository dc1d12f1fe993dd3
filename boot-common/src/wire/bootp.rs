//! The BOOTP message that DHCP and PXE share (RFC 951, RFC 2131 section 2).

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::{BUFFER, Eth, HEADERS, Ipv4, Udp};

/// The four octets before the options (RFC 2131 section 3).
pub const MAGIC: u32 = 0x6382_5363;
/// Bytes of a BOOTP message before `sname`.
pub const BOOTP_FIXED: usize = 44;
/// Bytes of `sname` and `file`.
pub const SNAME_AND_FILE: usize = 192;

/// UDP ports.
pub mod port {
    /// DHCP server.
    pub const DHCP_SERVER: u16 = 67;
    /// DHCP client.
    pub const DHCP_CLIENT: u16 = 68;
    /// TFTP server.
    pub const TFTP: u16 = 69;
    /// PXE boot server, "ProxyDHCP service" (PXE 2.1 section 2.2).
    pub const PXE: u16 = 4011;
}

/// BOOTP message operations.
pub mod op {
    /// A client's message.
    pub const REQUEST: u8 = 1;
    /// A server's message.
    pub const REPLY: u8 = 2;
}

/// Option codes (RFC 2132 unless another is named).
#[allow(missing_docs, reason = "the names are the registry's")]
pub mod option {
    pub const PAD: u8 = 0;
    pub const HOST_NAME: u8 = 12;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const PARAMETER_REQUEST: u8 = 55;
    pub const MAX_SIZE: u8 = 57;
    pub const VENDOR_CLASS: u8 = 60;
    pub const CLIENT_ID: u8 = 61;
    /// RFC 3004; iPXE sends the bare text "iPXE".
    pub const USER_CLASS: u8 = 77;
    /// RFC 3046.
    pub const RELAY_AGENT: u8 = 82;
    /// RFC 4578.
    pub const CLIENT_ARCH: u8 = 93;
    /// RFC 4578.
    pub const CLIENT_GUID: u8 = 97;
    /// iPXE's encapsulated options.
    pub const IPXE: u8 = 175;
    pub const END: u8 = 255;

    /// The options of a request that are read.
    pub const READ: [u8; 14] = [
        HOST_NAME,
        REQUESTED_ADDRESS,
        OVERLOAD,
        MESSAGE_TYPE,
        SERVER_ID,
        PARAMETER_REQUEST,
        MAX_SIZE,
        VENDOR_CLASS,
        CLIENT_ID,
        USER_CLASS,
        RELAY_AGENT,
        CLIENT_ARCH,
        CLIENT_GUID,
        IPXE,
    ];
}

/// A BOOTP message up to and including `chaddr`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BootpFixed {
    /// [`op::REQUEST`] or [`op::REPLY`].
    pub op: u8,
    /// Hardware type; 1 = Ethernet.
    pub htype: u8,
    /// Hardware address length; 6 for Ethernet.
    pub hlen: u8,
    /// Relays on the way.
    pub hops: u8,
    /// Transaction number, chosen by the client.
    pub xid: U32,
    /// Seconds since the client began, by its own account.
    pub secs: U16,
    /// 0x8000 = the client asks for broadcast answers.
    pub flags: U16,
    /// The address the client already has.
    pub ciaddr: [u8; 4],
    /// The address the client is given.
    pub yiaddr: [u8; 4],
    /// The server to fetch the boot file from.
    pub siaddr: [u8; 4],
    /// The relay the message came through.
    pub giaddr: [u8; 4],
    /// The client's hardware address, padded with zeros.
    pub chaddr: [u8; 16],
}

const _: () = assert!(size_of::<BootpFixed>() == BOOTP_FIXED);

/// A whole request frame in a buffer of [`BUFFER`] bytes.
///
/// Bytes behind the frame's own length are left over from earlier frames and mean nothing.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Request {
    /// Ethernet header.
    pub eth: Eth,
    /// IPv4 header.
    pub ip: Ipv4,
    /// UDP header.
    pub udp: Udp,
    /// BOOTP message up to `chaddr`.
    pub bootp: BootpFixed,
    /// `sname` and `file`.
    pub names: [u8; SNAME_AND_FILE],
    /// [`MAGIC`] when options follow.
    pub magic: U32,
    /// Options and whatever comes after.
    pub options: [u8; BUFFER - Request::OPTIONS],
}

impl Request {
    /// Offset of the first option in the frame.
    pub const OPTIONS: usize = HEADERS + BOOTP_FIXED + SNAME_AND_FILE + 4;
}

const _: () = assert!(size_of::<Request>() == BUFFER);

/// The part of an answer that is written for each client: all headers and the fixed BOOTP fields.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Head {
    /// Ethernet header.
    pub eth: Eth,
    /// IPv4 header.
    pub ip: Ipv4,
    /// UDP header.
    pub udp: Udp,
    /// BOOTP message up to `chaddr`.
    pub bootp: BootpFixed,
}

impl Head {
    /// Bytes of it.
    pub const SIZE: usize = HEADERS + BOOTP_FIXED;
}

const _: () = assert!(size_of::<Head>() == Head::SIZE);
