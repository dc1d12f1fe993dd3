//! DHCP beside another server on this host, which has port 67.
//!
//! A proxy answers the same broadcasts as that server does. The port is one socket's, so the proxy hears them as
//! frames, beside the port: both get every one of them. Only a proxy may do that: two servers that give addresses are
//! never to answer the same machines.

use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use super::frames::{ETHERNET, Frames};
use crate::host::link::Link;

/// Hears what is sent to port 67 on one interface, and answers from that port, without having it.
#[derive(Debug)]
pub struct Snoop {
    /// What is heard.
    pub(super) frames: Arc<Frames>,
    /// Sends packets with their own headers, by the kernel's routes.
    packets: Socket,
}

impl Snoop {
    /// Opens both sockets. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub fn open(link: &Link) -> io::Result<Self> {
        let frames = Arc::new(Frames::all(link)?);
        let packets = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
        packets.set_nonblocking(true)?;
        packets.bind_device(Some(link.name.as_bytes()))?;
        Ok(Self { frames, packets })
    }

    /// Sends an answer, which is a whole Ethernet frame, to where it is routed.
    ///
    /// # Errors
    /// As the kernel gives them; with a full queue it is `WouldBlock`.
    pub fn try_send(&self, frame: &[u8], to: SocketAddrV4) -> io::Result<()> {
        let packet = frame.get(ETHERNET..).unwrap_or_default();
        // A raw socket's address has no port.
        let to = SocketAddrV4::new(*to.ip(), 0);
        self.packets.send_to(packet, &to.into()).map(drop)
    }
}
