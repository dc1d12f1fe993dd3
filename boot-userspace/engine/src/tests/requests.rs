//! REQUEST in each of the states that a client may be in, and INFORM.

use super::*;

#[test]
fn selecting_what_was_not_offered_is_refused() {
    let mut lab = Lab::new(CONFIG);
    let nak = lab.send(&request(UNKNOWN, Ipv4Addr::new(10, 1, 1, 34), Some(SERVER))).unwrap();
    assert_eq!(nak.kind(), MessageType::Nak);
    assert_eq!(nak.message.yiaddr(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(nak.message.siaddr(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(nak.ip_destination(), Ipv4Addr::BROADCAST);
    assert!(nak.option(OptionCode::AddressLeaseTime).is_none());
    assert!(nak.option(OptionCode::ServerIdentifier).is_some());
}

#[test]
fn init_reboot_is_confirmed_refused_or_left_alone() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    assert_eq!(lab.send(&request(UNKNOWN, address, None)).unwrap().kind(), MessageType::Ack);
    let wrong_address = request(UNKNOWN, Ipv4Addr::new(10, 1, 1, 99), None);
    assert_eq!(lab.send(&wrong_address).unwrap().kind(), MessageType::Nak);
    let wrong_network = request(OTHER, Ipv4Addr::new(192, 168, 1, 1), None);
    assert_eq!(lab.send(&wrong_network).unwrap().kind(), MessageType::Nak);
    let not_ours = request(OTHER, Ipv4Addr::new(10, 1, 1, 99), None);
    assert!(lab.send(&not_ours).is_none());
}

#[test]
fn a_renewal_is_answered_to_the_clients_address() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    lab.later(300);
    let ack = lab.send(&renewal(UNKNOWN, address)).unwrap();
    assert_eq!(ack.kind(), MessageType::Ack);
    assert_eq!((ack.message.ciaddr(), ack.message.yiaddr()), (address, address));
    assert_eq!(ack.via, Via::Socket { to: SocketAddrV4::new(address, 68), source: SERVER, port: 67 });
}

#[test]
fn rebinding_with_somebody_elses_address_is_not_confirmed() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    assert!(lab.send(&renewal(OTHER, address)).is_none(), "we know nothing of it");
    lab.leased(OTHER);
    assert_eq!(lab.send(&renewal(OTHER, address)).unwrap().kind(), MessageType::Nak);
}

#[test]
fn inform_is_answered_without_an_address_or_a_lease() {
    let mut lab = Lab::new(CONFIG);
    let mut inform = message(UNKNOWN, MessageType::Inform);
    inform.set_ciaddr(Ipv4Addr::new(10, 1, 7, 7));
    let ack = lab.send(&inform).unwrap();
    assert_eq!(ack.kind(), MessageType::Ack);
    assert_eq!(ack.message.yiaddr(), Ipv4Addr::UNSPECIFIED);
    assert!(ack.option(OptionCode::AddressLeaseTime).is_none());
    assert!(matches!(ack.via, Via::Socket { to, .. } if *to.ip() == Ipv4Addr::new(10, 1, 7, 7)));
    assert!(lab.changes.is_empty());
}

#[test]
fn every_address_of_ours_is_accepted_as_server_identifier() {
    let second = Ipv4Addr::new(10, 1, 0, 4);
    let mut lab = Lab::new(CONFIG);
    lab.engine.policy.add_address(7, second);
    let address = lab.offered(NODE1);
    let ack = lab.send(&request(NODE1, address, Some(second))).unwrap();
    assert_eq!(ack.kind(), MessageType::Ack);
}

#[test]
fn answers_never_go_to_loopback_or_groups() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    for nobody in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::BROADCAST] {
        assert!(lab.send(&relayed(discover(UNKNOWN), nobody)).is_none());
        let mut inform = message(UNKNOWN, MessageType::Inform);
        inform.set_ciaddr(nobody);
        let from = SocketAddrV4::new(address, 68);
        assert!(lab.send_to(&inform, 67, from).is_none());
    }
    assert!(lab.send(&message(UNKNOWN, MessageType::Inform)).is_none(), "nowhere to send it");
}
