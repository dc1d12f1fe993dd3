//! The sockets of an interface that speaks DHCP.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use boot_common::Mac;
use boot_common::wire::port;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, info};

use super::frames::Frames;
pub(crate) use super::packet::AT_ONCE;
use super::packet::FrameSocket;
use super::probe::Prober;
use super::snoop::Snoop;
use super::udp::{BindError, Received, UdpSocket, owned_by};
use crate::host::link::Link;
use boot_engine::command::Via;
use boot_engine::config::DhcpRole;
use boot_engine::dhcp::packet::payload;

/// All sockets of one interface.
pub struct Sockets {
    ifindex: u32,
    dhcp: Dhcp,
    pxe: Arc<UdpSocket>,
    /// What other servers broadcast to clients, where it can be heard.
    others: Option<Arc<Frames>>,
    frames: FrameSocket,
    prober: Arc<Prober>,
    /// Who listens to them.
    listeners: JoinSet<()>,
}

/// How requests to port 67 are heard.
enum Dhcp {
    /// The port is ours. What the stack does not give to it is heard beside it.
    Port(Arc<UdpSocket>, Arc<Frames>),
    /// It is another server's, which is named here, and we hear everything beside it.
    Beside(Snoop, String),
}

/// What a socket has heard.
pub(crate) struct Packet {
    pub(crate) ifindex: u32,
    pub(crate) port: u16,
    pub(crate) from: SocketAddrV4,
    pub(crate) to: Ipv4Addr,
    /// The station that sent it, where frames are heard.
    pub(crate) station: Option<Mac>,
    pub(crate) payload: Vec<u8>,
}

/// What is listened to.
enum Ear {
    Port(Arc<UdpSocket>),
    Frames(Arc<Frames>),
}

impl Sockets {
    /// Opens ports 67 and 4011, and the packet sockets for clients without an address. A proxy does without port 67
    /// where another server on this host has it.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub fn open(link: &Link, role: DhcpRole) -> Result<Self, BindError> {
        let other = |source| BindError::Other { port: port::DHCP_SERVER, link: link.name.clone(), source };
        let dhcp = match UdpSocket::bind(link, port::DHCP_SERVER) {
            Ok(socket) => Dhcp::Port(Arc::new(socket), Arc::new(Frames::from_nowhere(link).map_err(other)?)),
            Err(BindError::InUse { owners, .. }) if role == DhcpRole::Proxy => {
                Dhcp::Beside(Snoop::open(link).map_err(other)?, owned_by(&owners))
            }
            Err(error) => return Err(error),
        };
        let pxe = Arc::new(UdpSocket::bind(link, port::PXE)?);
        let frames = FrameSocket::open(link).map_err(other)?;
        let prober = Arc::new(Prober::open(link).map_err(other)?);
        let others = (role != DhcpRole::Off).then(|| Frames::of_other_servers(link));
        let others = others.and_then(|others| match others {
            Ok(others) => Some(Arc::new(others)),
            Err(failure) => {
                debug!("{}: answers of other DHCP servers are not heard: {failure}", link.name);
                None
            }
        });
        Ok(Self { ifindex: link.index, dhcp, pxe, others, frames, prober, listeners: JoinSet::new() })
    }

    /// The interface's number.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Whether another server on this host has port 67. It must hear every request, so the kernel half must answer
    /// none of them: to it we have no role there.
    #[must_use]
    pub fn is_beside(&self) -> bool {
        matches!(self.dhcp, Dhcp::Beside(..))
    }

    /// Logs which other server has port 67, if one has it.
    pub fn say_beside(&self, interface: &str) {
        if let Dhcp::Beside(_, by) = &self.dhcp {
            info!(
                interface,
                "{interface}: port 67 is already in use{by}: the proxy hears the same requests beside it"
            );
        }
    }

    /// Who asks whether an address is in use.
    pub(crate) fn prober(&self) -> Arc<Prober> {
        Arc::clone(&self.prober)
    }

    /// Passes on from now on what is heard.
    pub(crate) fn listen(&mut self, sender: &mpsc::Sender<Packet>) {
        let mut ears = vec![(Ear::Port(Arc::clone(&self.pxe)), port::PXE)];
        ears.extend(self.others.clone().map(|others| (Ear::Frames(others), port::DHCP_CLIENT)));
        match &self.dhcp {
            Dhcp::Port(socket, frames) => {
                ears.push((Ear::Port(Arc::clone(socket)), port::DHCP_SERVER));
                ears.push((Ear::Frames(Arc::clone(frames)), port::DHCP_SERVER));
            }
            Dhcp::Beside(beside, _) => {
                ears.push((Ear::Frames(Arc::clone(&beside.frames)), port::DHCP_SERVER));
            }
        }
        self.listeners = JoinSet::new();
        for (ear, port) in ears {
            self.listeners.spawn(receive(ear, self.ifindex, port, sender.clone()));
        }
    }

    /// The same ports where the interface has other addresses. Nobody listens to them yet.
    pub(crate) fn with_addresses_of(self, link: &Link) -> io::Result<Self> {
        let dhcp = match self.dhcp {
            Dhcp::Port(socket, _) => Dhcp::Port(socket, Arc::new(Frames::from_nowhere(link)?)),
            beside @ Dhcp::Beside(..) => beside,
        };
        let (frames, prober) = (FrameSocket::open(link)?, Arc::new(Prober::open(link)?));
        Ok(Self { dhcp, frames, prober, listeners: JoinSet::new(), ..self })
    }

    /// Sends answers that leave as frames, at most [`AT_ONCE`], and says of each whether it has left.
    pub(crate) fn send_frames(&self, frames: &[&[u8]]) -> Vec<io::Result<()>> {
        self.frames.send_all(frames)
    }

    /// Sends an answer, which is a whole Ethernet frame.
    pub(crate) fn send(&self, frame: &[u8], via: Via) -> io::Result<()> {
        match via {
            Via::Frame => self.frames.send(frame),
            Via::Socket { to, source, port: port::PXE } => self.pxe.try_send(payload(frame), to, source),
            Via::Socket { to, source, .. } => match &self.dhcp {
                Dhcp::Port(socket, _) => socket.try_send(payload(frame), to, source),
                Dhcp::Beside(beside, _) => beside.try_send(frame, to),
            },
        }
    }
}

async fn receive(ear: Ear, ifindex: u32, port: u16, to: mpsc::Sender<Packet>) {
    let mut buffer = vec![0; 65_536];
    loop {
        let received = match &ear {
            Ear::Port(socket) => socket.recv(&mut buffer).await,
            Ear::Frames(frames) => frames.recv(&mut buffer).await,
        };
        match received {
            Ok(received) => {
                let payload = buffer.get(..received.len).unwrap_or_default().to_vec();
                let Received { from, to: destination, station, .. } = received;
                let packet = Packet { ifindex, port, from, to: destination, station, payload };
                if to.send(packet).await.is_err() {
                    return;
                }
            }
            // The interface went down, for example: it comes back.
            Err(failure) => {
                debug!("receiving on port {port}: {failure}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
