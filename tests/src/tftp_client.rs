//! A TFTP client made of single frames: the test decides when the client asks, acknowledges or keeps silent, how long
//! its frames are on the wire, and which packet gets lost, comes late, twice or in the wrong order.
//!
//! [`Caller`] sends and receives single packets. [`Download`] is a whole transfer with EDK2's habits: it acknowledges a
//! window at a time, answers each unexpected block at once with the last one in order, and repeats its own last packet
//! after 4 s.
//!
//! A caller's address belongs to no kernel, so only the caller reacts to packets for it: [`introduce`] tells the
//! server's kernel the MAC of that address.

mod download;

use std::collections::VecDeque;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::dhcp_client::{Datagram, Mac, Wire, mac, sum};
use crate::netns::Namespace;
use crate::rack::{Rack, SERVER_ADDRESS, SERVER_MAC};
use crate::random::Random;

pub use download::{Download, Finished, clean_packets};

/// The server's port, for requests and for everything else.
pub const PORT: u16 = 69;
/// An ordinary Ethernet frame of full size, without its checksum.
const FULL_FRAME: usize = 1514;
/// The length to which network cards pad every frame.
const SHORTEST_FRAME: usize = 60;
/// EDK2's own timer.
const REPEAT: Duration = Duration::from_secs(4);
/// EDK2 gives up after this many sends of the same packet.
const SENDS: u32 = 6;
const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;

/// Tells the server's kernel that these addresses have this MAC, so that the kernel need not ask by ARP.
pub fn introduce(rack: &Rack, addresses: impl IntoIterator<Item = Ipv4Addr>, card: &str) -> Result<()> {
    let file = rack.dir().join("neighbours");
    let lines = addresses
        .into_iter()
        .map(|address| format!("neighbour replace {address} lladdr {card} dev eth0 nud permanent\n"));
    fs::write(&file, lines.collect::<String>())?;
    rack.server.output("ip", &["-batch", &file.display().to_string()]).map(drop)
}

/// The length of a caller's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// As long as their content; an answer needs a longer frame.
    None,
    /// 1514 bytes with padding behind a short IP packet: the answer fits into the same frame.
    Full,
    /// Short and full frames at random.
    Mixed,
}

impl Padding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::Full, Self::Mixed];
}

/// A fault of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The packet does not arrive.
    Lost,
    /// The packet arrives twice.
    Doubled,
    /// The packet arrives this much later.
    Late(Duration),
    /// The packet arrives behind the next one in its direction.
    Swapped,
}

/// The packet of a [`Fault`]: its number in its direction. Request and OACK have the number 0 unless they were repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// Requests and ACKs.
    FromClient(u64),
    /// OACK and DATA.
    FromServer(u64),
}

/// A packet of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// The options it grants, in its order.
    Oack(Vec<(String, String)>),
    /// A block.
    Data {
        /// Its number on the wire.
        block: u16,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A refusal or failure.
    Error {
        /// The code of RFC 1350 section 5.
        code: u16,
        /// Its text.
        text: String,
    },
}

impl Packet {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let word = |at| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let strings = |from: usize| -> Result<Vec<String>> {
            let text = bytes.get(from..).unwrap_or_default();
            ensure!(text.is_empty() || text.ends_with(&[0]), "the last string of {bytes:02x?} has no end");
            let strings =
                text.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
            Ok(strings.take(text.iter().filter(|byte| **byte == 0).count()).collect())
        };
        match (word(0), word(2)) {
            (Some(3), Some(block)) => Ok(Self::Data { block, bytes: bytes[4..].to_vec() }),
            (Some(5), Some(code)) => Ok(Self::Error { code, text: strings(4)?.concat() }),
            (Some(6), _) => {
                let strings = strings(2)?;
                let pairs = strings.chunks_exact(2);
                ensure!(pairs.remainder().is_empty(), "an option of the OACK has no value: {strings:?}");
                Ok(Self::Oack(pairs.map(|pair| (pair[0].clone(), pair[1].clone())).collect()))
            }
            _ => bail!("a TFTP server does not say {bytes:02x?}"),
        }
    }
}

/// A read request in octet mode.
pub fn request(name: &str, options: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = [b"\0\x01", name.as_bytes(), b"\0octet\0"].concat();
    for (option, value) in options {
        bytes.extend(option.bytes().chain([0]).chain(value.bytes()).chain([0]));
    }
    bytes
}

/// An acknowledgement.
pub fn ack(block: u16) -> Vec<u8> {
    [[0, 4], block.to_be_bytes()].concat()
}

/// The client's own ERROR.
pub fn error(code: u16, text: &str) -> Vec<u8> {
    [&[0, 5][..], &code.to_be_bytes(), text.as_bytes(), &[0]].concat()
}

/// One address and port, and the server it talks to.
#[derive(Debug)]
pub struct Caller {
    wire: Wire,
    own: SocketAddrV4,
    to_mac: Mac,
    to: SocketAddrV4,
    padding: Padding,
    random: Random,
    outgoing: Line<Vec<u8>>,
    incoming: Line<Packet>,
}

impl Caller {
    /// At the interface `eth0` of `station`, with an address that was [introduced](introduce).
    pub fn open(station: &Namespace, own: SocketAddrV4, padding: Padding) -> Result<Self> {
        Ok(Self {
            wire: Wire::open_for_ip(station, "eth0")?,
            own,
            to_mac: mac(SERVER_MAC)?,
            to: SocketAddrV4::new(SERVER_ADDRESS.parse()?, PORT),
            padding,
            random: Random(u64::from(own.port())),
            outgoing: Line::default(),
            incoming: Line::default(),
        })
    }

    /// The caller with a fault to come.
    #[must_use]
    pub fn with_fault(mut self, victim: Victim, fault: Fault) -> Self {
        match victim {
            Victim::FromClient(number) => self.outgoing.fault = Some((number, fault)),
            Victim::FromServer(number) => self.incoming.fault = Some((number, fault)),
        }
        self
    }

    /// Its address and port.
    pub fn own(&self) -> SocketAddrV4 {
        self.own
    }

    /// Packets sent and received, before any [`Fault`].
    pub fn packets(&self) -> u64 {
        self.outgoing.seen + self.incoming.seen
    }

    /// Sends one packet to the server.
    pub fn send(&mut self, packet: &[u8]) -> Result<()> {
        let frame = self.frame(packet, self.to_mac, *self.to.ip());
        self.outgoing.put(frame);
        self.send_ready()
    }

    /// Sends one packet to another address, a broadcast for example.
    pub fn send_to(&mut self, packet: &[u8], to_mac: Mac, to: Ipv4Addr) -> Result<()> {
        let frame = self.frame(packet, to_mac, to);
        self.wire.send(&frame)
    }

    /// The next packet for this address and port, or `None` if none came in time. A wrong checksum or a packet from a port
    /// other than 69 is an error.
    pub fn hear(&mut self, within: Duration) -> Result<Option<Packet>> {
        let deadline = Instant::now() + within;
        loop {
            self.send_ready()?;
            if let Some(packet) = self.incoming.take() {
                return Ok(Some(packet));
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(None);
            }
            let until =
                [self.outgoing.due(), self.incoming.due()].into_iter().flatten().fold(deadline, Instant::min);
            // A read without any time would wait for ever.
            let wait = until.saturating_duration_since(now).max(Duration::from_micros(100));
            let (own, server) = (self.own, self.to);
            if let Some(packet) = self.wire.hear(wait, |frame| received(frame, own, server))? {
                self.incoming.put(packet?);
            }
        }
    }

    /// The next packet, which must come.
    pub fn must_hear(&mut self, what: &str) -> Result<Packet> {
        self.hear(Duration::from_secs(30))?.with_context(|| format!("{} hears nothing: {what}", self.own))
    }

    /// Every packet until none has come for this long.
    pub fn drain(&mut self, quiet: Duration) -> Result<Vec<Packet>> {
        let mut packets = Vec::new();
        while let Some(packet) = self.hear(quiet)? {
            packets.push(packet);
        }
        Ok(packets)
    }

    /// Packets that have already arrived.
    pub fn already_heard(&mut self) -> Result<Vec<Packet>> {
        self.drain(Duration::from_millis(1))
    }

    fn frame(&mut self, packet: &[u8], to_mac: Mac, to: Ipv4Addr) -> Vec<u8> {
        let datagram = Datagram {
            source_mac: self.wire.mac(),
            to_mac,
            source: *self.own.ip(),
            to,
            source_port: self.own.port(),
            to_port: PORT,
        };
        let mut frame = datagram.frame(packet);
        let full = match self.padding {
            Padding::None => false,
            Padding::Full => true,
            Padding::Mixed => self.random.below(2) == 0,
        };
        if full {
            frame.resize(FULL_FRAME, 0);
        }
        frame
    }

    fn send_ready(&mut self) -> Result<()> {
        while let Some(frame) = self.outgoing.take() {
            self.wire.send(&frame)?;
        }
        Ok(())
    }
}

/// The TFTP packet in a frame from `server` to `own`; `None` for other frames.
pub fn received(frame: &[u8], own: SocketAddrV4, server: SocketAddrV4) -> Option<Result<Packet>> {
    let (from, to, payload) = datagram(frame)?;
    (to == own && from.ip() == server.ip()).then(|| {
        ensure!(from == server, "{own} hears from {from}: {:02x?}", payload.get(..8));
        checked(frame).with_context(|| format!("a frame of {} bytes for {own}", frame.len()))?;
        Packet::parse(payload)
    })
}

/// Sender, receiver and payload of a UDP packet in an Ethernet frame; trusts its lengths.
pub fn datagram(frame: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4, &[u8])> {
    let packet = frame.get(ETHERNET..)?;
    if frame.get(12..14)? != [0x08, 0x00] || *packet.first()? != 0x45 || *packet.get(9)? != 17 {
        return None;
    }
    let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let end = usize::from(word(2)?);
    let payload = packet.get(IP + UDP..end)?;
    Some((
        SocketAddrV4::new(address(12)?, word(IP)?),
        SocketAddrV4::new(address(16)?, word(IP + 2)?),
        payload,
    ))
}

/// Checks the lengths and the checksums of a UDP packet; both checksums must be present.
pub(crate) fn checked(frame: &[u8]) -> Result<()> {
    let packet = frame.get(ETHERNET..).context("too short")?;
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let end = usize::from(word(2));
    let trimmed = packet.len() == end || frame.len() == SHORTEST_FRAME;
    ensure!(trimmed, "{} bytes lie behind the IP packet", packet.len().saturating_sub(end));
    ensure!(usize::from(word(IP + 4)) == end - IP, "the UDP length is {} of {}", word(IP + 4), end - IP);
    ensure!(sum(&packet[..IP]) == 0xffff, "wrong IP checksum");
    let pseudo = [&packet[12..IP], &[0, 17], &packet[IP + 4..IP + 6], &packet[IP..]].concat();
    ensure!(word(IP + 6) != 0 && sum(&pseudo) == 0xffff, "wrong UDP checksum");
    Ok(())
}

/// One direction, on which one packet may meet its [`Fault`].
#[derive(Debug)]
struct Line<T> {
    fault: Option<(u64, Fault)>,
    seen: u64,
    ready: VecDeque<T>,
    late: Option<(Instant, T)>,
    swapped: Option<T>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { fault: None, seen: 0, ready: VecDeque::new(), late: None, swapped: None }
    }
}

impl<T: Clone> Line<T> {
    fn put(&mut self, item: T) {
        let number = self.seen;
        self.seen += 1;
        match self.fault {
            Some((victim, fault)) if victim == number => match fault {
                Fault::Lost => {}
                Fault::Doubled => self.ready.extend([item.clone(), item]),
                Fault::Late(delay) => self.late = Some((Instant::now() + delay, item)),
                Fault::Swapped => self.swapped = Some(item),
            },
            _ => {
                self.ready.push_back(item);
                self.ready.extend(self.swapped.take());
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        self.late.as_ref().map(|(due, _)| *due)
    }

    fn take(&mut self) -> Option<T> {
        if self.due().is_some_and(|due| due <= Instant::now()) {
            self.ready.extend(self.late.take().map(|(_, item)| item));
        }
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_as_the_rfcs_write_it() {
        assert_eq!(
            Packet::parse(b"\0\x03\x01\x02abc").unwrap(),
            Packet::Data { block: 258, bytes: b"abc".to_vec() }
        );
        assert_eq!(
            Packet::parse(b"\0\x05\0\x01no such file\0").unwrap(),
            Packet::Error { code: 1, text: "no such file".to_owned() }
        );
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            Packet::parse(b"\0\x06tsize\x005\0blksize\x008\0").unwrap(),
            Packet::Oack(vec![pair("tsize", "5"), pair("blksize", "8")])
        );
        for wrong in [&b"\0\x06tsize\x005"[..], b"\0\x06tsize\0", b"\0\x04\0\x01", b"\0"] {
            assert!(Packet::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_frame_of_ours_is_received_and_a_changed_one_is_not() {
        let (own, server): (SocketAddrV4, SocketAddrV4) =
            ("10.0.0.2:2000".parse().unwrap(), "10.0.0.1:69".parse().unwrap());
        let datagram = Datagram {
            source: *server.ip(),
            source_port: server.port(),
            to: *own.ip(),
            to_port: own.port(),
            ..Datagram::default()
        };
        let frame = datagram.frame(b"\0\x03\0\x01abc");
        assert!(received(&frame, own, server).unwrap().is_ok());
        for changed in [24, 41, 46] {
            let mut frame = frame.clone();
            frame[changed] ^= 1;
            assert!(received(&frame, own, server).unwrap().is_err(), "byte {changed}");
        }
        let mut padded = frame.clone();
        padded.push(0);
        assert!(received(&padded, own, server).unwrap().is_err());
        assert!(received(&frame, server, own).is_none());
    }

    #[test]
    fn a_fault_happens_to_its_packet_only() {
        let run = |fault| {
            let mut line = Line { fault: Some((1, fault)), ..Line::default() };
            (0..4).for_each(|number| line.put(number));
            std::iter::from_fn(|| line.take()).collect::<Vec<_>>()
        };
        assert_eq!(run(Fault::Lost), [0, 2, 3]);
        assert_eq!(run(Fault::Doubled), [0, 1, 1, 2, 3]);
        assert_eq!(run(Fault::Swapped), [0, 2, 1, 3]);
        assert_eq!(run(Fault::Late(Duration::ZERO)), [0, 2, 3, 1]);
        assert_eq!(run(Fault::Late(Duration::from_secs(60))), [0, 2, 3]);
    }
}
