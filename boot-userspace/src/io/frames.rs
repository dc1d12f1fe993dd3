//! Requests to port 67 as Ethernet frames, beside the port: what a socket of the port does not hear.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};

use boot_common::Mac;
use boot_common::wire::{IP_UDP, port};
use socket2::{SockFilter, Socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::packet;
use super::udp::{RECEIVE_BUFFER, Received};
use crate::host::link::Link;
use crate::host::socket::filter::{
    LOAD_BYTE, LOAD_HALF, LOAD_HALF_BEHIND_X, LOAD_HEADER_LEN_TO_X, LOAD_WORD, PACKET_TYPE, RETURN,
    instruction, jump, jump_any_bit,
};
use crate::host::socket::{enlarge_receive_buffer, register};

const ETHERTYPE_IPV4: u16 = 0x0800;
/// Bytes of an Ethernet header.
pub(super) const ETHERNET: usize = 14;
/// Offsets in a frame.
const IP: u32 = 14;
const FLAGS: u32 = IP + 6;
const PROTOCOL: u32 = IP + 9;
const SOURCE: u32 = IP + 12;
const DESTINATION: u32 = IP + 16;
/// The More Fragments flag and the offset.
const FRAGMENT: u32 = 0x3fff;
/// What waits of requests from 0.0.0.0: few clients send any, and anybody can.
const SMALL_BUFFER: usize = 1 << 20;

/// Hears requests on one interface.
#[derive(Debug)]
pub(super) struct Frames {
    socket: AsyncFd<Socket>,
    /// The only destinations that count; any, when there are none.
    to: Vec<Ipv4Addr>,
}

impl Frames {
    /// Every request that arrives. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub(super) fn all(link: &Link) -> io::Result<Self> {
        Self::open(link, port::DHCP_SERVER, &[], RECEIVE_BUFFER, Vec::new())
    }

    /// What servers broadcast to clients. A socket of the port would not tell which station sent it. Must be called inside a
    /// tokio runtime.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub(super) fn of_other_servers(link: &Link) -> io::Result<Self> {
        let checks = [Check { load: (LOAD_WORD, DESTINATION), test: Test::Is(u32::MAX) }];
        Self::open(link, port::DHCP_CLIENT, &checks, SMALL_BUFFER, Vec::new())
    }

    /// Requests from 0.0.0.0 to an address of the interface: Linux drops a packet from there unless it goes to
    /// 255.255.255.255, and some clients renew their lease so. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub(super) fn from_nowhere(link: &Link) -> io::Result<Self> {
        let checks = [
            Check { load: (LOAD_WORD, SOURCE), test: Test::Is(0) },
            Check { load: (LOAD_WORD, DESTINATION), test: Test::IsNot(u32::MAX) },
        ];
        // The broadcast address of its network is dropped as well.
        let to = link.addresses.iter().flat_map(|net| [net.addr(), net.broadcast()]).collect();
        Self::open(link, port::DHCP_SERVER, &checks, SMALL_BUFFER, to)
    }

    fn open(link: &Link, port: u16, checks: &[Check], buffer: usize, to: Vec<Ipv4Addr>) -> io::Result<Self> {
        // Of this EtherType only: so it comes after the kernel half's TC program, which keeps what it answers.
        let socket = packet::open(link, ETHERTYPE_IPV4)?;
        socket.attach_filter(&datagrams(port, checks))?;
        enlarge_receive_buffer(&socket, buffer);
        // What came before the filter was there; with it, nothing else comes.
        while (&socket).read(&mut [0; 1]).is_ok() {}
        Ok(Self { socket: register(socket)?, to })
    }

    /// Waits for a datagram, and puts it at the beginning of `buf`. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub(super) async fn recv(&self, buf: &mut [u8]) -> io::Result<Received> {
        loop {
            let read = |mut socket: &Socket| socket.read(buf);
            let length = self.socket.async_io(Interest::READABLE, read).await?;
            if let Some((received, start)) = buf.get(..length).and_then(datagram)
                && (self.to.is_empty() || self.to.contains(&received.to))
            {
                buf.copy_within(start..start + received.len, 0);
                return Ok(received);
            }
        }
    }
}

/// One condition on a frame.
struct Check {
    /// What is looked at: instruction and operand.
    load: (u16, u32),
    test: Test,
}

enum Test {
    Is(u32),
    IsNot(u32),
    HasNoneOf(u32),
}

/// Classic BPF, so that no other traffic wakes the daemon: whole UDP datagrams to a port that pass `more`, too.
fn datagrams(port: u16, more: &[Check]) -> Vec<SockFilter> {
    let checks = [
        // For another station (promiscuous mode), or of a VLAN that is not ours.
        Check { load: (LOAD_BYTE, PACKET_TYPE), test: Test::IsNot(libc::PACKET_OTHERHOST.into()) },
        Check { load: (LOAD_BYTE, PROTOCOL), test: Test::Is(IP_UDP.into()) },
        Check { load: (LOAD_HALF, FLAGS), test: Test::HasNoneOf(FRAGMENT) },
        Check { load: (LOAD_HALF_BEHIND_X, IP + 2), test: Test::Is(port.into()) },
    ];
    let checks: Vec<&Check> = checks.iter().chain(more).collect();
    let mut program = vec![instruction(LOAD_HEADER_LEN_TO_X, IP)];
    for (position, Check { load: (code, operand), test }) in checks.iter().enumerate() {
        program.push(instruction(*code, *operand));
        // Over the checks that are left, and over the instruction that accepts.
        let away = u8::try_from((checks.len() - position - 1) * 2 + 1).unwrap_or(u8::MAX);
        program.push(match *test {
            Test::Is(value) => jump(value, 0, away),
            Test::IsNot(value) => jump(value, away, 0),
            Test::HasNoneOf(bits) => jump_any_bit(bits, away, 0),
        });
    }
    program.extend([instruction(RETURN, u32::MAX), instruction(RETURN, 0)]);
    program
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
        station: frame.get(6..12).and_then(|mac| mac.try_into().ok()).map(Mac),
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
            assert_eq!((received.to, received.station), (Ipv4Addr::BROADCAST, Some(Mac::BROADCAST)));
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
