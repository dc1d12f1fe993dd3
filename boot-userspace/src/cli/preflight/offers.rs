//! DISCOVERs as firmware sends them, and the offers that come back. Nothing is ever requested, so no lease is bound.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use boot_common::Mac;
use boot_common::class::Firmware;
use socket2::Socket;

use crate::host::link::Link;
use crate::io::packet;

/// A kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bios,
    UefiX64,
    UefiArm64,
    HttpBoot,
    Ipxe,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Bios, Self::UefiX64, Self::UefiArm64, Self::HttpBoot, Self::Ipxe];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bios => "BIOS",
            Self::UefiX64 => "UEFI x86-64",
            Self::UefiArm64 => "UEFI arm64",
            Self::HttpBoot => "HTTP Boot x86-64",
            Self::Ipxe => "iPXE",
        }
    }

    /// Option 93 (RFC 4578 section 2.1).
    const fn arch(self) -> u16 {
        match self {
            Self::Bios => 0,
            Self::UefiX64 | Self::Ipxe => 7,
            Self::UefiArm64 => 11,
            Self::HttpBoot => 16,
        }
    }

    pub(super) fn firmware(self) -> Firmware {
        Firmware::from_arch(self.arch())
    }

    /// What option 60 begins with in its messages, and has to in the answer that names its boot file.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::HttpBoot => "HTTPClient",
            _ => "PXEClient",
        }
    }
}

/// Who asks, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) mac: Mac,
    /// The address of the relay that it seems to be behind.
    pub(super) relay: Option<Ipv4Addr>,
    /// The server to send to; none: all.
    pub(super) server: Option<Ipv4Addr>,
    pub(super) wait: Duration,
}

/// An offer, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) kind: Kind,
    /// Option 54, or the sender.
    pub(super) server: Ipv4Addr,
    /// The station that sent it: the server, or the router before it.
    pub(super) station: Mac,
    /// 0.0.0.0 of a server that gives no addresses.
    pub(super) address: Ipv4Addr,
    /// Where files come from: `siaddr`, or the sender.
    pub(super) next_server: Ipv4Addr,
    /// Option 66 or `sname`.
    pub(super) server_name: String,
    /// Option 67 or `file`.
    pub(super) boot_file: String,
    /// Option 60.
    pub(super) class: String,
    /// Option 1 is there.
    pub(super) has_mask: bool,
    /// After how long it came.
    pub(super) after: Duration,
}

/// The offers that came: one of each server for each kind.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) offers: Vec<Offer>,
    /// How many more a station has sent than are kept; none: stations that are too many.
    pub(super) more: BTreeMap<Option<Mac>, u64>,
}

impl Heard {
    fn add(&mut self, offer: Offer) {
        let kind = offer.kind;
        let of_kind = || self.offers.iter().filter(move |other| other.kind == kind);
        if of_kind().any(|other| other.server == offer.server) {
            return;
        }
        let of_station = of_kind().filter(|other| other.station == offer.station).count();
        if of_station < MOST_OF_STATION && of_kind().count() < MOST_OF_KIND {
            self.offers.push(offer);
            return;
        }
        let is_named = self.more.len() < MOST_STATIONS || self.more.contains_key(&Some(offer.station));
        *self.more.entry(is_named.then_some(offer.station)).or_default() += 1;
    }
}

/// The DHCP message of a machine.
fn discover(kind: Kind, asker: &Asker, xid: u32) -> Vec<u8> {
    let mut message = vec![1, 1, 6, u8::from(asker.relay.is_some())];
    message.extend(xid.to_be_bytes());
    // Nobody has the address that an answer would go to: broadcast.
    message.extend([0, 0, 0x80, 0]);
    message.extend([0; 12]);
    message.extend(asker.relay.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
    message.extend(asker.mac.0);
    message.extend([0; 10 + 64 + 128]);
    message.extend([99, 130, 83, 99]);
    let mut option = |code: u8, value: &[u8]| {
        message.extend([code, u8::try_from(value.len()).unwrap_or(0)]);
        message.extend(value);
    };
    let arch = kind.arch().to_be_bytes();
    option(53, &[1]);
    option(57, &1472_u16.to_be_bytes());
    option(
        55,
        &[
            1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67,
            97, 128,
        ],
    );
    let mut uuid = vec![0; 11];
    uuid.extend(asker.mac.0);
    option(97, &uuid);
    option(94, &[1, 3, 0]);
    option(93, &arch);
    option(60, format!("{}:Arch:{:05}:UNDI:003000", kind.class(), kind.arch()).as_bytes());
    if kind == Kind::Ipxe {
        option(77, b"iPXE");
        // The features of a full one, among them HTTP, DNS, EFI and menus.
        let features = [33, 57, 34, 36, 25, 24, 23, 21, 19, 17, 39].map(|feature| [feature, 1, 1]);
        option(175, features.as_flattened());
    }
    message.push(255);
    message
}

/// A broadcast frame from this MAC, as clients without an address and relays send it.
fn frame(asker: &Asker, message: &[u8]) -> Vec<u8> {
    let (source, port) = match asker.relay {
        Some(relay) => (relay, 67_u16),
        None => (Ipv4Addr::UNSPECIFIED, 68),
    };
    let length = |more: usize| u16::try_from(message.len() + more).unwrap_or(u16::MAX).to_be_bytes();
    let mut ip = vec![0x45, 0];
    ip.extend(length(28));
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend(source.octets());
    ip.extend([255; 4]);
    let sum = !sum(&ip);
    if let Some(place) = ip.get_mut(10..12) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    // A UDP checksum of 0 is none (RFC 768).
    let udp = [&port.to_be_bytes()[..], &67_u16.to_be_bytes(), &length(8), &[0, 0]].concat();
    [&[0xff; 6][..], &asker.mac.0, &[8, 0], &ip, &udp, message].concat()
}

/// One's complement sum of 16-bit words.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}

/// An answer to one of these transactions.
fn read(frame: &[u8], kinds: &[(u32, Kind)], started: Instant) -> Option<Offer> {
    let packet = frame.get(14..).filter(|packet| packet.first().is_some_and(|byte| byte >> 4 == 4))?;
    let header = usize::from(packet.first()? & 15) * 4;
    let port =
        |at: usize| Some(u16::from_be_bytes(packet.get(header + at..header + at + 2)?.try_into().ok()?));
    if packet.get(9) != Some(&17) || port(0)? != 67 || ![67, 68].contains(&port(2)?) {
        return None;
    }
    let address =
        |bytes: &[u8], at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
    let sender = address(packet, 12)?;
    let message = packet.get(header + 8..)?;
    let xid = u32::from_be_bytes(message.get(4..8)?.try_into().ok()?);
    let kind = kinds.iter().find(|(own, _)| *own == xid)?.1;
    if message.first() != Some(&2) || message.get(236..240) != Some(&[99, 130, 83, 99]) {
        return None;
    }
    let mut options = Vec::new();
    add_options(message.get(240..)?, &mut options);
    // Overload (RFC 2132 section 9.3): the fields are options.
    let overload = options.iter().find(|(code, _)| *code == 52).and_then(|(_, value)| value.first().copied());
    let (in_file, in_name) = (matches!(overload, Some(1 | 3)), matches!(overload, Some(2 | 3)));
    for (is_used, range) in [(in_file, 108..236), (in_name, 44..108)] {
        if is_used {
            add_options(message.get(range)?, &mut options);
        }
    }
    let value = |code: u8| options.iter().find(|(own, _)| *own == code).map(|(_, value)| value.as_slice());
    if value(53) != Some(&[2]) {
        return None;
    }
    let text = |bytes: &[u8]| {
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    let field = |is_used: bool, range| if is_used { None } else { message.get(range).map(text) };
    let or_field = |option: Option<&[u8]>, field: Option<String>| {
        option.map(text).filter(|text| !text.is_empty()).or(field).unwrap_or_default()
    };
    Some(Offer {
        kind,
        server: value(54).and_then(|value| address(value, 0)).unwrap_or(sender),
        station: Mac(frame.get(6..12)?.try_into().ok()?),
        address: address(message, 16)?,
        next_server: address(message, 20).filter(|address| !address.is_unspecified()).unwrap_or(sender),
        server_name: or_field(value(66), field(in_name, 44..108)),
        boot_file: or_field(value(67), field(in_file, 108..236)),
        class: value(60).map(text).unwrap_or_default(),
        has_mask: value(1).is_some(),
        after: started.elapsed(),
    })
}

/// The options in a field; pieces of the same option are put together (RFC 3396).
fn add_options(mut field: &[u8], options: &mut Vec<(u8, Vec<u8>)>) {
    while let [code, rest @ ..] = field {
        field = match (*code, rest) {
            (0, rest) => rest,
            (255, _) | (_, []) => break,
            (code, [length, rest @ ..]) => {
                let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
                match options.iter_mut().find(|(own, _)| *own == code) {
                    Some((_, before)) => before.extend(value),
                    None => options.push((code, value.to_vec())),
                }
                rest
            }
        };
    }
}

/// Asks as every kind of machine, and gives all offers. All ask once more at half time, as firmware does: of several messages from
/// one card a server that is about to probe an address answers the last one only.
pub(super) fn ask(link: &Link, asker: &Asker) -> io::Result<Heard> {
    let socket = packet::open(link, ETHER_IPV4)?;
    socket.set_nonblocking(false)?;
    let mut start = [0; 4];
    super::random(&mut start)?;
    let first = u32::from_be_bytes(start);
    let kinds: Vec<(u32, Kind)> =
        (0..).zip(Kind::ALL).map(|(nth, kind)| (first.wrapping_add(nth), kind)).collect();
    let (started, half) = (Instant::now(), asker.wait / 2);
    let mut heard = Heard::default();
    send(&socket, asker, &kinds)?;
    hear(&socket, &kinds, started, half, &mut heard)?;
    send(&socket, asker, &kinds)?;
    hear(&socket, &kinds, started, asker.wait, &mut heard)?;
    Ok(heard)
}

/// IPv4's EtherType.
const ETHER_IPV4: u16 = 0x0800;
/// How many offers for a kind of machine are kept of a station, which would hide the others with more, and of all.
const MOST_OF_STATION: usize = 8;
const MOST_OF_KIND: usize = 64;
/// How many stations are named that have sent more.
const MOST_STATIONS: usize = 16;

fn send(socket: &Socket, asker: &Asker, kinds: &[(u32, Kind)]) -> io::Result<()> {
    for (xid, kind) in kinds {
        let message = discover(*kind, asker, *xid);
        match asker.server {
            Some(server) => {
                let from = asker.relay.unwrap_or(Ipv4Addr::UNSPECIFIED);
                UdpSocket::bind((from, 0))?.send_to(&message, (server, 67))?;
            }
            None => {
                socket.send(&frame(asker, &message))?;
            }
        }
    }
    Ok(())
}

fn hear(
    mut socket: &Socket,
    kinds: &[(u32, Kind)],
    started: Instant,
    until: Duration,
    heard: &mut Heard,
) -> io::Result<()> {
    let mut buffer = [0; 2048];
    loop {
        let left = until.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(error) => return Err(error),
        };
        if let Some(offer) = read(buffer.get(..length).unwrap_or_default(), kinds, started) {
            heard.add(offer);
        }
    }
}
