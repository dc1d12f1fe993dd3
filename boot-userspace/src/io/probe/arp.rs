//! Probes on the link: RFC 5227.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use boot_common::Mac;
use nix::sys::socket::{LinkAddr, recvfrom};
use socket2::{SockFilter, Socket};
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::super::packet;
use super::Verdict;
use super::channel::Claim;
use crate::host::link::Link;
use crate::host::socket::filter::{LOAD_BYTE, LOAD_HALF, LOAD_WORD, PACKET_TYPE, RETURN, instruction, jump};

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERNET: u16 = 1;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// A packet socket that hears who claims an address.
pub(super) fn open(link: &Link) -> io::Result<Socket> {
    let socket = packet::open(link, ETHERTYPE_ARP)?;
    socket.attach_filter(&claims_only())?;
    Ok(socket)
}

/// Classic BPF, so that little else wakes the daemon: replies, and requests of a station that has an address.
fn claims_only() -> [SockFilter; 9] {
    const OPERATION: u32 = 14 + 6;
    const SENDER: u32 = 14 + 14;
    [
        instruction(LOAD_BYTE, PACKET_TYPE),
        // For another station (promiscuous mode), or of a VLAN that is not ours.
        jump(libc::PACKET_OTHERHOST.into(), 6, 0),
        instruction(LOAD_WORD, SENDER),
        // A probe, which claims nothing yet.
        jump(0, 4, 0),
        instruction(LOAD_HALF, OPERATION),
        jump(REQUEST.into(), 1, 0),
        jump(REPLY.into(), 0, 1),
        instruction(RETURN, u32::MAX),
        instruction(RETURN, 0),
    ]
}

pub(super) fn receive_arp(socket: &Socket, index: u32, buf: &mut [u8]) -> io::Result<Option<Claim>> {
    let (len, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), buf)?;
    // Between socket() and bind() a packet socket hears all interfaces.
    let ours = from.is_some_and(|from| u32::try_from(from.ifindex()) == Ok(index));
    Ok(buf.get(..len).filter(|_| ours).and_then(Arp::claim))
}

/// RFC 826 in an Ethernet frame.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Arp {
    pub(super) destination_mac: Mac,
    pub(super) source_mac: Mac,
    pub(super) ether_type: U16,
    pub(super) hardware: U16,
    pub(super) protocol: U16,
    pub(super) hardware_len: u8,
    pub(super) protocol_len: u8,
    pub(super) operation: U16,
    pub(super) sender_mac: Mac,
    pub(super) sender: [u8; 4],
    pub(super) target_mac: Mac,
    pub(super) target: [u8; 4],
}

impl Arp {
    /// The question of RFC 5227 §2.1.1.
    pub(super) fn probe(ours: Mac, address: Ipv4Addr) -> Self {
        Self {
            destination_mac: Mac::BROADCAST,
            source_mac: ours,
            ether_type: ETHERTYPE_ARP.into(),
            hardware: ETHERNET.into(),
            protocol: ETHERTYPE_IPV4.into(),
            hardware_len: 6,
            protocol_len: 4,
            operation: REQUEST.into(),
            sender_mac: ours,
            sender: [0; 4],
            target_mac: Mac::default(),
            target: address.octets(),
        }
    }

    /// Reads a frame: replies and requests both claim their sender's address (RFC 5227 §2.1.1).
    pub(super) fn claim(frame: &[u8]) -> Option<Claim> {
        let (arp, _padding) = Self::ref_from_prefix(frame).ok()?;
        let address = Ipv4Addr::from(arp.sender);
        let valid = arp.ether_type == ETHERTYPE_ARP
            && arp.hardware == ETHERNET
            && arp.protocol == ETHERTYPE_IPV4
            && (arp.hardware_len, arp.protocol_len) == (6, 4)
            && matches!(arp.operation.get(), REQUEST | REPLY)
            && arp.sender_mac.is_station()
            && !address.is_unspecified();
        valid.then_some(Claim { address, verdict: Verdict::UsedBy(arp.sender_mac) })
    }
}
