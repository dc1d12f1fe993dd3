//! A port for each transfer, as RFC 1350 section 4 has it.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::LONGEST_PACKET;
use crate::host::link::Link;
use crate::io::udp::{BindError, UdpSocket};
use boot_engine::tftp::Peer;

/// Datagrams that wait to be looked at; more stay in the sockets' buffers.
const WAITING: usize = 1024;
/// So long a socket that gives errors only is left alone between two attempts.
const PAUSE: Duration = Duration::from_millis(10);
/// ERROR 5, "unknown transfer ID".
const UNKNOWN_PORT: &[u8] = b"\0\x05\0\x05this port is another transfer's\0";

/// The transfers' own ports.
pub(super) struct Ports {
    link: Link,
    open: HashMap<Peer, Port>,
    datagrams: (mpsc::Sender<Datagram>, mpsc::Receiver<Datagram>),
}

/// What a transfer's client sent to its port.
pub(super) struct Datagram {
    pub(super) peer: Peer,
    pub(super) bytes: Vec<u8>,
}

struct Port {
    socket: Arc<UdpSocket>,
    listener: JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Ports {
    pub(super) fn new(link: Link) -> Self {
        Self { link, open: HashMap::new(), datagrams: mpsc::channel(WAITING) }
    }

    /// Gives a transfer a port of its own.
    pub(super) fn open(&mut self, peer: Peer) -> Result<(), BindError> {
        let socket = Arc::new(UdpSocket::bind(&self.link, 0)?);
        let listener = tokio::spawn(listen(Arc::clone(&socket), peer, self.datagrams.0.clone()));
        self.open.insert(peer, Port { socket, listener });
        Ok(())
    }

    pub(super) fn close(&mut self, peer: Peer) {
        self.open.remove(&peer);
    }

    /// True if the transfer has a port of its own.
    pub(super) fn has(&self, peer: Peer) -> bool {
        self.open.contains_key(&peer)
    }

    pub(super) fn socket(&self, peer: Peer) -> Option<&UdpSocket> {
        self.open.get(&peer).map(|port| &*port.socket)
    }

    pub(super) async fn next(&mut self) -> Option<Datagram> {
        self.datagrams.1.recv().await
    }
}

/// Passes on what the client sends; others are told that the port is not theirs, and disturb nothing.
async fn listen(socket: Arc<UdpSocket>, peer: Peer, to: mpsc::Sender<Datagram>) {
    let mut packet = [0; LONGEST_PACKET];
    loop {
        match socket.recv(&mut packet).await {
            Ok(received) if received.from == peer.client => {
                let bytes = packet.get(..received.len).unwrap_or_default().to_vec();
                if to.send(Datagram { peer, bytes }).await.is_err() {
                    return;
                }
            }
            // An ERROR is never answered (RFC 1350 section 2).
            Ok(received) if !packet.starts_with(&[0, 5]) && is_station(received.from) => {
                if let Err(error) = socket.try_send(UNKNOWN_PORT, received.from, peer.local) {
                    tracing::debug!(%error, "ERROR 5 not sent");
                }
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn is_station(from: SocketAddrV4) -> bool {
    let ip = from.ip();
    from.port() != 0 && !ip.is_broadcast() && !ip.is_multicast() && !ip.is_unspecified() && !ip.is_loopback()
}
