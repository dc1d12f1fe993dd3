//! Probes behind relays: ICMP echo.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::net::Ipv4Addr;

use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Verdict;
use super::channel::{Channel, Claim};
use crate::host::socket::filter::{
    LOAD_BYTE_BEHIND_X, LOAD_HALF_BEHIND_X, LOAD_HEADER_LEN_TO_X, RETURN, instruction, jump,
};

const ECHO_REQUEST: u8 = 8;
pub(super) const ECHO_REPLY: u8 = 0;

/// The echo requests for addresses behind relays, which leave wherever the routes lead.
#[derive(Debug)]
pub(super) struct Icmp {
    pub(super) channel: Channel,
    pub(super) secret: Secret,
}

impl Icmp {
    pub(super) fn open() -> io::Result<Self> {
        let secret = Secret::default();
        let ours = secret.clone();
        let channel = Channel::open(icmp_socket(secret.id())?, move |mut socket, buf| {
            let len = socket.read(buf)?;
            Ok(buf.get(..len).and_then(|packet| ours.claim(packet)))
        })?;
        Ok(Self { channel, secret })
    }
}

pub(super) fn icmp_socket(id: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.set_nonblocking(true)?;
    socket.attach_filter(&replies_only(id))?;
    Ok(socket)
}

/// A raw socket hears all ICMP that comes to this host. The filter sees it with its IP header.
fn replies_only(id: u16) -> [SockFilter; 7] {
    const ID: u32 = 4;
    [
        instruction(LOAD_HEADER_LEN_TO_X, 0),
        instruction(LOAD_BYTE_BEHIND_X, 0),
        jump(ECHO_REPLY.into(), 0, 3),
        instruction(LOAD_HALF_BEHIND_X, ID),
        jump(id.into(), 0, 1),
        instruction(RETURN, u32::MAX),
        instruction(RETURN, 0),
    ]
}
/// RFC 792, with a cookie for the data.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Echo {
    pub(super) kind: u8,
    pub(super) code: u8,
    pub(super) checksum: U16,
    pub(super) id: U16,
    pub(super) sequence: U16,
    pub(super) cookie: [u8; 8],
}

/// Tells the answers to this process' echo requests from what others ask and from what nobody asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Secret(RandomState);

impl Secret {
    pub(super) fn id(&self) -> u16 {
        self.0.hash_one("id") as u16
    }

    pub(super) fn cookie(&self, address: Ipv4Addr) -> [u8; 8] {
        self.0.hash_one(address).to_be_bytes()
    }

    pub(super) fn request(&self, address: Ipv4Addr) -> Echo {
        let mut echo = Echo {
            kind: ECHO_REQUEST,
            code: 0,
            checksum: 0.into(),
            id: self.id().into(),
            sequence: 0.into(),
            cookie: self.cookie(address),
        };
        echo.checksum = (!sum(echo.as_bytes())).into();
        echo
    }

    /// Reads an IP packet. Its checksums are not looked at: the cookie proves more.
    pub(super) fn claim(&self, packet: &[u8]) -> Option<Claim> {
        let header_len = usize::from(packet.first()? & 0x0f) * 4;
        let source: [u8; 4] = *packet.get(12..)?.first_chunk()?;
        let (echo, _rest) = Echo::ref_from_prefix(packet.get(header_len..)?).ok()?;
        let address = Ipv4Addr::from(source);
        let valid = (echo.kind, echo.code) == (ECHO_REPLY, 0)
            && echo.id == self.id()
            && echo.cookie == self.cookie(address);
        valid.then_some(Claim { address, verdict: Verdict::Answers })
    }
}

/// The one's complement sum of RFC 1071 over a whole number of words.
pub(super) fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}
