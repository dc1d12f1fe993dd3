//! UDP on one interface, with the destination address of what comes in and the source address of what goes out.
//!
//! A socket belongs to one interface (`SO_BINDTODEVICE` before `bind`), so two interfaces of xpxe can have
//! port 67 each. It is never shared: without `SO_REUSEADDR` and `SO_REUSEPORT` the kernel refuses the port
//! when another server has it on this interface or on all, and refuses it to a server that comes later.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, cmsg_space, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;

use super::link::Link;

/// Room for the first packets of some 3,000 machines that are powered on at once; the usual 208 KiB hold 160.
const RECEIVE_BUFFER: usize = 4 << 20;

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
    /// The destination address in its IP header, which may be a broadcast or multicast address.
    pub to: Ipv4Addr,
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
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).map_err(|e| failed(Step::Open)(e.into()))?;
        enlarge_receive_buffer(&socket);
        socket.bind_device(Some(link.name.as_bytes())).map_err(failed(Step::BindToDevice))?;
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        socket.bind(&any.into()).map_err(failed(Step::Bind))?;
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

fn enlarge_receive_buffer(socket: &Socket) {
    // Going past net.core.rmem_max needs CAP_NET_ADMIN; a smaller buffer still works.
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err()
        && let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER)
    {
        tracing::debug!(%error, "the receive buffer stays at its default size");
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
    #[error("port {port} on {link} is already in use{}: {}", by(owners), way_out(*port))]
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
            (Some(libc::ENODEV), _) => Self::NoInterface { port, link: name },
            _ => Self::Other { port, link: name, source },
        }
    }
}

fn way_out(port: u16) -> &'static str {
    match port {
        // A proxy needs the port as well: it answers the same broadcasts.
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

fn by(owners: &[Owner]) -> String {
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
mod tests {
    use super::super::link::{find, lab};
    use super::*;

    fn in_runtime<F: Future>(test: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    fn foreign_socket(device: Option<&str>, share: bool, port: u16) -> Socket {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.set_reuse_address(share).unwrap();
        socket.set_reuse_port(share).unwrap();
        socket.bind_device(device.map(str::as_bytes)).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).unwrap();
        socket
    }

    #[test]
    #[ignore = "needs root for a network namespace"]
    fn two_interfaces_have_one_port_each_and_share_with_nobody() {
        lab::in_namespace(lab::PAIR, || {
            in_runtime(async {
                let (a, b) = (find("srv0").unwrap(), find("cli0").unwrap());
                let first = UdpSocket::bind(&a, 67).unwrap();
                let second = UdpSocket::bind(&b, 67).unwrap();
                assert!(matches!(UdpSocket::bind(&a, 67), Err(BindError::InUse { port: 67, .. })));
                let late = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
                late.set_reuse_address(true).unwrap();
                late.set_reuse_port(true).unwrap();
                assert!(late.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 67)).into()).is_err());
                drop((first, second));

                for (device, share, free) in [
                    (None, false, false),
                    (None, true, false),
                    (Some("srv0"), true, false),
                    (Some("cli0"), true, true),
                ] {
                    let other = foreign_socket(device, share, 67);
                    assert_eq!(UdpSocket::bind(&a, 67).is_ok(), free, "{device:?} {share}");
                    drop(other);
                }
            });
        });
    }

    #[test]
    #[ignore = "needs root for a network namespace, and dnsmasq"]
    fn names_the_server_that_has_the_port() {
        lab::in_namespace(lab::PAIR, || {
            in_runtime(async {
                let mut dnsmasq = std::process::Command::new("dnsmasq")
                    .args(
                        "--keep-in-foreground --conf-file=/dev/null --port=0 --pid-file= --leasefile-ro"
                            .split(' '),
                    )
                    .args(["--dhcp-range=10.9.0.10,10.9.0.20", "--interface=cli0"])
                    .spawn()
                    .unwrap();
                for _ in 0..200 {
                    let table = fs::read_to_string("/proc/thread-self/net/udp").unwrap();
                    if !sockets_on(67, &table).is_empty() {
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                let said = UdpSocket::bind(&find("srv0").unwrap(), 67).unwrap_err().to_string();
                dnsmasq.kill().unwrap();
                let expected = format!(
                    "port 67 on srv0 is already in use (by dnsmasq, pid {}): stop that server, or set dhcp = \"off\" \
                     for this interface and let it do DHCP alone",
                    dnsmasq.id()
                );
                dnsmasq.wait().unwrap();
                assert_eq!(said, expected);
            });
        });
    }

    #[test]
    #[ignore = "needs root to lose it"]
    fn names_the_missing_capability() {
        // Only a child without capabilities can show it: setpriv(1) runs this same test binary.
        if std::env::var_os("XPXE_NO_CAPS").is_some() {
            let link =
                Link { index: 1, name: "lo".into(), mac: Default::default(), addresses: vec![], mtu: 65536 };
            let error = in_runtime(async { UdpSocket::bind(&link, 67) }).unwrap_err().to_string();
            let expected = "opening port 67 needs the capability CAP_NET_BIND_SERVICE: run as root or through the systemd unit";
            assert_eq!(error, expected);
            return;
        }
        let done = std::process::Command::new("setpriv")
            .args(["--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--clear-groups"])
            .arg(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "io::udp::tests::names_the_missing_capability"])
            .env("XPXE_NO_CAPS", "1")
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    }

    #[test]
    #[ignore = "needs root for a network namespace"]
    fn broadcasts_leave_and_arrive_on_the_one_interface() {
        lab::in_namespace(lab::PAIR, || {
            // Both ends are ours here, which the kernel otherwise takes for spoofing.
            fs::write("/proc/sys/net/ipv4/conf/srv0/accept_local", "1").unwrap();
            in_runtime(async {
                let server = UdpSocket::bind(&find("srv0").unwrap(), 67).unwrap();
                let peer = UdpSocket::bind(&find("cli0").unwrap(), 68).unwrap();
                let mut buf = [0; 1500];
                for to in [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 9, 0, 255)] {
                    peer.try_send(b"hello", SocketAddrV4::new(to, 67), [10, 9, 0, 2].into()).unwrap();
                    let got = server.recv(&mut buf).await.unwrap();
                    assert_eq!((got.len, got.wire_len, got.to), (5, 5, to));
                    assert_eq!(got.from, SocketAddrV4::new([10, 9, 0, 2].into(), 68));
                }
            });
        });
    }

    #[test]
    #[ignore = "needs root for a network namespace"]
    fn loopback_round_trip_and_hostile_peers() {
        lab::in_namespace(&["link set lo up", "address add 10.9.0.1/32 dev lo"], || {
            in_runtime(async {
                let link = find("lo").unwrap();
                let server = UdpSocket::bind(&link, 69).unwrap();
                let peer = UdpSocket::bind(&link, 5000).unwrap();
                let mut buf = [0; 3];
                assert_eq!(server.try_recv(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
                for to in [[10, 9, 0, 1], [127, 0, 0, 1], [127, 255, 255, 255]] {
                    peer.try_send(b"hello", SocketAddrV4::new(to.into(), 69), [127, 0, 0, 1].into()).unwrap();
                    server.readable().await.unwrap();
                    let got = server.try_recv(&mut buf).unwrap();
                    assert_eq!((got.len, got.wire_len, got.is_truncated()), (3, 5, true));
                    assert_eq!(got.to, Ipv4Addr::from(to));
                    assert_eq!(got.from, SocketAddrV4::new([127, 0, 0, 1].into(), 5000));
                    assert_eq!(&buf, b"hel");
                }
                server
                    .try_send(b"from", SocketAddrV4::new([127, 0, 0, 1].into(), 5000), [10, 9, 0, 1].into())
                    .unwrap();
                assert_eq!(
                    peer.recv(&mut [0; 100]).await.unwrap().from,
                    SocketAddrV4::new([10, 9, 0, 1].into(), 69)
                );
                server
                    .try_send(b"", SocketAddrV4::new([127, 0, 0, 1].into(), 5000), Ipv4Addr::UNSPECIFIED)
                    .unwrap();
                assert_eq!(peer.recv(&mut [0; 100]).await.unwrap().len, 0);

                for (to, from) in [
                    (SocketAddrV4::new([127, 0, 0, 1].into(), 0), [127, 0, 0, 1]),
                    (SocketAddrV4::new([127, 0, 0, 1].into(), 1), [192, 0, 2, 1]),
                ] {
                    assert!(server.try_send(b"x", to, from.into()).is_err(), "{to}");
                }
                let too_long = vec![0; 70_000];
                assert!(
                    server
                        .try_send(
                            &too_long,
                            SocketAddrV4::new([127, 0, 0, 1].into(), 1),
                            [127, 0, 0, 1].into()
                        )
                        .is_err()
                );
            });
        });
    }

    #[test]
    fn reads_the_kernels_socket_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20 67: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0\n\
            \x20 68: 0100007F:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0 0\n\
            \x20 67: 0100007F:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 0 2 0 0\n\
            \x20 cut";
        assert_eq!(sockets_on(67, table), ["socket:[4711]"]);
        assert!(sockets_on(67, "").is_empty());
    }
}
