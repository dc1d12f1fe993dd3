//! Answers the IPv6 router solicitation of a machine that is booting with an empty router advertisement.
//!
//! iPXE waits up to 13 seconds for a router before it goes on with IPv4. An advertisement with lifetime 0
//! and no prefixes ends the wait, and configures nothing: RFC 4861 §6.3.4 makes a host ignore such a router.

use std::fs;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use boot_common::Mac;
use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, recvfrom};
use socket2::{Domain, SockFilter, Socket, Type};
use tokio::io::Interest;
use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::packet;
use crate::host::clock;
use crate::host::link::Link;
use crate::host::socket::filter::{LOAD_BYTE, PACKET_TYPE, RETURN, instruction, jump};
use crate::host::socket::register;
use boot_engine::events::{BootEvent, Events, LinkName, Machine, Step};
use boot_engine::machines::Machines;

const ETHERTYPE_IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
/// Proves that no router forwarded the packet.
const HOP_LIMIT: u8 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Answers the solicitations of machines that boot on one interface. Returns only if it cannot start.
///
/// Silent while the interface forwards IPv6: then this host may be a real router, and an advertisement
/// with lifetime 0 would take that router from its hosts.
pub async fn serve(link: Link, machines: Machines, events: Events) -> io::Result<()> {
    let socket = register(open(&link)?)?;
    let _membership = join_all_routers_by_ipv6(&link);
    let mut frame = [0; 2048];
    loop {
        match socket.async_io(Interest::READABLE, |socket| receive(socket, &link, &mut frame)).await {
            Ok(None) => {}
            Ok(Some(len)) => {
                let frame = frame.get(..len).unwrap_or_default();
                answer(socket.get_ref(), &link, &machines, &events, frame);
            }
            Err(error) => {
                // The interface went down; the socket works again when it is back.
                tracing::debug!(link = link.name, %error, "cannot receive router solicitations");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn answer(socket: &Socket, link: &Link, machines: &Machines, events: &Events, frame: &[u8]) {
    let Some(solicitation) = Solicitation::parse(frame) else { return };
    let mac = solicitation.mac;
    if !machines.is_client(mac) || machines.is_ignored(mac) || forwards_ipv6(link) {
        return;
    }
    match socket.send(solicitation.advertisement(link.mac).as_bytes()) {
        Ok(_) => {
            let link = Some(LinkName { index: link.index, name: link.name.as_str().into() });
            let event = BootEvent::new(clock::boot(), Step::RouterAdvertised).of(Machine::from(mac));
            events.emit(BootEvent { link, ..event });
        }
        Err(error) => {
            tracing::debug!(%mac, %error, "cannot send a router advertisement");
        }
    }
}

fn forwards_ipv6(link: &Link) -> bool {
    let setting = fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{}/forwarding", link.name));
    setting.is_ok_and(|value| value.trim() != "0")
}

// ---- the socket ----

fn open(link: &Link) -> io::Result<Socket> {
    let socket = packet::open(link, ETHERTYPE_IPV6)?;
    socket.attach_filter(&solicitations_only())?;
    join_all_routers(socket.as_fd(), link.index)?;
    Ok(socket)
}

/// Classic BPF, so that no other traffic wakes the daemon.
///
/// A solicitation with extension headers does not pass; no firmware sends one.
fn solicitations_only() -> [SockFilter; 8] {
    const NEXT_HEADER: u32 = 14 + 6;
    const ICMP_TYPE: u32 = 14 + 40;
    let load = |at| instruction(LOAD_BYTE, at);
    [
        load(PACKET_TYPE),
        // For another station (promiscuous mode), or of a VLAN that is not ours.
        jump(u32::from(libc::PACKET_OTHERHOST), 5, 0),
        load(NEXT_HEADER),
        jump(u32::from(ICMPV6), 0, 3),
        load(ICMP_TYPE),
        jump(u32::from(ROUTER_SOLICITATION), 0, 1),
        instruction(RETURN, u32::MAX),
        instruction(RETURN, 0),
    ]
}

/// Lets the card's filter pass frames to ff02::2, also where IPv6 is turned off on this host.
#[expect(unsafe_code, reason = "no safe interface to PACKET_ADD_MEMBERSHIP in nix, rustix or socket2")]
fn join_all_routers(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    // RFC 2464 §7: 33:33 and the last four bytes of the group.
    let request = libc::packet_mreq {
        mr_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        mr_type: libc::PACKET_MR_MULTICAST as u16,
        mr_alen: 6,
        mr_address: [0x33, 0x33, 0, 0, 0, 2, 0, 0],
    };
    let len = size_of_val(&request) as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes from a live `packet_mreq`, which is what this option takes.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            len,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Joins a second time where IPv6 is on: the kernel then reports the membership to switches that snoop MLD
/// and would otherwise keep solicitations from this port. Holds as long as the socket lives.
fn join_all_routers_by_ipv6(link: &Link) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).ok()?;
    socket.join_multicast_v6(&ALL_ROUTERS, link.index).ok()?;
    Some(socket)
}

/// Takes one frame, or `None` if it is none of ours.
fn receive(socket: &Socket, link: &Link, frame: &mut [u8]) -> io::Result<Option<usize>> {
    match recvfrom::<LinkAddr>(socket.as_raw_fd(), frame) {
        // Between socket() and bind() a packet socket hears all interfaces.
        Ok((len, from)) => {
            Ok(from.is_some_and(|from| u32::try_from(from.ifindex()) == Ok(link.index)).then_some(len))
        }
        Err(Errno::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

// ---- the wire ----

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Headers {
    destination_mac: Mac,
    source_mac: Mac,
    ether_type: U16,
    version_class_flow: U32,
    payload_len: U16,
    next_header: u8,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
}

/// RFC 4861 §4.2 with one option (§4.6.1).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Advertisement {
    headers: Headers,
    icmp_type: u8,
    code: u8,
    checksum: U16,
    cur_hop_limit: u8,
    flags: u8,
    router_lifetime: U16,
    reachable_time: U32,
    retrans_timer: U32,
    option_type: u8,
    option_len: u8,
    option_mac: Mac,
}

/// A valid router solicitation: who asks.
#[derive(Debug, PartialEq, Eq)]
struct Solicitation {
    mac: Mac,
    address: Ipv6Addr,
}

impl Solicitation {
    /// Reads an Ethernet frame; `None` for whatever RFC 4861 §6.1.1 tells to discard.
    fn parse(frame: &[u8]) -> Option<Self> {
        let (headers, rest) = Headers::ref_from_prefix(frame).ok()?;
        // Behind the payload there may be Ethernet padding.
        let icmp = rest.get(..usize::from(headers.payload_len.get()))?;
        let address = Ipv6Addr::from(headers.source);
        let valid = headers.ether_type == ETHERTYPE_IPV6
            && headers.version_class_flow.get() >> 28 == 6
            && headers.next_header == ICMPV6
            && headers.hop_limit == HOP_LIMIT
            && headers.source_mac.is_station()
            && !address.is_multicast()
            && icmp.starts_with(&[ROUTER_SOLICITATION, 0])
            && headers.sum(icmp) == 0xffff
            && options_are_valid(icmp.get(8..)?, address.is_unspecified());
        valid.then_some(Self { mac: headers.source_mac, address })
    }

    /// The answer, to this machine alone.
    fn advertisement(&self, ours: Mac) -> Advertisement {
        let to = if self.address.is_unspecified() { ALL_NODES } else { self.address };
        let icmp_len = size_of::<Advertisement>() - size_of::<Headers>();
        let headers = Headers {
            destination_mac: self.mac,
            source_mac: ours,
            ether_type: ETHERTYPE_IPV6.into(),
            version_class_flow: (6 << 28).into(),
            payload_len: (icmp_len as u16).into(),
            next_header: ICMPV6,
            hop_limit: HOP_LIMIT,
            source: link_local(ours).octets(),
            destination: to.octets(),
        };
        let mut advertisement = Advertisement {
            headers,
            icmp_type: ROUTER_ADVERTISEMENT,
            code: 0,
            checksum: 0.into(),
            cur_hop_limit: 0,
            flags: 0,
            router_lifetime: 0.into(),
            reachable_time: 0.into(),
            retrans_timer: 0.into(),
            option_type: SOURCE_LINK_LAYER_ADDRESS,
            option_len: 1,
            option_mac: ours,
        };
        let icmp = advertisement.as_bytes().get(size_of::<Headers>()..).unwrap_or_default();
        advertisement.checksum = (!headers.sum(icmp)).into();
        advertisement
    }
}

impl Headers {
    /// The one's complement sum over the pseudo-header and the payload (RFC 8200 §8.1): 0xffff if its
    /// checksum is right.
    fn sum(&self, payload: &[u8]) -> u16 {
        let words = |bytes: &[u8]| -> u64 {
            bytes
                .chunks(2)
                .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)))
                .sum()
        };
        let pseudo = words(&self.source)
            + words(&self.destination)
            + payload.len() as u64
            + u64::from(self.next_header);
        let mut sum = pseudo + words(payload);
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        sum as u16
    }
}

/// No option of length 0, none that reaches past the end, and no sender's MAC from a sender without address.
fn options_are_valid(mut options: &[u8], from_unspecified: bool) -> bool {
    while let [kind, eights, ..] = *options {
        if eights == 0 || (from_unspecified && kind == SOURCE_LINK_LAYER_ADDRESS) {
            return false;
        }
        match options.get(usize::from(eights) * 8..) {
            Some(rest) => options = rest,
            None => return false,
        }
    }
    options.is_empty()
}

/// fe80::/64 with the interface identifier of RFC 4291 appendix A.
fn link_local(Mac([a, b, c, d, e, f]): Mac) -> Ipv6Addr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

#[cfg(test)]
mod tests;
