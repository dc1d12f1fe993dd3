//! Offers, and the ACKs that follow them.

use super::*;

#[test]
fn a_stranger_gets_an_address_from_the_pool_and_it_is_stored_before_the_ack() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    assert_eq!(address, Ipv4Addr::new(10, 1, 1, 33));
    let Some(Change::Put(lease)) = lab.changes.first() else { panic!("nothing stored: {:?}", lab.changes) };
    assert_eq!((lease.mac, lease.address, lease.state), (UNKNOWN, address, LeaseState::Leased));
    assert!(u64::try_from(lease.expires).unwrap() >= lab.now.seconds() + 600);
}

#[test]
fn an_offer_is_not_stored_and_names_the_network() {
    let mut lab = Lab::new(CONFIG);
    let offer = lab.send(&discover(NODE1)).unwrap();
    assert_eq!(offer.kind(), MessageType::Offer);
    assert_eq!(offer.message.yiaddr(), Ipv4Addr::new(10, 1, 1, 50));
    assert_eq!(offer.option(OptionCode::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(SERVER)));
    assert_eq!(offer.option(OptionCode::AddressLeaseTime), Some(&DhcpOption::AddressLeaseTime(600)));
    assert_eq!(
        offer.option(OptionCode::SubnetMask),
        Some(&DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 0, 0)))
    );
    assert_eq!(offer.option(OptionCode::Router), Some(&DhcpOption::Router(vec![Ipv4Addr::new(10, 1, 0, 1)])));
    assert_eq!(offer.option(OptionCode::Hostname), Some(&DhcpOption::Hostname("node1".to_owned())));
    assert_eq!(offer.option(OptionCode::DomainName), Some(&DhcpOption::DomainName("mtl".to_owned())));
    assert!(lab.changes.is_empty());
    assert_eq!(offer.via, Via::Frame);
    assert_eq!(offer.ip_destination(), Ipv4Addr::new(10, 1, 1, 50));
    assert_eq!(offer.frame[..6], NODE1.0, "unicast without ARP");
}

#[test]
fn the_broadcast_flag_is_obeyed() {
    let mut lab = Lab::new(CONFIG);
    let mut message = discover(NODE1);
    message.set_flags(Flags::default().set_broadcast());
    let offer = lab.send(&message).unwrap();
    assert_eq!(offer.ip_destination(), Ipv4Addr::BROADCAST);
    assert_eq!(offer.frame[..6], Mac::BROADCAST.0);
    assert!(offer.message.flags().broadcast());
}

#[test]
fn an_offered_address_is_offered_to_nobody_else_until_it_runs_out() {
    let mut lab = Lab::new(CONFIG);
    let first = lab.offered(UNKNOWN);
    let second = lab.offered(OTHER);
    assert_ne!(first, second);
    assert_eq!(lab.offered(UNKNOWN), first, "the same again");
    let third = Mac([0x52, 0x54, 0, 0, 0, 0x97]);
    assert!(lab.send(&discover(third)).is_none(), "the pool has two");
    lab.later(OFFER_HOLDS + 1);
    assert!([first, second].contains(&lab.offered(third)));
}

#[test]
fn who_loses_its_address_is_forgotten_everywhere() {
    let mut lab = Lab::new(CONFIG);
    let taken = lab.leased(UNKNOWN);
    lab.leased(OTHER);
    lab.later(100_000);
    let third = Mac([0x52, 0x54, 0, 0, 0, 0x97]);
    assert_eq!(lab.offered(third), taken, "the one idle longest");
    assert!(lab.changes.contains(&Change::Delete(UNKNOWN, taken)));
    assert!(!lab.engine.has_host(&HostKey::from(UNKNOWN)), "the kernel must not offer it any more");
}

#[test]
fn a_request_for_another_server_is_silent_and_gives_the_offer_back() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.offered(UNKNOWN);
    let elsewhere = Ipv4Addr::new(10, 1, 0, 9);
    assert!(lab.send(&request(UNKNOWN, address, Some(elsewhere))).is_none());
    lab.offered(OTHER);
    let third = Mac([0x52, 0x54, 0, 0, 0, 0x97]);
    assert_eq!(lab.offered(third), address);
}

#[test]
fn the_same_request_twice_gives_the_same_ack() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.offered(UNKNOWN);
    let message = request(UNKNOWN, address, Some(SERVER));
    let first = lab.send(&message).unwrap();
    let second = lab.send(&message).unwrap();
    assert_eq!(first.frame, second.frame);
}

#[test]
fn ignored_strangers_get_silence_and_known_machines_do_not() {
    let mut lab = Lab::new(&CONFIG.replace("[[machine]]", "[default]\nunknown = \"ignore\"\n[[machine]]"));
    assert!(lab.send(&discover(UNKNOWN)).is_none());
    assert!(lab.send(&discover(NODE1)).is_some());
}

#[test]
fn firmware_has_short_leases_and_keeps_its_address() {
    let mut lab = Lab::new(CONFIG);
    let rom = pxe(discover(NODE1), 7, "PXEClient:Arch:00007:UNDI:003000");
    let offer = lab.send(&rom).unwrap();
    assert_eq!(offer.option(OptionCode::AddressLeaseTime), Some(&DhcpOption::AddressLeaseTime(300)));
    let system = lab.send(&discover(NODE1)).unwrap();
    assert_eq!(system.option(OptionCode::AddressLeaseTime), Some(&DhcpOption::AddressLeaseTime(600)));
    assert_eq!(system.message.yiaddr(), offer.message.yiaddr());
}

#[test]
fn an_ack_says_what_the_offer_said() {
    for arch in [0, 7, 16] {
        let class = if arch == 16 { "HTTPClient:Arch:00016" } else { "PXEClient:Arch:00000" };
        let mut lab = Lab::new(CONFIG);
        let offer = lab.send(&pxe(discover(NODE1), arch, class)).unwrap();
        let ack = lab.send(&pxe(request(NODE1, offer.message.yiaddr(), Some(SERVER)), arch, class)).unwrap();
        let without_type = |reply: &Reply| {
            let options = reply.message.opts().iter().filter(|(code, _)| **code != OptionCode::MessageType);
            let mut options: Vec<_> = options.map(|(_, option)| format!("{option:?}")).collect();
            options.sort();
            (options, reply.message.siaddr(), reply.message.fname().map(<[u8]>::to_vec))
        };
        assert_eq!(without_type(&offer), without_type(&ack), "{arch}");
    }
}

#[test]
fn a_free_address_that_is_asked_for_is_given() {
    let mut lab = Lab::new(CONFIG);
    let wanted = Ipv4Addr::new(10, 1, 1, 34);
    let mut message = discover(UNKNOWN);
    message.opts_mut().insert(DhcpOption::RequestedIpAddress(wanted));
    assert_eq!(lab.send(&message).unwrap().message.yiaddr(), wanted);
    message.set_chaddr(&OTHER.0);
    assert_ne!(lab.send(&message).unwrap().message.yiaddr(), wanted, "it is somebody's now");
}
