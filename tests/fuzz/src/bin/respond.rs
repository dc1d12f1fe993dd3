//! The function that both halves answer by: any frame, tables as the daemon writes them and as it never does.
#![no_main]

use std::net::Ipv4Addr;
use std::sync::OnceLock;

use boot_common::decide::message;
use boot_common::frame::Bytes;
use boot_common::respond::respond;
use boot_common::scratch::Scratch;
use boot_common::tables::{
    ANSWER_OPTIONS, Answer, AnswerKey, HOST_OPTIONS, Host, HostKey, LinkEntry, Tables, role,
};
use boot_common::wire::{HEADERS, MAGIC, SNAME_AND_FILE, Sum};
use boot_common::{Mac, Reason};
use boot_fixtures::packet::{fix_checksums, fix_ip_checksum, fix_lengths};
use boot_fuzz::{Case, judge, requests, seed};
use libfuzzer_sys::fuzz_target;
use zerocopy::{FromZeros as _, IntoBytes as _};

const US: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const CLIENT: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
const YOU: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 7);
const MESSAGES: [u8; 4] = [message::OFFER, message::ACK, message::INFORM, message::BOOT_ACK];
/// Bytes of prepared options: the fewest there can be, the most, and around what some clients take.
const LENGTHS: [usize; 8] = [10, 60, 200, 290, 308, 330, 600, ANSWER_OPTIONS];

/// Bits of a case's first byte: what is left as the fuzzer made it.
const IP_CHECKSUM: u8 = 1;
const UDP_CHECKSUM: u8 = 2;
const LENGTHS_AS_THEY_ARE: u8 = 4;
const ROLE: u8 = 0x18;
const SENSELESS: u8 = 0x20;
const STRANGERS_ASK: u8 = 0x40;
const NO_UDP_CHECKSUM: u8 = 0x80;

struct Rack {
    link: Option<LinkEntry>,
    host: Option<Host>,
    answers: &'static [Vec<Answer>],
    spoilt: Option<Answer>,
}

impl boot_common::tftp::Transfers for Rack {}

impl Tables for Rack {
    fn link(&self, _: u32) -> Option<&LinkEntry> {
        self.link.as_ref()
    }

    fn host(&self, _: &HostKey) -> Option<&Host> {
        self.host.as_ref()
    }

    fn answer(&self, key: &AnswerKey) -> Option<&Answer> {
        let by_message = MESSAGES.iter().position(|message| *message == key.message)?;
        self.spoilt.as_ref().or_else(|| self.answers.get(key.set as usize)?.get(by_message))
    }
}

/// An answer with so many bytes of options, all of them whole.
fn prepared(message: u8, length: usize) -> Answer {
    let kind = if message == message::OFFER { 2 } else { 5 };
    let [a, b, c, d] = US.octets();
    let mut options = vec![53, 1, kind, 54, 4, a, b, c, d];
    if matches!(message, message::OFFER | message::ACK) && length >= 16 {
        options.extend([51, 4, 0, 0, 0, 60]);
    }
    while length - options.len() > 2 {
        let room = (length - options.len() - 2).min(255);
        options.extend([224, room as u8]);
        options.resize(options.len() + room, 0xa5);
    }
    options.resize(length, 0);
    let mut answer = Answer::new_zeroed();
    (answer.siaddr, answer.server_id, answer.lease) = (US.octets(), US.octets(), 60);
    answer.body[SNAME_AND_FILE..SNAME_AND_FILE + 4].copy_from_slice(&MAGIC.to_be_bytes());
    answer.body[SNAME_AND_FILE + 4..][..length].copy_from_slice(&options);
    let length = SNAME_AND_FILE + 4 + length;
    answer.body_length = length as u16;
    answer.body_sum = Sum::ZERO.bytes(&answer.body[..length]).folded();
    answer
}

fn answers() -> &'static [Vec<Answer>] {
    static ANSWERS: OnceLock<Vec<Vec<Answer>>> = OnceLock::new();
    ANSWERS.get_or_init(|| {
        let set = |length| MESSAGES.iter().map(|message| prepared(*message, length)).collect();
        LENGTHS.into_iter().map(set).collect()
    })
}

fn rack(flags: u8, case: &mut Case<'_>) -> Rack {
    let (link, host, spoil) = (case.byte(), case.byte(), case.word());
    let role = [role::SERVER, role::PROXY, role::SERVER, role::OFF][usize::from(flags & ROLE) >> 3];
    let unknown_ask = u8::from(flags & STRANGERS_ASK != 0);
    let set = u32::from(link) % LENGTHS.len() as u32;
    let link = LinkEntry { mac: OUR_MAC, role, unknown_ask, address: US.octets(), proxy_set: set };
    let known = (host & 0x80 == 0).then(|| {
        let mut host_entry = Host::new_zeroed();
        let proxied = role == role::PROXY && host & 0x40 != 0;
        host_entry.answer_set = set;
        host_entry.address = if proxied { [0; 4] } else { YOU.octets() };
        host_entry.mask = if proxied { [255; 4] } else { [255, 255, 255, 0] };
        host_entry.durable_until = if host & 0x20 != 0 { 0 } else { 61_000_000_000 };
        host_entry.bound_until = if host & 0x40 != 0 { 0 } else { u64::MAX };
        let length = usize::from(host & 0x1f) * 2 % (HOST_OPTIONS + 2);
        if length > 2 {
            host_entry.options[..length].fill(b'n');
            host_entry.options[..2].copy_from_slice(&[12, length as u8 - 2]);
            host_entry.options_length = length as u8;
            host_entry.options_sum = Sum::ZERO.bytes(&host_entry.options[..length]).folded();
        }
        host_entry
    });
    let mut rack = Rack { link: Some(link), host: known, answers: answers(), spoilt: None };
    if flags & SENSELESS != 0 {
        let mut answer = prepared(message::OFFER, LENGTHS[set as usize]);
        match spoil % 4 {
            0 => answer.body_length = case.word(),
            1 => answer.body.fill(spoil as u8),
            2 => answer.as_mut_bytes()[usize::from(spoil) % size_of::<Answer>()] ^= 0x80,
            _ => rack.host = rack.host.map(|host| Host { options_length: spoil as u8, ..host }),
        }
        rack.spoilt = Some(answer);
    }
    rack
}

fuzz_target!(
    init: seed("respond", || {
        let mut cases = Vec::new();
        for (number, packet) in requests(CLIENT, YOU, US).into_iter().enumerate() {
            let relayed = packet.clone().relayed(Ipv4Addr::new(10, 77, 0, 2), US);
            for (flags, packet) in [(0, &packet), (8, &packet), (0, &relayed)] {
                cases.push([&[flags, number as u8, number as u8 & 0x1f, 0, 0][..], &packet.frame()].concat());
            }
        }
        cases
    }),
    |bytes: &[u8]| {
        let mut case = Case::new(bytes);
        let flags = case.byte();
        let rack = rack(flags, &mut case);
        let mut frame = case.rest().to_vec();
        if flags & LENGTHS_AS_THEY_ARE == 0 {
            fix_lengths_of(&mut frame);
        }
        if flags & NO_UDP_CHECKSUM != 0 && frame.len() >= HEADERS {
            frame[40..42].fill(0);
        } else if flags & UDP_CHECKSUM == 0 {
            fix_checksums(&mut frame);
        }
        if flags & IP_CHECKSUM == 0 {
            fix_ip_checksum(&mut frame);
        }
        let mut answer = Bytes(frame.clone());
        let mut scratch = Scratch::new();
        scratch.as_mut_bytes().fill(0x5a);
        match respond(&mut answer, &mut scratch, &rack, 1, || 1_000_000_000) {
            Err(Reason::StoreFailed) => panic!("memory refuses nothing"),
            Err(_) => assert_eq!(answer.0, frame, "refused, and changed"),
            Ok(_) if flags & SENSELESS != 0 => {}
            Ok(answered) => {
                let request = &frame[HEADERS..];
                let facts = scratch.scan.finish().expect("it was answered");
                let said = judge(&answer.0, request, usize::from(facts.max_size).clamp(576, 1500));
                let host = rack.host.map_or([0; 4], |host| host.address);
                assert_eq!(said.address.octets(), answered.address);
                let informed = matches!(answered.reason, Reason::Informed | Reason::BootServer);
                assert!(
                    said.address.octets() == host && !informed || said.address.is_unspecified(),
                    "{} is not the host's", said.address
                );
                assert!(answered.reason != Reason::Acked || rack.host.is_some_and(|host| host.promised_until() > 0));
            }
        }
    }
);

/// As [`fix_lengths`], for what is too short to have any.
fn fix_lengths_of(frame: &mut [u8]) {
    if frame.len() >= HEADERS {
        fix_lengths(frame);
    }
}
