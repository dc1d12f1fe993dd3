//! Clients behind relays, and option 82.

use super::*;

#[test]
fn a_relay_gets_the_answer_and_decides_the_subnet() {
    let mut lab = Lab::new(CONFIG);
    let giaddr = Ipv4Addr::new(10, 2, 0, 1);
    let offer = lab.send_to(&relayed(discover(UNKNOWN), giaddr), 67, SocketAddrV4::new(giaddr, 67)).unwrap();
    assert_eq!(offer.message.yiaddr(), Ipv4Addr::new(10, 2, 0, 100));
    assert_eq!(offer.message.giaddr(), giaddr);
    assert_eq!(offer.via, Via::Socket { to: SocketAddrV4::new(giaddr, 67), source: SERVER, port: 67 });
    let ack = request(UNKNOWN, offer.message.yiaddr(), Some(SERVER));
    let ack = lab.send_to(&relayed(ack, giaddr), 67, SocketAddrV4::new(giaddr, 67)).unwrap();
    assert_eq!(ack.kind(), MessageType::Ack);
    assert!(lab.send(&relayed(discover(UNKNOWN), Ipv4Addr::new(10, 99, 0, 1))).is_none(), "of no subnet");
}

#[test]
fn link_selection_overrides_the_relays_address_and_option_82_comes_back_last() {
    let mut lab = Lab::new(CONFIG);
    let giaddr = Ipv4Addr::new(10, 1, 0, 3);
    let mut message = relayed(discover(UNKNOWN), giaddr);
    let mut info = relay::RelayAgentInformation::default();
    info.insert(relay::RelayInfo::AgentCircuitId(b"port 7".to_vec()));
    info.insert(relay::RelayInfo::LinkSelection(Ipv4Addr::new(10, 2, 0, 0)));
    message.opts_mut().insert(DhcpOption::RelayAgentInformation(info.clone()));
    let offer = lab.send(&message).unwrap();
    assert_eq!(offer.message.yiaddr(), Ipv4Addr::new(10, 2, 0, 100));
    assert_eq!(
        offer.option(OptionCode::RelayAgentInformation),
        Some(&DhcpOption::RelayAgentInformation(info))
    );
    assert!(matches!(offer.via, Via::Socket { to, .. } if *to.ip() == giaddr));
    let end = offer.frame.iter().rposition(|byte| *byte == 255).unwrap();
    assert_eq!(&offer.frame[end - 6..end], [5, 4, 10, 2, 0, 0], "nothing behind it but END");
}

#[test]
fn a_refusal_through_a_relay_asks_it_to_broadcast() {
    let mut lab = Lab::new(CONFIG);
    let giaddr = Ipv4Addr::new(10, 2, 0, 1);
    let wrong = relayed(request(UNKNOWN, Ipv4Addr::new(192, 168, 1, 1), None), giaddr);
    let nak = lab.send(&wrong).unwrap();
    assert_eq!(nak.kind(), MessageType::Nak);
    assert!(nak.message.flags().broadcast());
    assert!(matches!(nak.via, Via::Socket { to, .. } if to == SocketAddrV4::new(giaddr, 67)));
}

#[test]
fn the_server_identifier_a_relay_wants_is_used_and_accepted() {
    let mut lab = Lab::new(CONFIG);
    let giaddr = Ipv4Addr::new(10, 2, 0, 1);
    let wanted = Ipv4Addr::new(10, 2, 0, 9);
    let mut info = relay::RelayAgentInformation::default();
    info.insert(relay::RelayInfo::ServerIdentifierOverride(wanted));
    let through = |mut message: Message| {
        message.opts_mut().insert(DhcpOption::RelayAgentInformation(info.clone()));
        relayed(message, giaddr)
    };
    let offer = lab.send(&through(discover(UNKNOWN))).unwrap();
    assert_eq!(offer.option(OptionCode::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(wanted)));
    let ack = lab.send(&through(request(UNKNOWN, offer.message.yiaddr(), Some(wanted)))).unwrap();
    assert_eq!(ack.kind(), MessageType::Ack);
}

#[test]
fn option_82_that_does_not_fit_is_left_out_whole_and_malformed_it_comes_back_as_it_was() {
    let mut lab = Lab::new(CONFIG);
    let giaddr = Ipv4Addr::new(10, 1, 0, 3);
    let with = |relay: &[u8], size: u16| {
        let mut message = relayed(pxe(discover(NODE1), 7, "PXEClient:Arch:00007:UNDI:003000"), giaddr);
        message.opts_mut().insert(DhcpOption::MaxMessageSize(size));
        message.opts_mut().insert(DhcpOption::ClientIdentifier(vec![7; 100]));
        let mut bytes = message.to_vec().unwrap();
        let end = bytes.iter().rposition(|byte| *byte == 255).unwrap();
        bytes.truncate(end);
        bytes.extend([82, u8::try_from(relay.len()).unwrap()]);
        bytes.extend(relay);
        bytes.push(255);
        bytes
    };
    let from = SocketAddrV4::new(giaddr, 67);
    let long = [&[1, 198][..], &[9; 198]].concat();
    let small = lab.send_bytes(&with(&long, 576), 67, from).unwrap();
    assert!(small.frame.len() - 14 <= 576);
    assert!(!small.frame.windows(4).any(|bytes| bytes == [82, 200, 1, 198]), "not even a part of it");
    let large = lab.send_bytes(&with(&long, 1400), 67, from).unwrap();
    assert!(large.frame.windows(4).any(|bytes| bytes == [82, 200, 1, 198]));
    for malformed in [&[1, 9, 7][..], &[255], &[0, 0, 5], &[5, 4, 10]] {
        let reply = lab.send_bytes(&with(malformed, 1400), 67, from).unwrap();
        let whole = [&[82, u8::try_from(malformed.len()).unwrap()][..], malformed, &[255]].concat();
        assert!(reply.frame.windows(whole.len()).any(|bytes| bytes == whole), "{malformed:?}");
    }
}

#[test]
fn beside_long_options_that_come_back_and_option_82_there_is_only_the_room_that_there_is() {
    let mut lab = Lab::new(CONFIG);
    let giaddr = Ipv4Addr::new(10, 1, 0, 3);
    let mut message = relayed(discover(UNKNOWN), giaddr);
    message.opts_mut().insert(DhcpOption::MaxMessageSize(576));
    message.opts_mut().insert(DhcpOption::ClientIdentifier(vec![7; 250]));
    let mut info = relay::RelayAgentInformation::default();
    info.insert(relay::RelayInfo::AgentCircuitId(vec![9; 200]));
    message.opts_mut().insert(DhcpOption::RelayAgentInformation(info));
    let offer =
        lab.send_to(&message, 67, SocketAddrV4::new(giaddr, 67)).expect("an answer with fewer options");
    assert!(offer.frame.len() - 14 <= 576);
    assert!(offer.option(OptionCode::RelayAgentInformation).is_none());
}
