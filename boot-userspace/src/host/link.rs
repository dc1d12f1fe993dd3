//! The network interfaces of this network namespace.
//!
//! Everything here asks the kernel through sockets, because `/sys/class/net` may show the interfaces of
//! another network namespace than the one this process is in.

use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use boot_common::Mac;
use ipnet::Ipv4Net;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{LinkAddr, NetlinkAddr, SockaddrIn, SockaddrStorage, bind};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::socket::register;

/// What xpxe needs to know of an Ethernet interface it serves on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for the interface.
    pub index: u32,
    /// The interface's name, for example `eth1`.
    pub name: String,
    /// The interface's own Ethernet address.
    pub mac: Mac,
    /// Its IPv4 addresses, never empty, in the kernel's order: the primary address comes first.
    pub addresses: Vec<Ipv4Net>,
    /// The largest IP packet it sends.
    pub mtu: u32,
}

/// Looks an interface up by name. Every error is one sentence that says what to do.
pub fn find(name: &str) -> io::Result<Link> {
    let entries: Vec<InterfaceAddress> = getifaddrs()?.collect();
    // The kernel lists every interface once, with its hardware address if it has one, before any IP address.
    let Some(entry) = entries.iter().find(|e| e.interface_name == name) else {
        return Err(io::Error::new(io::ErrorKind::NotFound, no_such_interface(name, &entries)));
    };
    let Some(hardware) = hardware_address(entry, name).filter(is_ethernet) else {
        return Err(unusable(format!("{name} is not an Ethernet interface: name one that is")));
    };
    if !entry.flags.contains(InterfaceFlags::IFF_UP) {
        return Err(unusable(format!("{name} is down: bring it up (ip link set {name} up)")));
    }
    let addresses: Vec<Ipv4Net> =
        entries.iter().filter(|e| belongs_to(e, name)).filter_map(ipv4_address).collect();
    if addresses.is_empty() {
        return Err(unusable(format!(
            "{name} has no IPv4 address: give it one (ip address add ADDRESS/PREFIX dev {name})"
        )));
    }
    let index = u32::try_from(hardware.ifindex()).map_err(io::Error::other)?;
    let mac = Mac(hardware.addr().unwrap_or_default());
    Ok(Link { index, name: name.to_owned(), mac, addresses, mtu: mtu(index)? })
}

/// Whether there is somebody at the other end of an interface's cable; an error if there is no such interface.
pub fn has_carrier(name: &str) -> io::Result<bool> {
    let entry = getifaddrs()?.find(|entry| entry.interface_name == name);
    let entry = entry.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{name} is gone")))?;
    Ok(entry.flags.contains(InterfaceFlags::IFF_RUNNING))
}

/// Every IPv4 address of this host, with its interface.
pub fn addresses() -> io::Result<Vec<(String, Ipv4Net)>> {
    let named = |entry: InterfaceAddress| {
        // Behind a colon stands an address's label.
        let name = entry.interface_name.split(':').next().unwrap_or_default();
        Some((name.to_owned(), ipv4_address(&entry)?))
    };
    Ok(getifaddrs()?.filter_map(named).collect())
}

/// What happens to interfaces and their IPv4 addresses, as rtnetlink(7) tells it.
pub struct Changes(AsyncFd<Socket>);

impl Changes {
    /// Begins to listen. Must be called inside a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        let kind = Some(Protocol::from(libc::NETLINK_ROUTE));
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, kind)?;
        socket.set_nonblocking(true)?;
        let groups = (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR) as u32;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self(register(socket)?))
    }

    /// Waits until something has happened. What exactly is to be looked up: messages may have been lost.
    pub async fn next(&mut self) -> io::Result<()> {
        let mut guard = self.0.readable_mut().await?;
        let mut message = [0; 64];
        loop {
            match guard.get_inner_mut().read(&mut message) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Too many at once, for example.
                Ok(_) | Err(_) => {}
            }
        }
        guard.clear_ready();
        Ok(())
    }
}

/// The packet-socket address of a link, with the protocol left at 0.
///
/// `getifaddrs` hands out a complete `sockaddr_ll`, which spares building one with unsafe code.
pub(crate) fn packet_address(link: &Link) -> io::Result<LinkAddr> {
    getifaddrs()?
        .filter_map(|entry| hardware_address(&entry, &link.name))
        .find(|address| u32::try_from(address.ifindex()) == Ok(link.index))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{} is gone", link.name)))
}

fn unusable(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn no_such_interface(name: &str, entries: &[InterfaceAddress]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for entry in entries {
        if !entry.interface_name.contains(':') && !names.contains(&entry.interface_name.as_str()) {
            names.push(&entry.interface_name);
        }
    }
    format!("there is no interface {name:?}: the interfaces here are {}", names.join(", "))
}

fn is_ethernet(hardware: &LinkAddr) -> bool {
    matches!(hardware.hatype(), libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK) && hardware.halen() == 6
}

fn hardware_address(entry: &InterfaceAddress, name: &str) -> Option<LinkAddr> {
    if entry.interface_name != name {
        return None;
    }
    entry.address.as_ref()?.as_link_addr().copied()
}

/// `getifaddrs` reports an address with a label (`eth1:0`) under the label, not under the interface.
fn belongs_to(entry: &InterfaceAddress, name: &str) -> bool {
    entry.interface_name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

fn ipv4_address(entry: &InterfaceAddress) -> Option<Ipv4Net> {
    let ip = |storage: Option<&SockaddrStorage>| storage?.as_sockaddr_in().map(SockaddrIn::ip);
    let address: Ipv4Addr = ip(entry.address.as_ref())?;
    let netmask = ip(entry.netmask.as_ref()).unwrap_or(Ipv4Addr::BROADCAST);
    Ipv4Net::with_netmask(address, netmask).ok()
}

/// True for one end of a veth pair.
pub fn is_veth(link: &Link) -> io::Result<bool> {
    let answer = ask(link.index)?;
    let kind = attributes(&answer)
        .and_then(|all| attribute(all, libc::IFLA_LINKINFO))
        .and_then(|information| attribute(information, libc::IFLA_INFO_KIND));
    // The kernel ends the name with a zero byte.
    Ok(kind.is_some_and(|kind| kind.strip_suffix(b"\0").unwrap_or(kind) == b"veth"))
}

/// The numbers of the XDP programs on an interface: one for each mode that has one.
pub fn xdp_programs(index: u32) -> io::Result<Vec<u32>> {
    let answer = ask(index)?;
    let Some(xdp) = attributes(&answer).and_then(|all| attribute(all, libc::IFLA_XDP)) else {
        return Ok(Vec::new());
    };
    let ids = [IFLA_XDP_DRV_PROG_ID, IFLA_XDP_SKB_PROG_ID, IFLA_XDP_HW_PROG_ID];
    Ok(ids.into_iter().filter_map(|mode| u32_in(xdp, mode)).filter(|id| *id != 0).collect())
}

/// Whether the other end of a veth runs a native XDP program, in whichever network namespace it is.
///
/// # Errors
/// Without the right to look into that network namespace.
pub fn peer_has_native_xdp(link: &Link) -> io::Result<bool> {
    let answer = ask(link.index)?;
    let unknown = || io::Error::other(format!("the kernel does not tell of the other end of {}", link.name));
    let all = attributes(&answer).ok_or_else(unknown)?;
    let peer = u32_in(all, libc::IFLA_LINK).ok_or_else(unknown)?;
    // Not there: the other end is in this network namespace.
    let netns = u32_in(all, libc::IFLA_LINK_NETNSID);
    if netns.is_some_and(|netns| i32::from_ne_bytes(netns.to_ne_bytes()) < 0) {
        return Err(unknown());
    }
    let answer = ask_in(peer, netns)?;
    let xdp = attributes(&answer).ok_or_else(unknown)?;
    let xdp = attribute(xdp, libc::IFLA_XDP);
    Ok(xdp.and_then(|xdp| u32_in(xdp, IFLA_XDP_DRV_PROG_ID)).is_some_and(|id| id != 0))
}

/// Inside of `IFLA_XDP` (linux/if_link.h).
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;

fn u32_in(attributes: &[u8], wanted: u16) -> Option<u32> {
    Some(u32::from_ne_bytes(*attribute(attributes, wanted)?.first_chunk()?))
}

fn mtu(index: u32) -> io::Result<u32> {
    mtu_in_answer(&ask(index)?)
        .ok_or_else(|| io::Error::other(format!("the kernel did not tell the MTU of interface {index}")))
}

/// Asks rtnetlink, whose messages can be written and read without unsafe code, unlike `ioctl`'s.
fn ask(index: u32) -> io::Result<Vec<u8>> {
    ask_in(index, None)
}

/// The same of an interface in another network namespace, by the number that the kernel has for it here.
fn ask_in(index: u32, netns: Option<u32>) -> io::Result<Vec<u8>> {
    let kind = Some(Protocol::from(libc::NETLINK_ROUTE));
    let mut socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, kind)?;
    let mut request = link_request(index).to_vec();
    if let Some(netns) = netns {
        request.extend(
            [&8_u16.to_ne_bytes()[..], &libc::IFLA_TARGET_NETNSID.to_ne_bytes(), &netns.to_ne_bytes()]
                .concat(),
        );
        let length = request.len() as u32;
        request[..4].copy_from_slice(&length.to_ne_bytes());
    }
    socket.send(&request)?;
    let mut answer = vec![0; 32 * 1024];
    let len = socket.read(&mut answer)?;
    answer.truncate(len);
    Ok(answer)
}

/// `struct nlmsghdr` and `struct ifinfomsg` of rtnetlink(7), both 16 bytes, in host byte order.
const HEADERS: usize = 32;

fn link_request(index: u32) -> [u8; HEADERS] {
    let mut request = [0; HEADERS];
    let fields: [(usize, &[u8]); 4] = [
        (0, &(HEADERS as u32).to_ne_bytes()),
        (4, &libc::RTM_GETLINK.to_ne_bytes()),
        (6, &(libc::NLM_F_REQUEST as u16).to_ne_bytes()),
        (20, &index.to_ne_bytes()),
    ];
    for (at, bytes) in fields {
        request[at..at + bytes.len()].copy_from_slice(bytes);
    }
    request
}

fn mtu_in_answer(answer: &[u8]) -> Option<u32> {
    let mtu = attribute(attributes(answer)?, libc::IFLA_MTU)?;
    Some(u32::from_ne_bytes(*mtu.first_chunk()?))
}

/// The attributes of an answer that describes an interface.
fn attributes(answer: &[u8]) -> Option<&[u8]> {
    if u16_at(answer, 4)? != libc::RTM_NEWLINK {
        return None;
    }
    answer.get(HEADERS..)
}

/// What the attribute of this type holds.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(u16_at(attributes, 0)?);
        if u16_at(attributes, 2)? == wanted {
            return attributes.get(4..len);
        }
        // A shorter attribute than its own header would never end this loop.
        attributes = attributes.get(len.max(4).next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A network namespace of its own for a test that needs interfaces.
#[cfg(test)]
pub(crate) mod lab {
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    /// Runs `test` on a thread in a fresh network namespace, after `ip` has run every line of `setup`.
    pub(crate) fn in_namespace<R: Send>(setup: &[&str], test: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
                for line in setup {
                    let done = Command::new("ip").args(line.split(' ')).status().expect("ip(8) is installed");
                    assert!(done.success(), "ip {line}");
                }
                test()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Two connected interfaces, `srv0` with 10.9.0.1/24 and `cli0` with 10.9.0.2/24.
    pub(crate) const PAIR: &[&str] = &[
        "link set lo up",
        "link add srv0 address 02:00:00:00:00:0a type veth peer name cli0 address 02:00:00:00:00:0b",
        "address add 10.9.0.1/24 dev srv0",
        "address add 10.9.0.2/24 dev cli0",
        "link set srv0 up",
        "link set cli0 up",
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs root for a network namespace"]
    fn finds_what_the_namespace_has() {
        let setup = [
            lab::PAIR,
            &["address add 172.16.5.1/12 dev srv0 label srv0:0", "link set srv0 mtu 1400"],
            &["tuntap add tap0 mode tap", "address add 10.8.0.1/24 dev tap0", "link set tap0 up"],
        ]
        .concat();
        lab::in_namespace(&setup, || {
            let link = find("srv0").unwrap();
            assert_eq!(link.mac, Mac([2, 0, 0, 0, 0, 10]));
            assert_eq!(link.addresses, ["10.9.0.1/24".parse().unwrap(), "172.16.5.1/12".parse().unwrap()]);
            assert_eq!((link.name.as_str(), link.mtu), ("srv0", 1400));
            assert_ne!(link.index, find("cli0").unwrap().index);
            assert!(is_veth(&link).unwrap());
            assert!(!is_veth(&find("tap0").unwrap()).unwrap());
            assert!(!is_veth(&find("lo").unwrap()).unwrap());
            assert_eq!(packet_address(&link).unwrap().protocol(), 0);
        });
    }

    #[test]
    #[ignore = "needs root for a network namespace"]
    fn says_in_one_sentence_what_is_wrong() {
        let setup =
            [lab::PAIR, &["address flush dev srv0", "link set cli0 down", "tuntap add tun0 mode tun"]]
                .concat();
        lab::in_namespace(&setup, || {
            let error = |name| find(name).unwrap_err().to_string();
            assert_eq!(
                error("eth9"),
                "there is no interface \"eth9\": the interfaces here are lo, cli0, srv0, tun0"
            );
            assert_eq!(
                error("srv0"),
                "srv0 has no IPv4 address: give it one (ip address add ADDRESS/PREFIX dev srv0)"
            );
            assert_eq!(error("cli0"), "cli0 is down: bring it up (ip link set cli0 up)");
            assert_eq!(error("tun0"), "tun0 is not an Ethernet interface: name one that is");
        });
    }

    #[test]
    fn a_cut_or_foreign_netlink_answer_is_no_mtu() {
        let mut answer = link_request(1).to_vec();
        answer[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
        answer.extend([0, 0, 0, 0]);
        answer.extend(
            [&8u16.to_ne_bytes()[..], &libc::IFLA_MTU.to_ne_bytes(), &1500u32.to_ne_bytes()].concat(),
        );
        assert_eq!(mtu_in_answer(&answer), Some(1500));
        for len in 0..answer.len() {
            assert_eq!(mtu_in_answer(&answer[..len]), None, "{len}");
        }
        assert_eq!(mtu_in_answer(&link_request(1)), None);
    }
}
