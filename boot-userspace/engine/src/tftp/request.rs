//! What a client's packet says: request, acknowledgement or error (RFC 1350, RFC 2347).

use crate::events::shown;

/// Longest file name that is looked up; RFC 2347 section 2 bounds the whole request to 512 octets.
const LONGEST_NAME: usize = 512;

/// Error codes of RFC 1350 section 5.
pub(super) mod code {
    pub(crate) const UNDEFINED: u16 = 0;
    pub(crate) const NOT_FOUND: u16 = 1;
    pub(crate) const ACCESS: u16 = 2;
    pub(crate) const ILLEGAL: u16 = 4;
    /// RFC 2347: the client refuses the options, which is also how a size probe ends.
    pub(crate) const OPTIONS: u16 = 8;
}

/// A packet from a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Read(Request),
    /// A request that is answered with an ERROR at once.
    Refused {
        name: String,
        code: u16,
        why: &'static str,
    },
    Ack(u16),
    Error {
        code: u16,
        message: String,
    },
    /// What no client sends, and what that is.
    NotAsked(&'static str),
    /// Too short to be anything.
    Cut,
}

/// A read request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) name: String,
    pub(super) mode: Mode,
    /// Known options with a usable value, in the client's order, each kind once.
    pub(super) options: Vec<Wanted>,
}

/// How the client wants the file (RFC 1350 section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// As it is.
    Octet,
    /// As a text with the line ends of a network terminal: see [`netascii`](super::netascii).
    Netascii,
}

impl Mode {
    fn named(name: &[u8]) -> Option<Self> {
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        if is("octet") { Some(Self::Octet) } else { is("netascii").then_some(Self::Netascii) }
    }
}

/// One option as the client asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) kind: Kind,
    /// The client's own spelling: names are case-insensitive, but clients exist that compare bytes.
    pub(super) spelling: String,
    pub(super) value: u64,
}

/// The options this server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// RFC 2348
    BlockSize,
    /// `blksize2` of tftp-hpa: the same, and a power of two.
    BlockSizePowerOfTwo,
    /// RFC 2349
    TransferSize,
    /// RFC 2349, in seconds.
    Timeout,
    /// `utimeout` of tftp-hpa: the same in microseconds.
    TimeoutMicroseconds,
    /// RFC 7440
    WindowSize,
    /// `rollover` of tftp-hpa: the number of the block behind 65535.
    Rollover,
}

impl Kind {
    fn named(name: &[u8]) -> Option<Self> {
        [
            (&b"blksize"[..], Self::BlockSize),
            (b"blksize2", Self::BlockSizePowerOfTwo),
            (b"tsize", Self::TransferSize),
            (b"timeout", Self::Timeout),
            (b"utimeout", Self::TimeoutMicroseconds),
            (b"windowsize", Self::WindowSize),
            (b"rollover", Self::Rollover),
        ]
        .into_iter()
        .find(|(word, _)| name.eq_ignore_ascii_case(word))
        .map(|(_, kind)| kind)
    }

    /// The values that an option can have; others are treated as if the option were unknown.
    fn allows(self, value: u64) -> bool {
        match self {
            Self::BlockSize | Self::BlockSizePowerOfTwo => (8..=65464).contains(&value),
            Self::TransferSize => true,
            Self::Timeout => (1..=255).contains(&value),
            Self::TimeoutMicroseconds => (10_000..=255_000_000).contains(&value),
            Self::WindowSize => (1..=65535).contains(&value),
            Self::Rollover => value <= 1,
        }
    }

    /// Both would settle the same: the first that a client names does.
    fn settles_what(self, other: Self) -> bool {
        let is_block_size = |kind| matches!(kind, Self::BlockSize | Self::BlockSizePowerOfTwo);
        self == other || (is_block_size(self) && is_block_size(other))
    }
}

/// Reads one packet.
pub(super) fn parse(packet: &[u8]) -> Packet {
    let Some((opcode, rest)) = packet.split_first_chunk::<2>() else { return Packet::Cut };
    match u16::from_be_bytes(*opcode) {
        1 => parse_read(rest),
        2 => {
            let name = take_string(rest).map(|(name, _)| printable(name)).unwrap_or_default();
            Packet::Refused { name, code: code::ACCESS, why: "this server is read-only" }
        }
        4 => rest.first_chunk::<2>().map_or(Packet::Cut, |block| Packet::Ack(u16::from_be_bytes(*block))),
        5 => rest.split_first_chunk::<2>().map_or(Packet::Cut, |(code, text)| {
            let text = take_string(text).map_or(text, |(text, _)| text);
            Packet::Error { code: u16::from_be_bytes(*code), message: printable(text) }
        }),
        3 => Packet::NotAsked("a DATA packet, which a server sends and not a client"),
        6 => Packet::NotAsked("an OACK packet, which a server sends and not a client"),
        _ => Packet::NotAsked("a packet of a kind that TFTP does not have"),
    }
}

fn parse_read(rest: &[u8]) -> Packet {
    let Some((name, rest)) = take_string(rest) else {
        return refused(b"", code::ILLEGAL, "the file name does not end with a NUL");
    };
    let Some((mode, mut rest)) = take_string(rest) else {
        return refused(name, code::ILLEGAL, "the mode does not end with a NUL");
    };
    let Some(mode) = Mode::named(mode) else {
        return refused(name, code::ILLEGAL, "unknown mode, ask in octet mode");
    };
    // Legacy ROMs read option 67 past its end and ask for the name with 0xFF behind it.
    let end = name.iter().rposition(|byte| *byte != 0xff).map_or(0, |last| last + 1);
    let name = name.get(..end).unwrap_or(name);
    if name.len() > LONGEST_NAME {
        return refused(name, code::NOT_FOUND, "the file name is too long");
    }
    let text = match std::str::from_utf8(name) {
        Ok(text) if !text.is_empty() && !text.contains(char::is_control) => text,
        _ => return refused(name, code::NOT_FOUND, "no such file"),
    };
    let mut options: Vec<Wanted> = Vec::new();
    while let Some((word, after)) = take_string(rest) {
        let Some((value, after)) = take_string(after) else { break };
        rest = after;
        let Some((kind, value)) = Kind::named(word).zip(decimal(value)) else { continue };
        if kind.allows(value) && !options.iter().any(|known| known.kind.settles_what(kind)) {
            options.push(Wanted { kind, spelling: String::from_utf8_lossy(word).into_owned(), value });
        }
    }
    Packet::Read(Request { name: text.to_owned(), mode, options })
}

fn refused(name: &[u8], code: u16, why: &'static str) -> Packet {
    Packet::Refused { name: printable(name), code, why }
}

/// Splits off the bytes before the first NUL; `None` if there is no NUL.
fn take_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A client's bytes as they may go to a log: bounded, one line, no terminal codes.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(200)).unwrap_or_default());
    shown(&text)
}
