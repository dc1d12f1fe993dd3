//! UDP on one interface, with the destination address of what comes in and the source address of what goes out.
//!
//! A socket belongs to one interface (`SO_BINDTODEVICE` before `bind`), so two interfaces of xpxe can have
//! port 67 each. It is never shared: without `SO_REUSEADDR` and `SO_REUSEPORT` the kernel refuses the port
//! when another server has it on this interface or on all, and refuses it to a server that comes later. (A proxy
//! whose port 67 is another server's goes without: [`snoop`](super::snoop).)

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;

use boot_common::Mac;
use boot_common::wire::port::DHCP_SERVER;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, cmsg_space, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;

use crate::host::descriptors;
use crate::host::link::Link;
use crate::host::socket::{enlarge_receive_buffer, enlarge_send_buffer};

/// Room for the first packets of some 48,000 machines that are powered on at once, which take memory only while they
/// wait; the usual 208 KiB hold 160.
pub(super) const RECEIVE_BUFFER: usize = 64 << 20;
/// Of the other ports, where fewer come at once.
const SMALLER_BUFFER: usize = 4 << 20;
/// What waits for the ARP answer of a host that is not there stays in the buffer for three seconds, up to 208 KiB for
/// each such host, and would otherwise take the room of what goes to all others.
const SEND_BUFFER: usize = 32 << 20;

/// A UDP socket on one interface.
#[derive(Debug)]
pub struct UdpSocket {
    socket: tokio::net::UdpSocket,
    link_index: i32,
}

/// One datagram that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// How many bytes of the buffer it fills.
    pub len: usize,
    /// How long it was on the wire: more than `len` if the buffer was too short for it.
    pub wire_len: usize,
    /// Who sent it. The port may be 0.
    pub from: SocketAddrV4,
    /// The destination address in its IP header, which may be a broadcast address.
    pub to: Ipv4Addr,
    /// The station whose frame it came in, where frames are heard.
    pub station: Option<Mac>,
}

impl Received {
    /// True if the buffer was too short and the end of the datagram is lost.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.len < self.wire_len
    }
}

impl UdpSocket {
    /// Opens `port` on all addresses of `link`. Must be called inside a tokio runtime.
    pub fn bind(link: &Link, port: u16) -> Result<Self, BindError> {
        let failed = |step: Step| move |error: io::Error| BindError::new(link, port, step, error);
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).map_err(failed(Step::Open))?;
        socket.set_nonblocking(true).map_err(failed(Step::Open))?;
        socket.set_broadcast(true).map_err(failed(Step::Open))?;
        // Without this it hears every group that anybody on this host is in, and that of all hosts, as if it were for us.
        socket.set_multicast_all_v4(false).map_err(failed(Step::Open))?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).map_err(|e| failed(Step::Open)(e.into()))?;
        let buffer = if port == DHCP_SERVER { RECEIVE_BUFFER } else { SMALLER_BUFFER };
        enlarge_receive_buffer(&socket, buffer);
        enlarge_send_buffer(&socket, SEND_BUFFER);
        socket.bind_device(Some(link.name.as_bytes())).map_err(failed(Step::BindToDevice))?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).map_err(failed(Step::Bind))?;
        let socket = tokio::net::UdpSocket::from_std(socket.into()).map_err(failed(Step::Open))?;
        Ok(Self { socket, link_index: i32::try_from(link.index).unwrap_or_default() })
    }

    /// Waits for a datagram. Dropping the future loses nothing.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<Received> {
        self.socket.async_io(Interest::READABLE, || receive(&self.socket, buf)).await
    }

    /// Takes a datagram if one is there, else `WouldBlock`. Comes after [`readable`](Self::readable).
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<Received> {
        self.socket.try_io(Interest::READABLE, || receive(&self.socket, buf))
    }

    /// Waits until a datagram may be there.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Sends a datagram out of this interface, from `source` (one of ours, or 0.0.0.0 for the kernel's choice).
    ///
    /// Never waits: with a full queue it is `WouldBlock`, and the datagram counts as lost on the wire.
    /// `to` may be whatever a peer chose; what cannot be sent to (port 0, no route) is an error.
    pub fn try_send(&self, bytes: &[u8], to: SocketAddrV4, source: Ipv4Addr) -> io::Result<()> {
        let from = libc::in_pktinfo {
            ipi_ifindex: self.link_index,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from(source).to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let parts = [IoSlice::new(bytes)];
        let control = [ControlMessage::Ipv4PacketInfo(&from)];
        let to = SockaddrIn::from(to);
        let fd = self.socket.as_raw_fd();
        retry_interrupted(|| sendmsg(fd, &parts, &control, MsgFlags::empty(), Some(&to)))?;
        Ok(())
    }
}

/// Aligned as `struct cmsghdr` wants it.
#[repr(align(8))]
struct ControlBuffer([u8; cmsg_space::<libc::in_pktinfo>()]);

fn receive(socket: &impl AsRawFd, buf: &mut [u8]) -> io::Result<Received> {
    let room = buf.len();
    let mut control = ControlBuffer([0; cmsg_space::<libc::in_pktinfo>()]);
    let mut parts = [IoSliceMut::new(buf)];
    // With MSG_TRUNC the kernel returns the datagram's whole length.
    let flags = MsgFlags::MSG_TRUNC;
    let fd = socket.as_raw_fd();
    let message = loop {
        match recvmsg::<SockaddrIn>(fd, &mut parts, Some(&mut control.0), flags) {
            Err(Errno::EINTR) => {}
            received => break received?,
        }
    };
    let from = message.address.map_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), SocketAddrV4::from);
    let to = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))),
        _ => None,
    });
    Ok(Received {
        len: message.bytes.min(room),
        wire_len: message.bytes,
        from,
        to: to.unwrap_or(Ipv4Addr::UNSPECIFIED),
        station: None,
    })
}

fn retry_interrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return done.map_err(io::Error::from),
        }
    }
}

/// Why a port could not be opened, in one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another socket has the port.
    #[error("port {port} on {link} is already in use{}: {}", owned_by(owners), way_out(*port))]
    InUse {
        /// The port.
        port: u16,
        /// The interface's name.
        link: String,
        /// Who has the port, as far as `/proc` tells.
        owners: Vec<Owner>,
    },
    /// The process lacks a capability.
    #[error("opening port {port} needs the capability {capability}: run as root or through the systemd unit")]
    NotPermitted {
        /// The port.
        port: u16,
        /// The name of the capability.
        capability: &'static str,
    },
    /// The interface was removed after it had been looked up.
    #[error("cannot open port {port}: the interface {link} is gone")]
    NoInterface {
        /// The port.
        port: u16,
        /// The interface's name.
        link: String,
    },
    /// The process has as many sockets and files open as it may.
    #[error("cannot open another port on {link}: {source}; {}", descriptors::REMEDY)]
    TooMany {
        /// The interface's name.
        link: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Anything else the kernel said.
    #[error("cannot open port {port} on {link}: {source}")]
    Other {
        /// The port.
        port: u16,
        /// The interface's name.
        link: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

#[derive(Clone, Copy)]
enum Step {
    Open,
    BindToDevice,
    Bind,
}

impl BindError {
    fn new(link: &Link, port: u16, step: Step, source: io::Error) -> Self {
        let name = link.name.clone();
        match (source.raw_os_error(), step) {
            (Some(libc::EADDRINUSE), _) => Self::InUse { port, link: name, owners: owners_of(port) },
            (Some(libc::EACCES | libc::EPERM), Step::BindToDevice) => {
                Self::NotPermitted { port, capability: "CAP_NET_RAW" }
            }
            (Some(libc::EACCES | libc::EPERM), _) => {
                Self::NotPermitted { port, capability: "CAP_NET_BIND_SERVICE" }
            }
            _ if descriptors::are_used_up(&source) => Self::TooMany { link: name, source },
            (Some(libc::ENODEV), _) => Self::NoInterface { port, link: name },
            _ => Self::Other { port, link: name, source },
        }
    }
}

fn way_out(port: u16) -> &'static str {
    match port {
        67 | 4011 => "stop that server, or set dhcp = \"off\" for this interface and let it do DHCP alone",
        69 => "stop that server (a TFTP server, or dnsmasq's enable-tftp)",
        _ => "stop that program",
    }
}

/// A process that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name, for example `dnsmasq`.
    pub name: String,
    /// Its process id.
    pub pid: u32,
}

/// The processes in parentheses, or that there is none to be seen; with a space before it.
pub(super) fn owned_by(owners: &[Owner]) -> String {
    match owners {
        [] => " by a process that is not visible from here".to_owned(),
        some => {
            let names: Vec<String> = some.iter().map(|o| format!("{}, pid {}", o.name, o.pid)).collect();
            format!(" (by {})", names.join("; or "))
        }
    }
}

/// The processes with a UDP socket on `port` in this network namespace.
///
/// The list is wide: it has also those that are bound to another interface, which `/proc` does not tell.
fn owners_of(port: u16) -> Vec<Owner> {
    // Not /proc/net: that is the main thread's namespace.
    let tables = ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"];
    let sockets: Vec<String> = tables
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| sockets_on(port, &table))
        .collect();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let (own, others): (Vec<Owner>, Vec<Owner>) = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| has_one_of(*pid, &sockets))
        .map(|pid| Owner { name: process_name(pid), pid })
        .partition(|owner| owner.pid == std::process::id());
    // Our own sockets are on other interfaces, unless nobody else has the port.
    if others.is_empty() { own } else { others }
}

/// The sockets on `port` in a table as in proc_net_udp(5), named as the links in `/proc/PID/fd` name them.
fn sockets_on(port: u16, table: &str) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split_ascii_whitespace();
            let local = columns.nth(1)?;
            let inode = columns.nth(7)?;
            (local.ends_with(&suffix) && inode != "0").then(|| format!("socket:[{inode}]"))
        })
        .collect()
}

fn has_one_of(pid: u32, sockets: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|target| target.to_str().is_some_and(|target| sockets.iter().any(|socket| socket == target)))
}

fn process_name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim_end().to_owned())
}

#[cfg(test)]
mod tests;
