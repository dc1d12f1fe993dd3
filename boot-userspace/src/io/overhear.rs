//! DHCP beside another server on this host, which has port 67.
//!
//! A proxy answers the same broadcasts as that server does. The port is one socket's, so the proxy hears them as
//! frames, beside the port: both get every one of them. Only a proxy may do that: two servers that give addresses are
//! never to answer the same machines.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};

use boot_common::wire::{IP_UDP, port};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::link::Link;
use super::packet;
use super::socket::filter::{
    LOAD_BYTE, LOAD_HALF, LOAD_HALF_BEHIND_X, LOAD_HEADER_LEN_TO_X, PACKET_TYPE, RETURN, instruction, jump,
    jump_any_bit,
};
use super::socket::{enlarge_receive_buffer, register};
use super::udp::{RECEIVE_BUFFER, Received};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERNET: usize = 14;
/// The More Fragments flag and the offset.
const FRAGMENT: u32 = 0x3fff;

/// Hears what is sent to port 67 on one interface, and answers from that port, without having it.
#[derive(Debug)]
pub struct Overhearing {
    frames: AsyncFd<Socket>,
    /// Sends packets with their own headers, by the kernel's routes.
    packets: Socket,
}

impl Overhearing {
    /// Opens both sockets. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub fn open(link: &Link) -> io::Result<Self> {
        let frames = packet::open(link, ETHERTYPE_IPV4)?;
        frames.attach_filter(&requests_only())?;
        enlarge_receive_buffer(&frames, RECEIVE_BUFFER);
        // What came before the filter was there; with it, nothing else comes.
        while (&frames).read(&mut [0; 1]).is_ok() {}
        let packets = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
        packets.set_nonblocking(true)?;
        packets.bind_device(Some(link.name.as_bytes()))?;
        Ok(Self { frames: register(frames)?, packets })
    }

    /// Waits for a datagram, and puts it at the beginning of `buf`. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<Received> {
        loop {
            let read = |mut socket: &Socket| socket.read(buf);
            let length = self.frames.async_io(Interest::READABLE, read).await?;
            if let Some((received, start)) = buf.get(..length).and_then(datagram) {
                buf.copy_within(start..start + received.len, 0);
                return Ok(received);
            }
        }
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

/// Classic BPF, so that no other traffic wakes the daemon: whole UDP datagrams to port 67.
fn requests_only() -> [SockFilter; 11] {
    const PROTOCOL: u32 = 14 + 9;
    const FLAGS: u32 = 14 + 6;
    const IP: u32 = 14;
    [
        instruction(LOAD_BYTE, PACKET_TYPE),
        // For another station (promiscuous mode), or of a VLAN that is not ours.
        jump(libc::PACKET_OTHERHOST.into(), 8, 0),
        instruction(LOAD_BYTE, PROTOCOL),
        jump(IP_UDP.into(), 0, 6),
        instruction(LOAD_HALF, FLAGS),
        jump_any_bit(FRAGMENT, 4, 0),
        instruction(LOAD_HEADER_LEN_TO_X, IP),
        instruction(LOAD_HALF_BEHIND_X, IP + 2),
        jump(port::DHCP_SERVER.into(), 0, 1),
        instruction(RETURN, u32::MAX),
        instruction(RETURN, 0),
    ]
}

/// What a frame carries, and where that begins in it. Its UDP checksum is not looked at: on a frame from this very
/// host it may not have been computed yet, and what is damaged gets an offer that nobody understands, at worst.
fn datagram(frame: &[u8]) -> Option<(Received, usize)> {
    let packet = frame.get(ETHERNET..)?;
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let address = |at: usize| -> Option<Ipv4Addr> {
        let octets: [u8; 4] = *packet.get(at..)?.first_chunk()?;
        Some(Ipv4Addr::from(octets))
    };
    let udp = packet.get(header..)?;
    let half = |at: usize| Some(u16::from_be_bytes(*udp.get(at..)?.first_chunk()?));
    let length = usize::from(half(4)?).checked_sub(8)?;
    udp.get(8..8 + length)?;
    let received = Received {
        len: length,
        wire_len: length,
        from: SocketAddrV4::new(address(12)?, half(0)?),
        to: address(16)?,
    };
    Some((received, ETHERNET + header + 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(options: &[u8], payload: &[u8], claimed: u16) -> Vec<u8> {
        let mut frame = vec![0xff; 12];
        frame.extend([0x08, 0x00, 0x45 + u8::try_from(options.len() / 4).unwrap(), 0]);
        frame.extend([0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
        frame.extend(options);
        frame.extend([0, 68, 0, 67]);
        frame.extend((claimed + 8).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn the_datagram_is_found_behind_its_headers() {
        for options in [&[][..], &[1; 8]] {
            let frame = frame(options, b"question and padding", 8);
            let (received, start) = datagram(&frame).unwrap();
            assert_eq!(&frame[start..start + received.len], b"question");
            assert_eq!(received.from, "0.0.0.0:68".parse().unwrap());
            assert_eq!(received.to, Ipv4Addr::BROADCAST);
        }
    }

    #[test]
    fn what_is_shorter_than_it_says_is_nothing() {
        assert!(datagram(&frame(&[], b"short", 6)).is_none());
        let whole = frame(&[], b"question", 8);
        for length in 0..whole.len() {
            assert!(datagram(&whole[..length]).is_none(), "{length}");
        }
        let mut lies = whole;
        lies[14 + 20 + 4..14 + 20 + 6].copy_from_slice(&[0, 7]);
        assert!(datagram(&lies).is_none());
    }
}
