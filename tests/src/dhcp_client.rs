//! A DHCP client made of single frames: it sends exactly the message that a test wants, once, and checks the answer.
//!
//! [`Wire`] is a packet socket on an interface of a namespace: it receives every frame there, also those for other
//! stations, so one wire can play many machines. [`Client`] writes messages; [`Reply`] is an answer with the
//! verdict about its checksums. Nothing is ever sent twice: an answer is the answer to that one frame.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, OptionCode, UnknownOption};
use dhcproto::{Decodable, Encodable};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{LinkAddr, bind, setsockopt};
use socket2::{Domain, Socket, Type};

use crate::netns::Namespace;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Every station on the segment.
pub const BROADCAST: Mac = [0xff; 6];

const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;
const HEADERS: usize = ETHERNET + IP + UDP;
/// A BOOTP message is at least this long (RFC 1542 section 2.1).
const SHORTEST_MESSAGE: usize = 300;
/// An ACK waits for the disk, and the disk of a busy machine may take seconds to flush what others wrote.
const ANSWER: Duration = Duration::from_secs(30);

/// Reads `02:77:00:00:00:10`.
pub fn mac(text: &str) -> Result<Mac> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()
        .with_context(|| format!("{text} is not a MAC"))?;
    bytes.try_into().map_err(|_| anyhow::anyhow!("{text} is not a MAC"))
}

/// A packet socket on an interface.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
    own: Mac,
}

impl Wire {
    /// Opens it; it hears what arrives from now on.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        Self::open_for(namespace, interface, libc::ETH_P_ALL)
    }

    /// Opens it for IPv4 only, and with room for a storm of frames.
    pub fn open_for_ip(namespace: &Namespace, interface: &str) -> Result<Self> {
        let wire = Self::open_for(namespace, interface, libc::ETH_P_IP)?;
        setsockopt(&wire.socket, RcvBufForce, &(64 << 20))?;
        Ok(wire)
    }

    fn open_for(namespace: &Namespace, interface: &str, protocol: libc::c_int) -> Result<Self> {
        namespace.run(|| {
            let protocol = i32::from((protocol as u16).to_be()).into();
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
            let address: LinkAddr = getifaddrs()?
                .filter(|entry| entry.interface_name == interface)
                .find_map(|entry| entry.address?.as_link_addr().copied())
                .with_context(|| format!("no interface {interface}"))?;
            bind(socket.as_raw_fd(), &address)?;
            Ok(Self { socket, own: address.addr().unwrap_or_default() })
        })?
    }

    /// The interface's own address.
    pub fn mac(&self) -> Mac {
        self.own
    }

    /// Sends one Ethernet frame.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = (&self.socket).write(frame)?;
        ensure!(sent == frame.len(), "sent {sent} of {} bytes", frame.len());
        Ok(())
    }

    /// The first frame for which `wanted` returns a value, or `None` if none came in time. Frames that this interface
    /// sent are skipped.
    pub fn hear<T>(&self, within: Duration, wanted: impl Fn(&[u8]) -> Option<T>) -> Result<Option<T>> {
        let deadline = Instant::now() + within;
        let mut frame = [0; 2048];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            match (&self.socket).read(&mut frame) {
                Ok(length) => {
                    let frame = &frame[..length];
                    if frame.get(6..12) != Some(&self.own)
                        && let Some(found) = wanted(frame)
                    {
                        return Ok(Some(found));
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The first DHCP reply to one of these transactions.
    pub fn hear_reply(&self, xids: &[u32], within: Duration) -> Result<Option<Reply>> {
        self.hear(within, |frame| Reply::parse(frame).filter(|reply| xids.contains(&reply.message.xid())))
    }

    /// Broadcasts a message and returns the answer, if one comes in time.
    pub fn ask_within(&self, message: &Message, within: Duration) -> Result<Option<Reply>> {
        self.send(&broadcast(message)?)?;
        self.hear_reply(&[message.xid()], within)
    }

    /// Broadcasts a message that must be answered, with right checksums and by this type of message.
    pub fn ask(&self, message: &Message, expected: MessageType) -> Result<Reply> {
        let what = format!("{:?} from {:02x?}", message.opts().msg_type(), message.chaddr());
        let reply = self.ask_within(message, ANSWER)?;
        let reply = reply.with_context(|| format!("no answer to {what} within {ANSWER:?}"))?;
        ensure!(reply.kind() == Some(expected), "{what} is answered with {:?}", reply.kind());
        ensure!(reply.checksums_are_right, "wrong checksums in the answer to {what}: {:02x?}", reply.frame);
        Ok(reply)
    }

    /// DISCOVER, OFFER: gives the offer.
    pub fn discover(&self, client: &Client) -> Result<Reply> {
        self.ask(&client.discover(), MessageType::Offer)
    }

    /// DISCOVER, OFFER, REQUEST, ACK: gives the ACK.
    pub fn lease(&self, client: &Client) -> Result<Reply> {
        let offer = self.discover(client)?;
        self.ask(&client.request(&offer), MessageType::Ack)
    }
}

/// A machine that sends requests.
#[derive(Clone, Debug)]
pub struct Client {
    mac: Mac,
    broadcast: bool,
    options: Vec<(u8, Vec<u8>)>,
}

impl Client {
    /// An operating system's client: no options of its own, and answers sent to its MAC are fine.
    pub fn new(mac: Mac) -> Self {
        Self { mac, broadcast: false, options: Vec::new() }
    }

    /// The PXE client of firmware with this architecture (option 93), as EDK2 sends it: it asks for broadcasts.
    pub fn firmware(mac: Mac, arch: u16) -> Self {
        let kind = if matches!(arch, 15..=20 | 23 | 24 | 26 | 28 | 30 | 38 | 40) {
            "HTTPClient"
        } else {
            "PXEClient"
        };
        let vendor = format!("{kind}:Arch:{arch:05}:UNDI:003000");
        Self { mac, broadcast: true, options: Vec::new() }
            .with(60, vendor.as_bytes())
            .with(93, &arch.to_be_bytes())
            .with(94, &[1, 3, 0])
    }

    /// The message with one more option; an option with the same code is replaced.
    #[must_use]
    pub fn with(mut self, code: u8, value: &[u8]) -> Self {
        self.options.retain(|(other, _)| *other != code);
        self.options.push((code, value.to_vec()));
        self
    }

    /// Whether its parameter request list has this option.
    pub fn asks_for(&self, code: u8) -> bool {
        self.options.iter().any(|(number, value)| *number == 55 && value.contains(&code))
    }

    /// Its MAC.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// A message without a type.
    pub fn message(&self) -> Message {
        static NEXT: AtomicU32 = AtomicU32::new(0x7870_0000);
        let none = Ipv4Addr::UNSPECIFIED;
        let xid = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut message = Message::new_with_id(xid, none, none, none, none, &self.mac);
        if self.broadcast {
            message.set_flags(Flags::default().set_broadcast());
        }
        for (code, value) in &self.options {
            let option = UnknownOption::new(OptionCode::from(*code), value.clone());
            message.opts_mut().insert(DhcpOption::Unknown(option));
        }
        message
    }

    /// A DISCOVER.
    pub fn discover(&self) -> Message {
        let mut message = self.message();
        message.opts_mut().insert(DhcpOption::MessageType(MessageType::Discover));
        message
    }

    /// The REQUEST that takes an offer (or a lease, as if it were one).
    pub fn request(&self, offer: &Reply) -> Message {
        let mut message = self.message();
        message.opts_mut().insert(DhcpOption::MessageType(MessageType::Request));
        message.opts_mut().insert(DhcpOption::RequestedIpAddress(offer.message.yiaddr()));
        if let Some(server) = offer.server() {
            message.opts_mut().insert(DhcpOption::ServerIdentifier(server));
        }
        message
    }
}

/// A DHCP message from a server.
#[derive(Clone)]
pub struct Reply {
    /// Its bytes on the wire.
    pub frame: Vec<u8>,
    /// The parsed message.
    pub message: Message,
    /// The Ethernet receiver.
    pub to_mac: Mac,
    /// The IP sender.
    pub from: Ipv4Addr,
    /// The IP receiver.
    pub to: Ipv4Addr,
    /// The UDP receiver.
    pub to_port: u16,
    /// Whether the IP header's and the UDP checksum are present and right.
    pub checksums_are_right: bool,
}

impl fmt::Debug for Reply {
    /// Without the bytes, because it is part of many error messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("kind", &self.kind())
            .field("address", &self.address())
            .field("boot_file", &self.boot_file())
            .field("from", &self.from)
            .field("to", &self.to)
            .field("checksums_are_right", &self.checksums_are_right)
            .finish_non_exhaustive()
    }
}

impl Reply {
    /// A BOOTP reply in an Ethernet frame; `None` for everything else.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let packet = frame.get(ETHERNET..)?;
        let is_udp = frame.get(12..14)? == [0x08, 0x00] && *packet.first()? == 0x45 && *packet.get(9)? == 17;
        if !is_udp {
            return None;
        }
        let length = usize::from(word(packet, 2)?);
        let packet = packet.get(..length)?;
        let udp = packet.get(IP..)?;
        let payload = udp.get(UDP..)?;
        // The reply bit, and a length that dhcproto survives.
        if payload.first() != Some(&2) || payload.get(2).is_none_or(|length| *length > 16) {
            return None;
        }
        let message = Message::from_bytes(payload).ok()?;
        let header_is_right = sum(packet.get(..IP)?) == 0xffff;
        let udp_is_right = word(udp, 6)? != 0
            && usize::from(word(udp, 4)?) == udp.len()
            && fold(raw_sum(packet.get(12..IP)?) + 17 + udp.len() as u64 + raw_sum(udp)) == 0xffff;
        Some(Self {
            frame: frame.to_vec(),
            message,
            to_mac: frame.get(..6)?.try_into().ok()?,
            from: address(packet, 12)?,
            to: address(packet, 16)?,
            to_port: word(udp, 2)?,
            checksums_are_right: header_is_right && udp_is_right,
        })
    }

    /// The message type.
    pub fn kind(&self) -> Option<MessageType> {
        self.message.opts().msg_type()
    }

    /// The address given.
    pub fn address(&self) -> Ipv4Addr {
        self.message.yiaddr()
    }

    /// The server identifier.
    pub fn server(&self) -> Option<Ipv4Addr> {
        match self.message.opts().get(OptionCode::ServerIdentifier) {
            Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
            _ => None,
        }
    }

    /// The boot file: option 67, or else the field `file`.
    pub fn boot_file(&self) -> String {
        let bytes = match self.message.opts().get(OptionCode::BootfileName) {
            Some(DhcpOption::BootfileName(bytes)) => bytes.clone(),
            _ => self.message.fname().unwrap_or_default().to_vec(),
        };
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }
}

/// A message in a frame as clients without an address send it.
pub fn broadcast(message: &Message) -> Result<Vec<u8>> {
    let chaddr: Mac = message.chaddr().get(..6).and_then(|mac| mac.try_into().ok()).unwrap_or_default();
    Ok(Datagram { source_mac: chaddr, ..Datagram::default() }.frame(&payload(message)?))
}

/// A message's bytes, padded to the length clients send.
pub fn payload(message: &Message) -> Result<Vec<u8>> {
    let mut bytes = message.to_vec()?;
    bytes.resize(bytes.len().max(SHORTEST_MESSAGE), 0);
    Ok(bytes)
}

/// The headers of a UDP packet over IPv4 over Ethernet.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    /// The Ethernet sender.
    pub source_mac: Mac,
    /// The Ethernet receiver.
    pub to_mac: Mac,
    /// The IP sender.
    pub source: Ipv4Addr,
    /// The IP receiver.
    pub to: Ipv4Addr,
    /// The UDP sender.
    pub source_port: u16,
    /// The UDP receiver.
    pub to_port: u16,
}

impl Default for Datagram {
    /// From a client without an address to every DHCP server.
    fn default() -> Self {
        Self {
            source_mac: [0x02, 0, 0, 0, 0, 0xfe],
            to_mac: BROADCAST,
            source: Ipv4Addr::UNSPECIFIED,
            to: Ipv4Addr::BROADCAST,
            source_port: 68,
            to_port: 67,
        }
    }
}

impl Datagram {
    /// The frame, with right lengths and checksums.
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let udp_length = (UDP + payload.len()) as u16;
        let mut frame = Vec::with_capacity(HEADERS + payload.len());
        frame.extend(self.to_mac);
        frame.extend(self.source_mac);
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((IP as u16 + udp_length).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend(self.source.octets());
        frame.extend(self.to.octets());
        frame.extend(self.source_port.to_be_bytes());
        frame.extend(self.to_port.to_be_bytes());
        frame.extend(udp_length.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        let header = !sum(&frame[ETHERNET..ETHERNET + IP]);
        frame[24..26].copy_from_slice(&header.to_be_bytes());
        let pseudo = raw_sum(&frame[26..34]) + 17 + u64::from(udp_length);
        let checksum = match !fold(pseudo + raw_sum(&frame[ETHERNET + IP..])) {
            0 => 0xffff,
            sum => sum,
        };
        frame[40..42].copy_from_slice(&checksum.to_be_bytes());
        frame
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(octets.into())
}

fn raw_sum(bytes: &[u8]) -> u64 {
    let pairs = bytes.chunks(2);
    pairs.map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0))).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// The ones' complement sum (RFC 1071): 0xffff over bytes that contain a right checksum. Also used for ICMPv6.
pub fn sum(bytes: &[u8]) -> u16 {
    fold(raw_sum(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_ours_has_right_checksums_and_a_changed_one_has_not() {
        let mut message = Client::new([2, 0, 0, 0, 0, 1]).discover();
        message.set_opcode(dhcproto::v4::Opcode::BootReply);
        let frame = broadcast(&message).unwrap();
        let reply = Reply::parse(&frame).unwrap();
        assert!(reply.checksums_are_right);
        assert_eq!((reply.to_mac, reply.to_port), (BROADCAST, 67));
        assert_eq!(reply.kind(), Some(MessageType::Discover));
        for changed in [26, 41, 60, 300] {
            let mut frame = frame.clone();
            frame[changed] ^= 1;
            assert!(!Reply::parse(&frame).is_some_and(|reply| reply.checksums_are_right), "byte {changed}");
        }
    }
}
