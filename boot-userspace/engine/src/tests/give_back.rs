//! RELEASE and DECLINE, right and forged ones, and what is not for us.

use super::promises::THIRD;
use super::*;

const RELAY: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);
const SQUATTER: &str = "02:00:00:00:00:77";

fn from(lab: &mut Lab, message: &Message, from: [u8; 4]) -> Option<Reply> {
    lab.send_to(message, 67, SocketAddrV4::new(Ipv4Addr::from(from), 68))
}

fn without_server(mut message: Message) -> Message {
    message.opts_mut().remove(OptionCode::ServerIdentifier);
    message
}

fn for_another_server(mut message: Message) -> Message {
    message.opts_mut().insert(DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 1, 0, 9)));
    message
}

/// Whether the machine's address went to another one.
fn is_given_away(lab: &mut Lab) -> bool {
    lab.leased(OTHER);
    lab.later(RELEASE_HOLDS + 1);
    lab.send(&discover(THIRD)).is_some()
}

#[test]
fn a_release_is_believed_only_from_the_lease_s_own_address_to_this_server() {
    let forged = |lab: &mut Lab, address: Ipv4Addr, how: usize| {
        let message = release(UNKNOWN, address);
        match how {
            0 => from(lab, &message, [10, 1, 0, 77]),
            1 => from(lab, &message, [0, 0, 0, 0]),
            2 => lab.send(&without_server(message)),
            3 => lab.send(&for_another_server(message)),
            _ => lab.send(&relayed(message, RELAY)),
        }
    };
    for how in 0..5 {
        let mut lab = Lab::new(CONFIG);
        let address = lab.leased(UNKNOWN);
        assert!(forged(&mut lab, address, how).is_none());
        assert!(!is_given_away(&mut lab), "{how}: somebody else's RELEASE");
        assert_eq!(lab.send(&renewal(UNKNOWN, address)).unwrap().kind(), MessageType::Ack, "{how}");
    }
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    assert!(lab.send(&release(UNKNOWN, address)).is_none());
    assert!(is_given_away(&mut lab), "its own");
}

#[test]
fn behind_a_relay_a_release_is_believed_from_there() {
    let leased = || {
        let mut lab = Lab::new(CONFIG);
        let address = lab.send(&relayed(discover(UNKNOWN), RELAY)).unwrap().message.yiaddr();
        lab.send(&relayed(request(UNKNOWN, address, Some(SERVER)), RELAY)).expect("an ACK");
        (lab, address)
    };
    let is_released = |lab: &Lab| {
        lab.changes
            .iter()
            .any(|change| matches!(change, Change::Put(lease) if lease.state == LeaseState::Released))
    };
    let (mut lab, address) = leased();
    lab.send(&relayed(release(UNKNOWN, address), Ipv4Addr::new(10, 1, 0, 3)));
    assert!(!is_released(&lab), "another relay");
    lab.send(&relayed(release(UNKNOWN, address), RELAY));
    assert!(is_released(&lab));
    let (mut lab, address) = leased();
    lab.send_to_server(&release(UNKNOWN, address));
    assert!(is_released(&lab), "through routers, from its own address");
}

/// A second interface, on another network than the lease's.
const ELSEWHERE: u32 = 8;

/// With that interface, where somebody can send what he likes, from his own address.
fn with_elsewhere() -> Lab {
    let link = |ifindex, name: &str, address: Ipv4Addr| ServedLink {
        ifindex,
        name: name.into(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        addresses: vec![format!("{address}/16").parse().unwrap()],
        role: DhcpRole::Server,
        http: SocketAddrV4::new(address, 8080),
    };
    let links = vec![link(7, "eth1", SERVER), link(ELSEWHERE, "eth2", Ipv4Addr::new(10, 3, 0, 2))];
    let config = format!("{CONFIG}\n[[interface]]\nname = \"eth2\"\n[[subnet]]\ncidr = \"10.3.0.0/16\"\n");
    let mut lab = Lab::new(&config);
    let config = config::parse(&config, "test").unwrap();
    let policy = Policy::new(config.clone(), machines(&config), links, |_| Ok("snponly.efi".to_owned()));
    lab.engine = Engine::new(policy, &[], lab.now);
    lab.engine.take_commands();
    lab
}

fn from_elsewhere(lab: &mut Lab, message: &Message) -> Option<Reply> {
    let bytes = message.to_vec().unwrap();
    let (from, to) = (SocketAddrV4::new(Ipv4Addr::new(10, 3, 0, 77), 67), Ipv4Addr::new(10, 3, 0, 2));
    lab.receive(&Incoming { ifindex: ELSEWHERE, port: 67, from, to, payload: &bytes })
}

#[test]
fn an_invented_relay_gives_back_no_lease_of_a_network_that_is_on_another_interface() {
    let invented = Ipv4Addr::new(10, 1, 7, 7);
    for forge in [release, decline] {
        let mut lab = with_elsewhere();
        let address = lab.leased(UNKNOWN);
        lab.probes.clear();
        lab.squatter = Some("somebody that answers a ping".to_owned());
        assert!(from_elsewhere(&mut lab, &relayed(forge(UNKNOWN, address), invented)).is_none());
        assert!(lab.probes.is_empty(), "not even looked for");
        lab.squatter = None;
        assert_eq!(lab.send(&renewal(UNKNOWN, address)).expect("an answer").kind(), MessageType::Ack);
        assert!(!is_given_away(&mut lab));
    }
}

#[test]
fn a_relay_s_release_comes_from_the_relay() {
    for (how, from, is_believed) in
        [("somebody else", Ipv4Addr::new(10, 3, 0, 77), false), ("the relay", RELAY, true)]
    {
        let mut lab = Lab::new(CONFIG);
        let address = lab.send(&relayed(discover(UNKNOWN), RELAY)).unwrap().message.yiaddr();
        lab.send(&relayed(request(UNKNOWN, address, Some(SERVER)), RELAY)).expect("an ACK");
        lab.send_to(&relayed(release(UNKNOWN, address), RELAY), 67, SocketAddrV4::new(from, 67));
        let is_released = matches!(lab.changes.last(),
            Some(Change::Put(lease)) if lease.state == LeaseState::Released);
        assert_eq!(is_released, is_believed, "{how}");
    }
}

#[test]
fn a_declined_address_is_looked_for_by_arp_wherever_that_is_possible() {
    for (relay, by_arp) in [(Ipv4Addr::new(10, 1, 0, 3), true), (RELAY, false)] {
        let mut lab = Lab::new(CONFIG);
        let address = lab.send(&relayed(discover(UNKNOWN), relay)).unwrap().message.yiaddr();
        lab.send(&relayed(request(UNKNOWN, address, Some(SERVER)), relay)).expect("an ACK");
        let bytes = relayed(decline(UNKNOWN, address), relay).to_vec().unwrap();
        let from = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 1), 67);
        lab.engine.handle(&Incoming { ifindex: 7, port: 67, from, to: SERVER, payload: &bytes }, lab.now);
        let probes: Vec<(bool, bool)> = lab
            .engine
            .take_commands()
            .into_iter()
            .filter_map(|command| match command {
                Command::Probe { on_link, own_answer_counts, .. } => Some((on_link, own_answer_counts)),
                _ => None,
            })
            .collect();
        assert_eq!(probes, [(by_arp, true)], "{relay}");
    }
}

#[test]
fn a_decline_is_believed_only_from_a_client_without_an_address_where_the_lease_is() {
    let forged = |lab: &mut Lab, address: Ipv4Addr, how: usize| {
        let message = decline(UNKNOWN, address);
        match how {
            0 => from(lab, &message, [10, 1, 0, 77]),
            1 => lab.send(&without_server(message)),
            2 => lab.send(&for_another_server(message)),
            _ => lab.send(&relayed(message, RELAY)),
        }
    };
    for how in 0..4 {
        let mut lab = Lab::new(CONFIG);
        let address = lab.leased(UNKNOWN);
        lab.squatter = Some(SQUATTER.to_owned());
        assert!(forged(&mut lab, address, how).is_none());
        let reply = lab.send(&renewal(UNKNOWN, address));
        assert_eq!(reply.expect("an answer").kind(), MessageType::Ack, "{how}");
    }
}

#[test]
fn a_forged_decline_costs_the_owner_nothing_when_it_answers_for_its_address() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    lab.squatter = Some(UNKNOWN.to_string());
    assert!(lab.send(&decline(UNKNOWN, address)).is_none());
    assert_eq!(lab.probes, [address, address], "it was looked for");
    for message in [renewal(UNKNOWN, address), request(UNKNOWN, address, None)] {
        assert_eq!(lab.send(&message).expect("an answer").kind(), MessageType::Ack);
    }
}

#[test]
fn a_declined_address_is_held_only_if_somebody_answers_and_its_owner_is_never_left_without_an_answer() {
    for squatter in [None, Some(SQUATTER.to_owned())] {
        let mut lab = Lab::new(CONFIG);
        let address = lab.leased(UNKNOWN);
        lab.squatter.clone_from(&squatter);
        assert!(lab.send(&decline(UNKNOWN, address)).is_none());
        lab.squatter = None;
        for message in [renewal(UNKNOWN, address), request(UNKNOWN, address, None)] {
            assert_eq!(lab.send(&message).expect("an answer").kind(), MessageType::Nak, "{squatter:?}");
        }
        assert_ne!(lab.leased(UNKNOWN), address, "{squatter:?}: another one");
        let free = lab.send(&discover(OTHER)).map(|offer| offer.message.yiaddr());
        assert_eq!(free, if squatter.is_some() { None } else { Some(address) });
    }
}

#[test]
fn declines_cannot_drain_a_pool() {
    let config = CONFIG.replace("10.1.1.33-10.1.1.34", "10.1.1.33-10.1.1.113");
    let mut lab = Lab::new(&config);
    let machines = (0..80).map(|last| Mac([2, 0, 0, 0, 9, last]));
    let leases: Vec<(Mac, Ipv4Addr)> = machines.map(|mac| (mac, lab.leased(mac))).collect();
    let resting = |lab: &Lab| lab.engine.pools(lab.now)[0].resting;
    lab.squatter = Some(SQUATTER.to_owned());
    for (mac, address) in &leases {
        assert!(lab.send(&decline(*mac, *address)).is_none());
    }
    assert_eq!(resting(&lab), 16, "within ten minutes");
    lab.squatter = None;
    for (mac, address) in &leases {
        assert!(lab.send(&renewal(*mac, *address)).is_some(), "silence for {mac}");
    }
    // Of a small pool a quarter.
    let mut lab = Lab::new(&CONFIG.replace("10.1.1.33-10.1.1.34", "10.1.1.33-10.1.1.40"));
    let machines = (0..8).map(|last| Mac([2, 0, 0, 0, 9, last]));
    let leases: Vec<(Mac, Ipv4Addr)> = machines.map(|mac| (mac, lab.leased(mac))).collect();
    lab.squatter = Some(SQUATTER.to_owned());
    for (mac, address) in &leases {
        lab.send(&decline(*mac, *address));
    }
    assert_eq!(resting(&lab), 2);
    lab.later(QUARANTINE);
    for (mac, address) in leases.iter().rev().take(1) {
        lab.send(&decline(*mac, *address));
    }
    assert_eq!(resting(&lab), 1, "and later another one");
}

#[test]
fn a_machine_that_asks_anew_while_its_decline_is_looked_into_gets_another_address() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let tell = |lab: &mut Lab, message: &Message| {
        let bytes = message.to_vec().unwrap();
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let incoming = Incoming { ifindex: 7, port: 67, from, to: Ipv4Addr::BROADCAST, payload: &bytes };
        lab.engine.handle(&incoming, lab.now);
        let commands = lab.engine.take_commands().into_iter();
        let (mut probed, mut sent) = (Vec::new(), 0);
        for command in commands {
            match command {
                Command::Probe { address, own_answer_counts, .. } => {
                    probed.push((address, own_answer_counts));
                }
                Command::Send { .. } => sent += 1,
                _ => {}
            }
        }
        (probed, sent)
    };
    assert_eq!(tell(&mut lab, &decline(UNKNOWN, address)), (vec![(address, true)], 0));
    assert_eq!(tell(&mut lab, &discover(UNKNOWN)), (Vec::new(), 0), "not the same address again");
    lab.engine.probed(UNKNOWN, address, Some(SQUATTER.to_owned()), lab.now);
    assert!(!lab.engine.has_host(&HostKey::from(UNKNOWN)), "the kernel must not offer it any more");
    let next = lab.engine.take_commands().into_iter().find_map(|command| match command {
        Command::Probe { address, .. } => Some(address),
        _ => None,
    });
    assert!(next.is_some_and(|next| next != address), "{next:?}");
}

#[test]
fn what_is_sent_to_a_group_is_not_for_us() {
    let mut lab = Lab::new(CONFIG);
    let bytes = discover(NODE1).to_vec().unwrap();
    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    for (to, is_ours) in [
        (Ipv4Addr::new(224, 0, 0, 1), false),
        (Ipv4Addr::new(239, 1, 2, 3), false),
        (Ipv4Addr::BROADCAST, true),
    ] {
        let incoming = Incoming { ifindex: 7, port: 67, from, to, payload: &bytes };
        assert_eq!(lab.receive(&incoming).is_some(), is_ours, "{to}");
    }
    assert_eq!(lab.engine.counter(boot_common::Reason::ForeignIp), 2);
}
