use std::vec::Vec;

use proptest::prelude::*;
use zerocopy::network_endian::U32;
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::*;
use crate::Mac;
use crate::decide::message;
use crate::frame::Bytes;
use crate::memory::Memory;
use crate::tables::{Answer, AnswerKey, Host, IGNORED_SET, LinkEntry, role};
use crate::wire::{MAGIC, SNAME_AND_FILE, Sum, op};

const SERVER: u32 = 2;
const PROXY: u32 = 3;
const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const CLIENT: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
const US: [u8; 4] = [10, 0, 0, 1];
const YOU: [u8; 4] = [10, 0, 0, 7];

/// One machine and, for every class, answers that say "53, 54" only.
fn rack() -> Memory {
    let mut rack = Memory::default();
    for (ifindex, role) in [(SERVER, role::SERVER), (PROXY, role::PROXY), (4, role::OFF)] {
        let link = LinkEntry { mac: OUR_MAC, role, unknown_ask: 0, address: US, proxy_set: 9 };
        rack.links.insert(ifindex, link);
    }
    let mut host = Host::new_zeroed();
    (host.answer_set, host.address, host.mask) = (1, YOU, [255, 255, 255, 0]);
    (host.durable_until, host.bound_until) = (61_000_000_000, 61_000_000_000);
    host.options[..6].copy_from_slice(&[12, 4, b'n', b'a', b'm', b'e']);
    (host.options_length, host.options_sum) = (6, Sum::ZERO.bytes(&host.options[..6]).folded());
    rack.hosts.insert(CLIENT.into(), host);
    for class in Class::answered() {
        for (set, message) in [
            (1, message::OFFER),
            (1, message::ACK),
            (1, message::INFORM),
            (9, message::OFFER),
            (9, message::BOOT_ACK),
        ] {
            let key = AnswerKey { set, wanted: 0, class: class.key(), message, reserved: [0; 2] };
            rack.answers.insert(key, prepared(message));
        }
    }
    for list in [&[1, 12][..], &[1, 3]] {
        let wanted = crate::facts::wanted(list);
        let (class, message) = (Class::OS.key(), message::OFFER);
        let key = AnswerKey { set: 1, wanted, class, message, reserved: [0; 2] };
        rack.answers.insert(key, prepared(message));
    }
    rack
}

fn prepared(message: u8) -> Answer {
    let mut answer = Answer::new_zeroed();
    (answer.siaddr, answer.server_id, answer.lease) = (US, US, 60);
    answer.body[SNAME_AND_FILE..SNAME_AND_FILE + 4].copy_from_slice(&MAGIC.to_be_bytes());
    let options = [53, 1, message, 54, 4, US[0], US[1], US[2], US[3], 0];
    answer.body[SNAME_AND_FILE + 4..SNAME_AND_FILE + 14].copy_from_slice(&options);
    answer.body_length = u16::try_from(SNAME_AND_FILE + 14).unwrap();
    answer.body_sum = Sum::ZERO.bytes(&answer.body[..SNAME_AND_FILE + 14]).folded();
    answer
}

/// A broadcast request with these options, without a UDP checksum.
fn request(options: &[u8]) -> Vec<u8> {
    let mut request = Request::new_zeroed();
    (request.eth.destination, request.eth.source) = (Mac::BROADCAST, CLIENT);
    request.eth.ethertype.set(0x0800);
    (request.ip.version_ihl, request.ip.ttl, request.ip.protocol) = (0x45, 64, 17);
    request.ip.destination = [255; 4];
    request.udp.source.set(68);
    request.udp.destination.set(67);
    (request.bootp.op, request.bootp.htype, request.bootp.hlen) = (op::REQUEST, 1, 6);
    request.bootp.xid = U32::new(0x0102_0304);
    request.bootp.chaddr[..6].copy_from_slice(&CLIENT.0);
    request.magic = U32::new(MAGIC);
    request.options[..options.len()].copy_from_slice(options);
    let length = Request::OPTIONS + options.len();
    request.ip.total_length.set(u16::try_from(length - 14).unwrap());
    request.udp.length.set(u16::try_from(length - 34).unwrap());
    request.ip.checksum.set(request.ip.sum().checksum());
    request.as_bytes()[..length].to_vec()
}

fn ask(frame: &[u8], ifindex: u32, now: u64) -> Result<(Answered, Vec<u8>), Reason> {
    let mut bytes = Bytes(frame.to_vec());
    let mut scratch = Scratch::new();
    scratch.as_mut_bytes().fill(0x5a);
    match respond(&mut bytes, &mut scratch, &rack(), ifindex, || now) {
        Ok(answered) => Ok((answered, bytes.0)),
        Err(reason) => {
            assert_eq!(bytes.0, frame, "{reason:?} changed the frame");
            Err(reason)
        }
    }
}

/// A request in which some bytes are other ones: how it ends.
fn spoilt(at: usize, bytes: &[u8], repair: bool) -> Result<Reason, Reason> {
    let mut frame = request(&[53, 1, 1, 255]);
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    if repair {
        frame[24..26].fill(0);
        let sum = Sum::ZERO.bytes(&frame[14..34]).checksum();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    ask(&frame, SERVER, 0).map(|(answered, _)| answered.reason)
}

#[test]
fn each_header_field_is_looked_at() {
    assert_eq!(spoilt(0, &[], false), Ok(Reason::Offered));
    for (at, bytes, repair, reason) in [
        (0, &[2, 0, 0, 0, 0, 9][..], false, Reason::ForeignMac),
        (12, &[0x86, 0xdd], false, Reason::NotOurs),
        (14, &[0x46], true, Reason::IpOptions),
        (14, &[0x65], true, Reason::NotOurs),
        (16, &[0xff, 0xff], true, Reason::TooLong),
        (16, &[0x02, 0], true, Reason::TooShort),
        (16, &[0, 20], true, Reason::TooShort),
        (20, &[0x20, 0], true, Reason::Fragment),
        (20, &[0, 1], true, Reason::Fragment),
        (22, &[63], false, Reason::BadIpChecksum),
        (23, &[6], true, Reason::NotOurs),
        (26, &[127, 0, 0, 1], true, Reason::BadSource),
        (26, &[224, 0, 0, 1], true, Reason::BadSource),
        (30, &[10, 0, 0, 2], true, Reason::ForeignIp),
        (34, &[0, 0], false, Reason::BadSource),
        (36, &[0, 69], false, Reason::Tftp),
        (36, &[0, 68], false, Reason::NotOurs),
        (38, &[0, 8], false, Reason::BadUdpLength),
        (40, &[1, 2], false, Reason::BadUdpChecksum),
        (42, &[2], false, Reason::NotARequest),
        (43, &[6], false, Reason::NotEthernet),
        (44, &[255], false, Reason::NotEthernet),
        (66, &[10, 9, 0, 2], false, Reason::OtherSubnet),
        (66, &US, false, Reason::BadRelay),
        (66, &[10, 0, 0, 0], false, Reason::BadRelay),
        (66, &[10, 0, 0, 255], false, Reason::BadRelay),
        (66, &[127, 0, 0, 1], false, Reason::BadSource),
        (66, &[255; 4], false, Reason::BadSource),
        (70, &[1], false, Reason::NotEthernet),
        (75, &[9], false, Reason::UnknownHost),
        (278, &[0], false, Reason::BadCookie),
        (284, &[4], false, Reason::OtherMessage),
        (284, &[3], false, Reason::OtherAddress),
        (282, &[0, 0, 0], false, Reason::NoMessageType),
        (282, &[53, 9, 1], false, Reason::BadOption),
    ] {
        assert_eq!(spoilt(at, bytes, repair), Err(reason), "{bytes:?} at {at}");
    }
}

#[test]
fn an_ack_promises_no_more_than_is_stored() {
    let frame = request(&[53, 1, 3, 54, 4, 10, 0, 0, 1, 50, 4, 10, 0, 0, 7, 255]);
    assert_eq!(ask(&frame, SERVER, 1_000_000_000).unwrap().0.reason, Reason::Acked);
    assert_eq!(ask(&frame, SERVER, 1_000_000_001).unwrap_err(), Reason::NotDurable);
    assert_eq!(ask(&frame, SERVER, u64::MAX).unwrap_err(), Reason::NotDurable);
}

#[test]
fn an_ack_promises_a_reserved_address_whatever_is_stored() {
    let frame = request(&[53, 1, 3, 54, 4, 10, 0, 0, 1, 50, 4, 10, 0, 0, 7, 255]);
    let ask = |durable_until, bound_until| {
        let mut rack = rack();
        let host = rack.hosts.get_mut(&CLIENT.into()).expect("the machine");
        (host.durable_until, host.bound_until) = (durable_until, bound_until);
        respond(&mut Bytes(frame.clone()), &mut Scratch::new(), &rack, SERVER, || 1_000_000_000)
            .map(|answered| answered.reason)
    };
    assert_eq!(ask(0, u64::MAX), Ok(Reason::Acked));
    assert_eq!(ask(0, u64::MAX - 1), Err(Reason::NotDurable), "bound, but not stored");
}

#[test]
fn each_client_state_names_its_address_in_its_own_way() {
    let state = |ciaddr: [u8; 4], options: &[u8]| {
        let mut frame = request(options);
        frame[54..58].copy_from_slice(&ciaddr);
        ask(&frame, SERVER, 0).map(|(answered, answer)| (answered.reason, answer))
    };
    let reboot = [53, 1, 3, 50, 4, 10, 0, 0, 7, 255];
    assert_eq!(state([0; 4], &reboot).unwrap().0, Reason::Acked);
    assert_eq!(state([10, 0, 0, 8], &reboot).unwrap_err(), Reason::OtherAddress);
    let (reason, renewed) = state(YOU, &[53, 1, 3, 255]).unwrap();
    assert_eq!(reason, Reason::Acked);
    assert_eq!((&renewed[30..34], &renewed[54..62]), (&YOU[..], &[10, 0, 0, 7, 10, 0, 0, 7][..]));
    assert_eq!(state([10, 0, 0, 8], &[53, 1, 3, 255]).unwrap_err(), Reason::OtherAddress);
    assert_eq!(state([0; 4], &[53, 1, 3, 255]).unwrap_err(), Reason::OtherAddress);
    let (reason, informed) = state(YOU, &[53, 1, 8, 255]).unwrap();
    assert_eq!((reason, &informed[58..62]), (Reason::Informed, &[0; 4][..]));
    assert_eq!(state([0; 4], &[53, 1, 8, 255]).unwrap_err(), Reason::OtherMessage);
}

#[test]
fn a_relay_is_answered_and_may_choose_subnet_and_server_identifier() {
    let relayed = |giaddr: [u8; 4], relay: &[u8]| {
        let mut options = std::vec![53, 1, 1, 82, u8::try_from(relay.len()).unwrap()];
        options.extend(relay);
        options.push(255);
        let mut frame = request(&options);
        frame[66..70].copy_from_slice(&giaddr);
        ask(&frame, SERVER, 0).map(|(_, answer)| answer)
    };
    let circuit = [1, 2, 7, 7];
    let answer = relayed([10, 0, 0, 3], &circuit).unwrap();
    assert_eq!((&answer[30..34], &answer[36..38]), (&[10, 0, 0, 3][..], &[0, 67][..]));
    let end = answer.iter().rposition(|byte| *byte == 255).unwrap();
    assert_eq!(answer[end - 6..end], [82, 4, 1, 2, 7, 7], "last");
    assert_eq!(relayed([10, 9, 0, 3], &circuit).unwrap_err(), Reason::OtherSubnet);
    assert!(relayed([10, 9, 0, 3], &[1, 2, 7, 7, 5, 4, 10, 0, 0, 0]).is_ok());
    assert_eq!(relayed([10, 0, 0, 3], &[5, 4, 10, 9, 0, 0]).unwrap_err(), Reason::OtherSubnet);
    assert!(relayed([0; 4], &[5, 4, 10, 9, 0, 0]).is_ok(), "not trusted without a relay's address");
    assert!(relayed([10, 0, 0, 3], &[5, 4, 10]).is_ok(), "malformed inside is the relay's business");
    let answer = relayed([10, 0, 0, 3], &[11, 4, 10, 0, 0, 99]).unwrap();
    assert_eq!(answer[Request::OPTIONS + 3..Request::OPTIONS + 9], [54, 4, 10, 0, 0, 99]);
    let udp = Sum::ZERO
        .bytes(&answer[26..34])
        .word(17)
        .word(u16::try_from(answer.len() - 34).unwrap())
        .bytes(&answer[34..]);
    assert_eq!(udp.folded(), 0xffff, "with the exchanged identifier");
}

#[test]
fn a_proxy_asks_the_daemon_about_strangers_where_it_has_to() {
    let frame = request(b"\x35\x01\x01\x3c\x09PXEClient\xff");
    let mut tables = rack();
    tables.hosts.clear();
    tables.links.get_mut(&PROXY).unwrap().unknown_ask = 1;
    let ask = |tables: &Memory| {
        let mut bytes = Bytes(frame.clone());
        respond(&mut bytes, &mut Scratch::new(), tables, PROXY, || 0).map(|answered| answered.reason)
    };
    assert_eq!(ask(&tables), Err(Reason::UnknownHost));
    let mut host = Host::new_zeroed();
    (host.answer_set, host.mask) = (9, [255; 4]);
    tables.hosts.insert(CLIENT.into(), host);
    assert_eq!(ask(&tables), Ok(Reason::Offered));
    tables.hosts.get_mut(&CLIENT.into()).unwrap().address = YOU;
    assert_eq!(ask(&tables), Err(Reason::OtherSubnet), "an entry of a server's has a lease in its answers");
}

#[test]
fn who_is_known_by_its_switch_port_is_the_daemons_when_it_shows_one() {
    let mut tables = rack();
    tables.hosts.get_mut(&CLIENT.into()).unwrap().port_decides = 1;
    let mut proxied = Host::new_zeroed();
    (proxied.answer_set, proxied.mask, proxied.port_decides) = (9, [255; 4], 1);
    let class = b"\x3c\x09PXEClient";
    for (ifindex, host) in [(SERVER, None), (PROXY, Some(proxied))] {
        tables.hosts.extend(host.map(|host| (CLIENT.into(), host)));
        for (port, outcome) in [(&[][..], Ok(Reason::Offered)), (&[82, 3, 1, 1, 7], Err(Reason::SwitchPort))]
        {
            let mut bytes = Bytes(request(&[&[53, 1, 1], &class[..], port, &[255]].concat()));
            let answered = respond(&mut bytes, &mut Scratch::new(), &tables, ifindex, || 0);
            assert_eq!(answered.map(|answered| answered.reason), outcome, "{ifindex} {port:?}");
        }
    }
}

#[test]
fn who_is_ignored_gets_no_answer_from_any_service_unless_its_switch_port_says_who_it_is() {
    let class = b"\x3c\x09PXEClient";
    for port_decides in [0, 1] {
        let mut tables = rack();
        let mut host = Host::new_zeroed();
        (host.answer_set, host.mask, host.port_decides) = (IGNORED_SET, [255; 4], port_decides);
        tables.hosts.insert(CLIENT.into(), host);
        for ifindex in [SERVER, PROXY] {
            for port in [&[][..], &[82, 3, 1, 1, 7]] {
                let mut bytes = Bytes(request(&[&[53, 1, 1], &class[..], port, &[255]].concat()));
                let answered = respond(&mut bytes, &mut Scratch::new(), &tables, ifindex, || 0);
                let expected =
                    if port_decides == 1 && !port.is_empty() { Reason::SwitchPort } else { Reason::Ignored };
                assert_eq!(answered.map(|answered| answered.reason), Err(expected), "{ifindex} {port:?}");
            }
        }
    }
}

#[test]
fn each_interface_has_its_role() {
    let plain = request(&[53, 1, 1, 255]);
    let pxe = request(b"\x35\x01\x01\x3c\x09PXEClient\xff");
    assert_eq!(ask(&plain, PROXY, 0).unwrap_err(), Reason::NotPxe);
    assert_eq!(ask(&plain, 4, 0).unwrap_err(), Reason::RoleOff);
    assert_eq!(ask(&plain, 5, 0).unwrap_err(), Reason::NoLink);
    let mut unknown = pxe.clone();
    unknown[75] = 9;
    let (answered, frame) = ask(&unknown, PROXY, 0).unwrap();
    assert_eq!((answered.reason, answered.address), (Reason::Offered, [0; 4]));
    assert_eq!(frame[..6], Mac::BROADCAST.0);
}

#[test]
fn an_answer_has_the_machines_own_options_the_echoes_and_the_end() {
    let frame = request(&[61, 3, 1, 2, 3, 53, 1, 1, 255]);
    let (_, answer) = ask(&frame, SERVER, 0).unwrap();
    let tail = &answer[Request::OPTIONS..];
    assert!(
        tail.starts_with(&[
            53, 1, 2, 54, 4, 10, 0, 0, 1, 0, 12, 4, b'n', b'a', b'm', b'e', 61, 3, 1, 2, 3, 255
        ]),
        "{tail:?}"
    );
    assert_eq!((answer[42], &answer[46..50]), (op::REPLY, &[1, 2, 3, 4][..]));
}

#[test]
fn the_name_comes_when_it_is_asked_for_or_nothing_is() {
    let name = b"\x0c\x04name";
    for (list, comes) in [(&[][..], true), (&[55, 2, 1, 12], true), (&[55, 2, 1, 3], false)] {
        let (_, answer) = ask(&request(&[&[53, 1, 1][..], list, &[255]].concat()), SERVER, 0).unwrap();
        assert_eq!(answer.windows(6).any(|bytes| bytes == name), comes, "{list:?}");
        let udp = Sum::ZERO.bytes(&answer[26..34]).word(17).bytes(&answer[38..40]).bytes(&answer[34..]);
        assert_eq!(udp.folded(), 0xffff);
    }
}

#[test]
fn an_answer_that_the_client_cannot_take_is_not_sent() {
    let mut options = std::vec![53, 1, 1, 61, 255];
    options.resize(5 + 255, 7);
    options.extend([82, 100]);
    options.resize(options.len() + 100, 7);
    // Without option 82, which is echoed too.
    options.truncate(260);
    assert_eq!(ask(&request(&options), SERVER, 0).unwrap().0.reason, Reason::Offered);
    let mut tables = rack();
    for answer in tables.answers.values_mut() {
        answer.body_length = 500;
    }
    let mut bytes = Bytes(request(&options));
    let answered = respond(&mut bytes, &mut Scratch::new(), &tables, SERVER, || 0);
    assert_eq!(answered.unwrap_err(), Reason::ReplyTooBig);
    // With option 57 = 1500 it may be as long as a frame.
    options.extend([57, 2, 5, 220]);
    let mut bytes = Bytes(request(&options));
    assert!(respond(&mut bytes, &mut Scratch::new(), &tables, SERVER, || 0).is_ok());
}

#[test]
fn entries_that_make_no_sense_are_no_answer() {
    let frame = request(&[53, 1, 1, 255]);
    let spoilt = |spoil: &dyn Fn(&mut Memory)| {
        let mut tables = rack();
        spoil(&mut tables);
        respond(&mut Bytes(frame.clone()), &mut Scratch::new(), &tables, SERVER, || 0).unwrap_err()
    };
    let length = |length: u16| spoilt(&|rack| rack.answers.values_mut().for_each(|a| a.body_length = length));
    for wrong in [0, 195, u16::MAX] {
        assert_eq!(length(wrong), Reason::NoAnswer, "{wrong}");
    }
    assert_eq!(
        spoilt(&|rack| rack.hosts.values_mut().for_each(|host| host.options_length = 82)),
        Reason::NoAnswer
    );
    assert_eq!(spoilt(&|rack| rack.answers.clear()), Reason::NoAnswer);
    assert_eq!(
        spoilt(&|rack| rack.hosts.values_mut().for_each(|host| host.address = [10, 9, 0, 7])),
        Reason::OtherSubnet
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever arrives: an answer or a reason, and never a panic.
    #[test]
    fn any_bytes_have_an_outcome(frame in prop::collection::vec(any::<u8>(), 0..1600), ifindex in 0..6_u32) {
        drop(ask(&frame, ifindex, 0));
    }

    /// The same behind headers that are right.
    #[test]
    fn any_options_have_an_outcome(
        options in prop::collection::vec(any::<u8>(), 0..1230),
        start in prop_oneof![Just(&[][..]), Just(&[53_u8, 1, 1][..]), Just(&[53, 1, 3, 54, 4, 10, 0, 0, 1, 50, 4, 10, 0, 0, 7][..])],
        ifindex in 0..6_u32,
    ) {
        let options = [start, &options].concat();
        drop(ask(&request(&options[..options.len().min(1230)]), ifindex, 0));
    }

    /// Answers carry right checksums whatever is echoed in them.
    #[test]
    fn checksums_are_right(identifier in prop::collection::vec(any::<u8>(), 1..200), xid in any::<u32>()) {
        let mut options = std::vec![53, 1, 1, 61, u8::try_from(identifier.len()).unwrap()];
        options.extend(identifier);
        let mut frame = request(&options);
        frame[46..50].copy_from_slice(&xid.to_be_bytes());
        let (_, answer) = ask(&frame, SERVER, 0).unwrap();
        prop_assert_eq!(Sum::ZERO.bytes(&answer[14..34]).folded(), 0xffff);
        let udp = Sum::ZERO.bytes(&answer[26..34]).word(17).bytes(&answer[38..40]).bytes(&answer[34..]);
        prop_assert_eq!(udp.folded(), 0xffff);
        prop_assert_ne!(&answer[40..42], &[0, 0][..]);
    }
}
