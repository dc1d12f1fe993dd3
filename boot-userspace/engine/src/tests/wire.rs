//! What clients may write and seldom do: padding, orders, lengths, pieces, ports.

use super::*;
use boot_common::Reason;
use dhcproto::v4::relay::RelayInfo;

const ANYWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);

/// A DISCOVER of node1's firmware with these options between its own and END, and these bytes in `sname` and `file`.
fn discover_with(more: &[u8], names: &[u8]) -> Vec<u8> {
    let mut bytes = discover(NODE1).to_vec().unwrap();
    bytes.truncate(240);
    bytes[44..44 + names.len()].copy_from_slice(names);
    bytes.extend(more);
    bytes
}

/// Options that every message here has: DISCOVER, a PXE client of x86-64 UEFI, a client identifier.
fn own() -> Vec<(u8, Vec<u8>)> {
    vec![
        (53, vec![1]),
        (57, vec![5, 192]),
        (93, vec![0, 7]),
        (94, vec![1, 3, 0]),
        (60, b"PXEClient:Arch:00007:UNDI:003000".to_vec()),
        (61, vec![1, 0x52, 0x54, 0, 0, 0, 1]),
    ]
}

fn written(options: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let one = |(code, data): &(u8, Vec<u8>)| [&[*code, u8::try_from(data.len()).unwrap()][..], data].concat();
    options.iter().flat_map(one).collect()
}

/// The offer to node1 with its boot file and its client identifier.
fn assert_offered(lab: &mut Lab, bytes: &[u8], what: &str) {
    let offer = lab.send_bytes(bytes, 67, ANYWHERE);
    let offer = offer.unwrap_or_else(|| panic!("{what}: no answer to {} bytes", bytes.len()));
    assert_eq!(offer.kind(), MessageType::Offer, "{what}");
    assert_eq!(offer.message.yiaddr(), Ipv4Addr::new(10, 1, 1, 50), "{what}");
    assert!(offer.message.fname().is_some_and(|file| file.starts_with(b"snponly.efi")), "{what}");
    let identifier = Some(&DhcpOption::ClientIdentifier(vec![1, 0x52, 0x54, 0, 0, 0, 1]));
    assert_eq!(offer.option(OptionCode::ClientIdentifier), identifier, "{what}");
}

#[test]
fn padding_and_order_and_number_of_options_change_nothing() {
    let mut lab = Lab::new(CONFIG);
    for number in [0, 1, 15, 16, 17, 95, 96, 244, 600, 1100] {
        let pads = vec![0; number];
        let mut options = own();
        for turn in 0..options.len() {
            options.rotate_left(1);
            let [before, between] = [&options[..turn], &options[turn..]].map(written);
            let bytes = discover_with(&[&before[..], &pads, &between, &[255]].concat(), &[]);
            assert_offered(&mut lab, &bytes, &format!("{number} PADs after {turn} options"));
        }
    }
    // Each option that there is, with as much PAD as fits a frame between them.
    let all: Vec<u8> = (1..=254)
        .filter(|code| !matches!(code, 50 | 52..=55 | 57 | 60 | 61 | 77 | 82 | 93 | 94 | 97 | 175))
        .flat_map(|code| [code, 1, 9, 0])
        .collect();
    assert_offered(&mut lab, &discover_with(&[&all[..], &written(&own())].concat(), &[]), "all options");
    let empty: Vec<u8> = [224, 0].repeat(500);
    assert_offered(&mut lab, &discover_with(&[&empty[..], &written(&own())].concat(), &[]), "empty options");
}

#[test]
fn what_comes_behind_the_end_means_nothing() {
    let mut lab = Lab::new(CONFIG);
    let end = [&written(&own())[..], &[255]].concat();
    for garbage in [&[53, 1, 7][..], &[61, 200, 1], &[52, 1, 3], &[82], &[0xff; 60], &[0; 260]] {
        assert_offered(&mut lab, &discover_with(&[&end[..], garbage].concat(), &[]), "garbage behind END");
    }
    assert_offered(&mut lab, &discover_with(&end[..end.len() - 1], &[]), "no END");
    for length in [300, 548, 1472] {
        let mut bytes = discover_with(&end, &[]);
        bytes.resize(length, 0);
        assert_offered(&mut lab, &bytes, &format!("padded to {length}"));
    }
    // The shortest there is.
    let offer = lab.send_bytes(&discover_with(&[53, 1, 1], &[]), 67, ANYWHERE).unwrap();
    assert_eq!(offer.kind(), MessageType::Offer);
    // And no options at all, which is no message.
    assert!(lab.send_bytes(&discover_with(&[], &[]), 67, ANYWHERE).is_none());
}

#[test]
fn a_message_longer_than_a_frame_is_answered() {
    let mut lab = Lab::new(CONFIG);
    let end = [&written(&own())[..], &[255]].concat();
    for padding in [1300, 1500, 9000, 65_000] {
        let bytes = discover_with(&[&vec![0; padding][..], &end].concat(), &[]);
        assert_offered(&mut lab, &bytes, &format!("{padding} PADs"));
        let mut behind = discover_with(&end, &[]);
        behind.resize(240 + padding, 0);
        assert_offered(&mut lab, &behind, &format!("{padding} zeros behind END"));
    }
    // More than any message may have that nobody reads.
    let long: Vec<u8> = (0..40).flat_map(|_| [&[250, 255][..], &[3; 255]].concat()).collect();
    assert_offered(&mut lab, &discover_with(&[&long[..], &end].concat(), &[]), "long options");
}

#[test]
fn an_option_longer_than_one_piece_is_read_as_far_as_it_matters() {
    let mut lab = Lab::new(CONFIG);
    let piece = |code: u8, data: &[u8]| [&[code, u8::try_from(data.len()).unwrap()][..], data].concat();
    let mut options = own();
    options.retain(|(code, _)| *code != 60);
    let class = [b"PXEClient:Arch:00007:UNDI:003000 ".repeat(7), b" and more".repeat(4)].concat();
    let split = [piece(60, &class[..200]), written(&options), piece(60, &class[200..]), vec![255]].concat();
    assert!(class.len() > 255);
    assert_offered(&mut lab, &discover_with(&split, &[]), "a long class in two pieces");
}

#[test]
fn the_relays_option_is_echoed_from_whatever_field_it_came_in() {
    let mut lab = Lab::new(CONFIG);
    let agent = [82, 6, 1, 4, b'g', b'e', b'-', b'1'];
    let mut names = [0; 192];
    names[64..64 + agent.len()].copy_from_slice(&agent);
    names[64 + agent.len()] = 255;
    let options = [&[52, 1, 1][..], &written(&own()), &[255]].concat();
    let mut bytes = discover_with(&options, &names);
    bytes[24..28].copy_from_slice(&[10, 1, 0, 9]);
    let offer = lab.send_bytes(&bytes, 67, SocketAddrV4::new([10, 1, 0, 9].into(), 67)).expect("an offer");
    let echoed = offer.frame.windows(agent.len()).any(|window| window == agent);
    assert!(echoed, "{:02x?}", offer.frame);
    assert!(offer.message.fname().is_some_and(|file| file.starts_with(b"snponly.efi")));
}

/// An option 82 of nothing but empty sub-options is as many steps as one option can be.
#[test]
fn the_relays_option_may_have_as_many_sub_options_as_fit() {
    let mut lab = Lab::new(CONFIG);
    let agent = [&[82, 254][..], &[151, 0].repeat(127)].concat();
    let padding: Vec<u8> = [224, 0].repeat(300);
    let bytes = discover_with(&[&padding[..], &written(&own()), &agent, &[255]].concat(), &[]);
    assert_offered(&mut lab, &bytes, "127 sub-options");
}

#[test]
fn bootp_with_its_options_in_pieces_is_whole_all_the_same() {
    let mut lab = Lab::new(CONFIG);
    let mut bytes = discover_with(&[61, 1, 0, 61, 1, 9, 255], &[]);
    bytes.resize(300, 0);
    let reply = lab.send_bytes(&bytes, 67, ANYWHERE).expect("BOOTP's answer");
    assert_eq!(reply.message.yiaddr(), Ipv4Addr::new(10, 1, 1, 50));
}

#[test]
fn a_broken_message_is_dropped_with_its_reason() {
    let mut lab = Lab::new(CONFIG);
    let broken = discover_with(&[53, 1, 1, 61, 200, 1], &[]);
    for (bytes, reason) in [
        (broken, Reason::BadOption),
        (discover_with(&[53, 1, 1, 52, 1, 1, 255], &[&[0; 64][..], &[61, 250]].concat()), Reason::BadOption),
        (vec![1; 100], Reason::TooShort),
    ] {
        let before = lab.engine.counter(reason);
        assert!(lab.send_bytes(&bytes, 67, ANYWHERE).is_none());
        assert_eq!(lab.engine.counter(reason), before + 1, "{}", reason.name());
    }
}

#[test]
fn a_relay_that_names_its_source_port_is_answered_there() {
    let mut lab = Lab::new(CONFIG);
    let relay = Ipv4Addr::new(10, 1, 0, 9);
    let with_relay = |message: Message, sub_options: &[u8]| {
        let mut bytes = relayed(message, relay).to_vec().unwrap();
        let end = bytes.iter().rposition(|byte| *byte == 255).unwrap();
        let agent = [&[82, u8::try_from(sub_options.len()).unwrap()][..], sub_options, &[255]].concat();
        bytes.splice(end.., agent);
        bytes
    };
    let wrong = request(NODE1, Ipv4Addr::new(192, 168, 1, 1), None);
    // RFC 8357: sub-option 19, which is empty.
    for (sub_options, port) in [
        (&[1, 2, 7, 7, 19, 0][..], 40_067),
        (&[19, 0, 5, 4, 10, 1, 0, 0], 40_067),
        (&[1, 2, 7, 7], 67),
        (&[19, 1, 0], 67),
        (&[1, 2, 19, 0], 67),
    ] {
        for (message, kind) in [
            (discover(NODE1), MessageType::Offer),
            (discover(UNKNOWN), MessageType::Offer),
            (request(NODE1, Ipv4Addr::new(10, 1, 1, 50), Some(SERVER)), MessageType::Ack),
            (wrong.clone(), MessageType::Nak),
        ] {
            let bytes = with_relay(message, sub_options);
            let reply = lab.send_bytes(&bytes, 67, SocketAddrV4::new(relay, 40_067)).expect("an answer");
            assert_eq!(reply.kind(), kind);
            let to = SocketAddrV4::new(relay, port);
            assert_eq!(reply.via, Via::Socket { to, source: SERVER, port: 67 }, "{sub_options:?} {kind:?}");
            let echo = Some(&DhcpOption::RelayAgentInformation(decoded(sub_options)));
            assert_eq!(reply.option(OptionCode::RelayAgentInformation), echo, "{sub_options:?}");
        }
    }
    // Without a relay's address the option is a switch's, and the answer is the client's.
    let mut direct = with_relay(discover(NODE1), &[19, 0]);
    direct[24..28].fill(0);
    let reply = lab.send_bytes(&direct, 67, ANYWHERE).expect("an answer");
    assert_eq!(&reply.frame[36..38], 68_u16.to_be_bytes());
}

fn decoded(sub_options: &[u8]) -> relay::RelayAgentInformation {
    let mut all = relay::RelayAgentInformation::default();
    let mut rest = sub_options;
    while let [code, length, more @ ..] = rest {
        let (data, after) = more.split_at(usize::from(*length));
        let mut bytes = vec![*code, *length];
        bytes.extend(data);
        let info = RelayInfo::decode(&mut dhcproto::decoder::Decoder::new(&bytes)).unwrap();
        all.insert(info);
        rest = after;
    }
    all
}

#[test]
fn options_in_pieces_and_in_file_and_sname_are_read() {
    let mut lab = Lab::new(CONFIG);
    let mut bytes = discover(NODE1).to_vec().unwrap();
    let end = bytes.iter().rposition(|byte| *byte == 255).unwrap();
    // The client identifier in two pieces (RFC 3396).
    bytes.splice(end.., [61, 2, 0, 1, 61, 3, 2, 3, 4, 255]);
    let offer = lab.send_bytes(&bytes, 67, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68)).unwrap();
    let echoed = offer.option(OptionCode::ClientIdentifier);
    assert_eq!(echoed, Some(&DhcpOption::ClientIdentifier(vec![0, 1, 2, 3, 4])));
}

#[test]
fn short_answers_are_padded_to_300_bytes() {
    let mut lab = Lab::new(CONFIG);
    let nak = lab.send(&request(UNKNOWN, Ipv4Addr::new(192, 168, 1, 1), None)).unwrap();
    assert_eq!(payload(&nak.frame).len(), 300);
}

#[test]
fn options_in_file_and_sname_are_read() {
    let mut lab = Lab::new(CONFIG);
    let mut bytes = discover(NODE1).to_vec().unwrap();
    let end = bytes.iter().rposition(|byte| *byte == 255).unwrap();
    bytes.splice(end.., [52, 1, 3, 255]);
    bytes[44..50].copy_from_slice(&[61, 3, 7, 8, 9, 255]);
    bytes[108..113].copy_from_slice(&[57, 2, 5, 220, 255]);
    let offer = lab.send_bytes(&bytes, 67, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68)).unwrap();
    assert_eq!(
        offer.option(OptionCode::ClientIdentifier),
        Some(&DhcpOption::ClientIdentifier(vec![7, 8, 9]))
    );
    assert!(offer.message.sname().is_none_or(|name| name.iter().all(|byte| *byte == 0)));
}

#[test]
fn other_flags_are_copied_and_mean_nothing() {
    let mut lab = Lab::new(CONFIG);
    let mut message = discover(NODE1);
    message.set_flags(Flags::new(0x7fff));
    let offer = lab.send(&message).unwrap();
    assert_eq!(u16::from(offer.message.flags()), 0x7fff);
    assert_eq!(offer.ip_destination(), Ipv4Addr::new(10, 1, 1, 50), "no broadcast");
}

#[test]
fn what_only_clients_may_send_never_comes_back() {
    let mut lab = Lab::new(CONFIG);
    let address = Ipv4Addr::new(10, 1, 1, 50);
    let wishes = |mut message: Message| {
        let options = message.opts_mut();
        options.insert(DhcpOption::RequestedIpAddress(address));
        options.insert(DhcpOption::MaxMessageSize(1400));
        let list = [50, 55, 57, 1, 3].map(OptionCode::from).to_vec();
        options.insert(DhcpOption::ParameterRequestList(list));
        message
    };
    for message in [wishes(discover(NODE1)), wishes(request(NODE1, address, Some(SERVER)))] {
        let reply = lab.send(&message).unwrap();
        for code in [50, 55, 57] {
            assert!(reply.option(OptionCode::from(code)).is_none(), "{code}");
        }
        assert!(reply.option(OptionCode::ClientIdentifier).is_none(), "none was sent");
    }
}
