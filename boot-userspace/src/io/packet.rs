//! Sends ready Ethernet frames, to machines that have no address yet and so cannot be reached through ARP.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::bind;
use socket2::{Domain, Socket, Type};

use crate::host::link::{self, Link};

/// A packet socket that only sends.
#[derive(Debug)]
pub struct FrameSocket {
    socket: Socket,
}

impl FrameSocket {
    /// Opens the socket on one interface.
    pub fn open(link: &Link) -> io::Result<Self> {
        // Protocol 0 receives nothing (packet(7)), so no queue fills up behind a socket nobody reads.
        let socket = open(link, 0)?;
        Ok(Self { socket })
    }

    /// Sends one frame, Ethernet header included. Never waits: with a full queue it is `WouldBlock`.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send(frame) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent.map(drop),
            }
        }
    }
}

/// A non-blocking packet socket for frames of one EtherType on one interface.
pub(crate) fn open(link: &Link, ether_type: u16) -> io::Result<Socket> {
    let explain = |error: io::Error| {
        let message = match error.kind() {
            io::ErrorKind::PermissionDenied => format!(
                "opening a packet socket on {} needs the capability CAP_NET_RAW: run as root or through the systemd unit",
                link.name
            ),
            _ => format!("cannot open a packet socket on {}: {error}", link.name),
        };
        io::Error::new(error.kind(), message)
    };
    let protocol = i32::from(ether_type.to_be()).into();
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).map_err(explain)?;
    socket.set_nonblocking(true).map_err(explain)?;
    // Protocol 0 in the address keeps the socket's own (packet(7)).
    let address = link::packet_address(link)?;
    bind(socket.as_raw_fd(), &address).map_err(|error| explain(error.into()))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::host::link::{find, lab};

    #[test]
    #[ignore = "needs root for a network namespace"]
    fn a_frame_reaches_the_other_end_and_nothing_comes_back() {
        lab::in_namespace(lab::PAIR, || {
            let sender = FrameSocket::open(&find("srv0").unwrap()).unwrap();
            const EXPERIMENTAL: u16 = 0x88b5; // IEEE 802 local experimental EtherType
            let mut receiver = open(&find("cli0").unwrap(), EXPERIMENTAL).unwrap();
            let answerer = FrameSocket::open(&find("cli0").unwrap()).unwrap();
            let mut frame = [0; 60];
            frame[..6].fill(0xff);
            frame[6..14].copy_from_slice(&[2, 0, 0, 0, 0, 10, 0x88, 0xb5]);
            sender.send(&frame).unwrap();
            answerer.send(&frame).unwrap();
            let mut got = [0; 100];
            assert_eq!(receiver.read(&mut got).unwrap(), 60);
            assert_eq!(got[..60], frame);
            let nothing = (&sender.socket).read(&mut got).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
            assert!(sender.send(&[0; 5]).is_err(), "shorter than an Ethernet header");
        });
    }
}
