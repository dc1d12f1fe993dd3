//! What the fuzz targets share: reading a case, judging an answer, and seeds.

pub mod kernel;

use std::net::Ipv4Addr;
use std::path::Path;

use boot_common::Mac;
use boot_common::wire::HEADERS;
use boot_fixtures::packet::{Client, Packet, checksums_are_right};
use dhcproto::Decodable as _;
use dhcproto::v4::Message;

/// A fuzzer's bytes, read as decisions. When they have run out, every decision is 0.
pub struct Case<'a>(&'a [u8]);

impl<'a> Case<'a> {
    /// Begins at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether there are decisions left.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// The next two bytes.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// One of these.
    pub fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[usize::from(self.byte()) % of.len()]
    }

    /// Up to so many bytes.
    pub fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// What an answer says, once it is found right.
#[derive(Debug)]
pub struct Answer {
    /// Option 53; 0 for BOOTP.
    pub kind: u8,
    /// The address given.
    pub address: Ipv4Addr,
    /// The client.
    pub mac: Mac,
    /// Option 51.
    pub lease: Option<u32>,
}

/// Panics unless the frame is a right answer to the request. `limit` is the longest IP packet the client takes.
pub fn judge(answer: &[u8], request: &[u8], limit: usize) -> Answer {
    let fail = |what: &str| -> ! { panic!("{what}\nrequest {request:02x?}\nanswer {answer:02x?}") };
    let check = |right: bool, what: &str| {
        if !right {
            fail(what);
        }
    };
    check(answer.len() >= HEADERS + 300, "shorter than 300 bytes of BOOTP");
    check(answer.len() <= 14 + limit.min(1500), "longer than the client takes");
    check(answer[..6] == [0xff; 6] || answer[0] & 1 == 0 && answer[..6] != [0; 6], "to no station");
    check(checksums_are_right(answer), "wrong checksums");
    check(usize::from(u16::from_be_bytes([answer[16], answer[17]])) + 14 == answer.len(), "wrong IP length");
    check(usize::from(u16::from_be_bytes([answer[38], answer[39]])) + 34 == answer.len(), "wrong UDP length");
    to_a_station(Ipv4Addr::new(answer[30], answer[31], answer[32], answer[33]), request);
    let message = &answer[HEADERS..];
    check(message[..4] == [2, 1, 6, 0], "op, htype, hlen, hops");
    check(message[4..8] == request[4..8], "another transaction");
    check(message[10..12] == request[10..12] || message[10] == request[10] | 0x80, "other flags");
    check(message[24..44] == request[24..44], "another giaddr or chaddr");
    check(message[236..240] == [0x63, 0x82, 0x53, 0x63], "no cookie");
    let mut options = Vec::new();
    let mut take = |bytes: &[u8], field: &str| {
        let mut at = 0;
        loop {
            match bytes.get(at).copied() {
                None => fail(&format!("no END in {field}")),
                Some(0) => at += 1,
                Some(255) => break,
                Some(code) => {
                    let length = bytes.get(at + 1).copied().map(usize::from);
                    let value = length.and_then(|length| bytes.get(at + 2..at + 2 + length));
                    let Some(value) = value else { fail(&format!("option {code} is cut in {field}")) };
                    options.push((code, value.to_vec()));
                    at += 2 + value.len();
                }
            }
        }
        check(bytes[at + 1..].iter().all(|byte| *byte == 0), "something behind END");
        options.iter().find(|(code, _)| *code == 52).map_or(0, |(_, value)| value[0])
    };
    let overload = take(&message[240..], "the options");
    if overload & 1 != 0 {
        take(&message[108..236], "file");
    }
    if overload & 2 != 0 {
        take(&message[44..108], "sname");
    }
    let find = |code: u8| options.iter().find(|(other, _)| *other == code).map(|(_, value)| value.as_slice());
    for code in [50, 55, 57] {
        check(find(code).is_none(), "an option that only requests have");
    }
    check(Message::from_bytes(message).is_ok(), "dhcproto cannot read it");
    let kind = find(53).map_or(0, |value| value[0]);
    check(matches!(kind, 0 | 2 | 5 | 6), "no type of an answer");
    check(kind == 0 || options[0].0 == 53 && options[1].0 == 54, "53 and 54 do not come first");
    let mac = Mac([message[28], message[29], message[30], message[31], message[32], message[33]]);
    let lease = find(51).map(|value| u32::from_be_bytes([value[0], value[1], value[2], value[3]]));
    let address = Ipv4Addr::new(message[16], message[17], message[18], message[19]);
    check(kind != 6 || lease.is_none() && address.is_unspecified(), "a NAK with a lease");
    Answer { kind, address, mac, lease }
}

/// Panics for an address that stands for more than one machine, for none, or for ourselves.
pub fn to_a_station(to: Ipv4Addr, request: &[u8]) {
    let one = !to.is_multicast() && !to.is_loopback() && !to.is_unspecified() && to.octets()[0] < 240;
    assert!(one || to.is_broadcast(), "an answer to {to}\nrequest {request:02x?}");
}

/// The longest IP packet a client takes, by its own word (option 57), as far as it says so once and plainly.
pub fn limit(request: &[u8]) -> usize {
    let mut rest = request.get(240..).unwrap_or_default();
    let mut found: Option<usize> = None;
    while let [code, tail @ ..] = rest {
        rest = match (*code, tail) {
            (0, _) => tail,
            (255, _) | (_, []) => break,
            // It may be said again in another field.
            (52, _) => return 1500,
            (code, [length, tail @ ..]) => {
                let Some((value, tail)) = tail.split_at_checked(usize::from(*length)) else { break };
                if let (57, [high, low]) = (code, value) {
                    let said = usize::from(u16::from_be_bytes([*high, *low]));
                    found = Some(found.map_or(said, |before| before.max(said)));
                } else if code == 57 {
                    return 1500;
                }
                tail
            }
        };
    }
    found.unwrap_or(0).clamp(576, 1500)
}

/// What every kind of client asks in every state it knows.
pub fn requests(mac: Mac, address: Ipv4Addr, server: Ipv4Addr) -> Vec<Packet> {
    let states = |client: Client| {
        [
            client.discover(mac),
            client.request(mac, address, server),
            client.reboot(mac, address),
            client.renew(mac, address, server),
            client.inform(mac, address, server),
            client.ask_boot_server(mac, address, server),
        ]
    };
    Client::ALL.into_iter().flat_map(states).collect()
}

/// Writes cases to begin with into the directory that `XPXE_SEEDS` names, if it does.
pub fn seed(target: &str, cases: impl FnOnce() -> Vec<Vec<u8>>) {
    let Some(dir) = std::env::var_os("XPXE_SEEDS") else { return };
    let dir = Path::new(&dir);
    std::fs::create_dir_all(dir).expect("a directory for seeds");
    for (number, case) in cases().into_iter().enumerate() {
        std::fs::write(dir.join(format!("{target}-{number}")), case).expect("a seed");
    }
}
