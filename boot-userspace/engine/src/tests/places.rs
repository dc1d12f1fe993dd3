//! Several subnets directly on an interface.

use super::*;

/// The first address of the second subnet's pool.
const THERE: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 100);

fn mask(reply: &Reply) -> Ipv4Addr {
    match reply.option(OptionCode::SubnetMask) {
        Some(DhcpOption::SubnetMask(mask)) => *mask,
        other => panic!("{other:?}"),
    }
}

/// A third machine, for which the first subnet's pool has nothing left.
fn third(lab: &mut Lab) -> Mac {
    lab.leased(UNKNOWN);
    lab.leased(OTHER);
    Mac([0x52, 0x54, 0, 0, 0, 0x97])
}

#[test]
fn when_a_pool_is_empty_the_next_one_on_the_wire_is_used() {
    let mut lab = Lab::with_second_subnet(CONFIG);
    let third = third(&mut lab);
    let offer = lab.send(&discover(third)).expect("an offer");
    assert_eq!(offer.message.yiaddr(), THERE);
    assert_eq!(mask(&offer), Ipv4Addr::new(255, 255, 255, 0), "its own subnet's options");
    assert_eq!(offer.option(OptionCode::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(SECOND)));
    assert_eq!(offer.option(OptionCode::Router), None);
    let ack = lab.send(&request(third, THERE, Some(SECOND))).expect("an answer");
    assert_eq!((ack.kind(), ack.message.yiaddr(), mask(&ack)), (MessageType::Ack, THERE, mask(&offer)));
    assert!(
        matches!(lab.changes.last(), Some(Change::Put(lease)) if lease.subnet.to_string() == "10.2.0.0/24")
    );
    for message in [request(third, THERE, None), renewal(third, THERE)] {
        assert_eq!(lab.send(&message).expect("an answer").kind(), MessageType::Ack);
    }
    assert_eq!(lab.send_to_server(&renewal(third, THERE)).unwrap().kind(), MessageType::Ack);
    assert_eq!(
        lab.send(&request(third, Ipv4Addr::new(10, 2, 0, 101), None)).unwrap().kind(),
        MessageType::Nak
    );
    assert_eq!(lab.engine.pools(lab.now).iter().map(|pool| pool.refused).sum::<u64>(), 0);
}

#[test]
fn behind_a_relay_its_subnet_is_the_only_one() {
    let mut lab = Lab::with_second_subnet(CONFIG);
    let third = third(&mut lab);
    assert!(lab.send(&relayed(discover(third), Ipv4Addr::new(10, 1, 0, 3))).is_none());
    assert_eq!(lab.engine.pools(lab.now).iter().map(|pool| pool.refused).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn an_address_of_the_second_subnet_that_somebody_uses_is_followed_by_the_next() {
    let mut lab = Lab::with_second_subnet(CONFIG);
    let third = third(&mut lab);
    lab.squatter = Some("02:00:00:00:00:77".to_owned());
    lab.probes.clear();
    assert!(lab.send(&discover(third)).is_none(), "three are tried");
    assert_eq!(lab.probes, [100, 101, 102].map(|last| Ipv4Addr::new(10, 2, 0, last)));
}

#[test]
fn a_reservation_in_the_second_subnet_is_kept_wherever_the_machine_was() {
    let config = CONFIG.replace("10.1.1.50", "10.2.0.50")
        + "[[subnet]]\ncidr = \"10.3.0.0/24\"\npool = [\"10.3.0.9-10.3.0.9\"]\n";
    let mut lab = Lab::with_second_subnet(&config);
    let home = Ipv4Addr::new(10, 2, 0, 50);
    assert_eq!(lab.offered(NODE1), home);
    let away = lab.send(&relayed(discover(NODE1), Ipv4Addr::new(10, 3, 0, 1))).unwrap();
    assert_eq!(away.message.yiaddr(), Ipv4Addr::new(10, 3, 0, 9));
    assert_eq!(lab.offered(NODE1), home);
}

#[test]
fn nobody_is_refused_an_address_of_the_second_subnet_for_being_of_another_network() {
    let mut lab = Lab::with_second_subnet(CONFIG);
    assert!(lab.send(&request(UNKNOWN, THERE, None)).is_none(), "another server may know of it");
    let mut again = discover(UNKNOWN);
    again.opts_mut().insert(DhcpOption::RequestedIpAddress(THERE));
    assert_eq!(lab.send(&again).unwrap().message.yiaddr(), THERE);
}
