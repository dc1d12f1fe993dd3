//! A machine in several subnets at once: with a card in several VLANs, behind several relays, on several interfaces.

use super::promises::{THIRD, store_after};
use super::*;

/// In the second subnet of [`CONFIG`], which has eleven addresses; the first has two.
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);

fn leased_behind_relay(lab: &mut Lab, mac: Mac) -> Ipv4Addr {
    let address = lab.send(&relayed(discover(mac), RELAY)).expect("an offer").message.yiaddr();
    let ack = lab.send(&relayed(request(mac, address, Some(SERVER)), RELAY)).expect("an answer");
    assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, address));
    address
}

/// Whatever state the client is in, it may keep its address here and behind the relay.
fn keeps_both(lab: &mut Lab, mac: Mac, here: Ipv4Addr, there: Ipv4Addr) {
    let asks = [
        ("here, RENEWING", here, renewal(mac, here), true),
        ("there, RENEWING", there, renewal(mac, there), true),
        ("here, REBINDING", here, renewal(mac, here), false),
        ("there, REBINDING", there, relayed(renewal(mac, there), RELAY), false),
        ("here, INIT-REBOOT", here, request(mac, here, None), false),
        ("there, INIT-REBOOT", there, relayed(request(mac, there, None), RELAY), false),
    ];
    for (state, own, message, to_server) in asks {
        let reply = if to_server { lab.send_to_server(&message) } else { lab.send(&message) };
        let reply = reply.unwrap_or_else(|| panic!("{state}: no answer"));
        assert_eq!((reply.kind(), reply.message.yiaddr()), (MessageType::Ack, own), "{state}");
    }
}

#[test]
fn a_lease_in_one_subnet_is_kept_whatever_the_machine_gets_in_another() {
    let mut lab = Lab::new(CONFIG);
    let here = lab.leased(UNKNOWN);
    let there = leased_behind_relay(&mut lab, UNKNOWN);
    keeps_both(&mut lab, UNKNOWN, here, there);
    // Only the second address of the pool is free.
    assert_ne!(lab.leased(OTHER), here);
    assert!(lab.send(&discover(THIRD)).is_none(), "{here} is promised");
    assert_eq!(lab.offered(UNKNOWN), here);
    assert_eq!(lab.send(&relayed(discover(UNKNOWN), RELAY)).unwrap().message.yiaddr(), there);
    // Each promise ends for itself.
    lab.later(900);
    assert_eq!(lab.send(&relayed(renewal(UNKNOWN, there), RELAY)).unwrap().kind(), MessageType::Ack);
    lab.later(600);
    assert_eq!(lab.offered(THIRD), here, "it was not renewed for longer than it was promised");
    assert_eq!(lab.send(&relayed(renewal(UNKNOWN, there), RELAY)).unwrap().kind(), MessageType::Ack);
}

#[test]
fn leases_in_several_subnets_outlast_a_restart() {
    let mut lab = Lab::new(CONFIG);
    let here = lab.leased(UNKNOWN);
    let there = leased_behind_relay(&mut lab, UNKNOWN);
    let stored = store_after(&lab.changes);
    assert_eq!(stored.len(), 2, "{stored:?}");
    let mut again = Lab::with_leases(CONFIG, &stored, DhcpRole::Server);
    keeps_both(&mut again, UNKNOWN, here, there);
    assert_ne!(again.leased(OTHER), here);
    assert!(again.send(&discover(THIRD)).is_none(), "{here} is promised");
    // Longer than what is stored nothing was promised.
    again.later(24 * 3600);
    assert_eq!([again.offered(THIRD), again.offered(Mac([2, 0, 0, 0, 7, 7]))].len(), 2);
}

#[test]
fn an_offer_elsewhere_takes_nothing_away_and_a_release_gives_back_one_lease_only() {
    let mut lab = Lab::new(CONFIG);
    let here = lab.leased(UNKNOWN);
    lab.send(&relayed(discover(UNKNOWN), RELAY)).expect("an offer there");
    assert_eq!(lab.send(&renewal(UNKNOWN, here)).unwrap().kind(), MessageType::Ack);
    let there = leased_behind_relay(&mut lab, UNKNOWN);
    assert!(lab.send_to_server(&release(UNKNOWN, there)).is_none());
    assert_eq!(lab.send(&renewal(UNKNOWN, here)).unwrap().kind(), MessageType::Ack);
    lab.leased(OTHER);
    lab.later(RELEASE_HOLDS + 1);
    assert!(lab.send(&discover(THIRD)).is_none(), "{here} is promised");
}

#[test]
fn a_reservation_is_of_its_subnet_and_elsewhere_the_machine_has_an_address_of_the_pool() {
    let mut lab = Lab::new(CONFIG);
    let home = Ipv4Addr::new(10, 1, 1, 50);
    assert_eq!(lab.leased(NODE1), home);
    let there = leased_behind_relay(&mut lab, NODE1);
    assert_eq!(there, Ipv4Addr::new(10, 2, 0, 100));
    keeps_both(&mut lab, NODE1, home, there);
    let mut again = Lab::with_leases(CONFIG, &store_after(&lab.changes), DhcpRole::Server);
    keeps_both(&mut again, NODE1, home, there);
}

#[test]
fn the_kernel_half_answers_where_the_machine_was_heard_last() {
    let mut lab = Lab::new(CONFIG);
    let here = lab.leased(UNKNOWN);
    let there = leased_behind_relay(&mut lab, UNKNOWN);
    let entry = |lab: &Lab| {
        let host = lab.engine.entries.host(UNKNOWN).expect("an entry");
        (Ipv4Addr::from(host.address), host.durable_until > lab.now.nanos())
    };
    assert_eq!(entry(&lab), (there, true));
    lab.send(&renewal(UNKNOWN, here)).expect("an ACK");
    assert_eq!(entry(&lab), (here, true));
    let again = Lab::with_leases(CONFIG, &store_after(&lab.changes), DhcpRole::Server);
    assert_eq!(entry(&again), (here, true), "and after a restart");
}

#[test]
fn an_operator_sees_and_deletes_each_lease_of_a_machine() {
    use crate::leases::operator::Which;
    let mut lab = Lab::new(CONFIG);
    let (here, there) = (lab.leased(UNKNOWN), leased_behind_relay(&mut lab, UNKNOWN));
    let stored = store_after(&lab.changes);
    let shown = Which::Mac(UNKNOWN).find(lab.engine.leases(&stored, lab.now));
    assert_eq!(shown.iter().map(|shown| shown.address).collect::<Vec<_>>(), [here, there]);
    assert_eq!(
        shown.iter().map(|shown| shown.subnet.to_string()).collect::<Vec<_>>(),
        ["10.1.0.0/16", "10.2.0.0/24"]
    );
    let mut change = |which: Which| -> Vec<Ipv4Addr> {
        let leases = lab.engine.to_delete(which, &stored, lab.now).expect("a lease");
        let (shown, changes): (Vec<_>, Vec<Change>) = leases.into_iter().unzip();
        if which == Which::Address(there) {
            lab.engine.change_leases(&changes, lab.now);
        }
        shown.into_iter().map(|shown| shown.address).collect()
    };
    assert_eq!(change(Which::Mac(UNKNOWN)), [here, there]);
    assert_eq!(change(Which::Address(there)), [there]);
    assert_eq!(lab.send(&renewal(UNKNOWN, here)).unwrap().kind(), MessageType::Ack);
    assert!(lab.send(&relayed(renewal(UNKNOWN, there), RELAY)).is_none(), "deleted");
}

#[test]
fn a_probe_in_one_subnet_holds_up_nobody_in_another() {
    let mut lab = Lab::new(CONFIG);
    let ask = |lab: &mut Lab, message: &Message| -> (Vec<(Mac, Ipv4Addr)>, usize) {
        let bytes = message.to_vec().unwrap();
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let incoming = Incoming { ifindex: 7, port: 67, from, to: Ipv4Addr::BROADCAST, payload: &bytes };
        lab.engine.handle(&incoming, lab.now);
        taken(lab)
    };
    let (probes, _) = ask(&mut lab, &discover(UNKNOWN));
    let (here, _) = (probes[0].1, probes[0].0);
    let (probes, _) = ask(&mut lab, &relayed(discover(UNKNOWN), RELAY));
    let there = probes.first().expect("a probe there, too").1;
    lab.engine.probed(UNKNOWN, there, None, lab.now);
    assert_eq!(taken(&mut lab).1, 1, "an offer there");
    lab.engine.probed(UNKNOWN, here, None, lab.now);
    assert_eq!(taken(&mut lab).1, 1, "and here");
}

/// Probes, and how many answers left.
fn taken(lab: &mut Lab) -> (Vec<(Mac, Ipv4Addr)>, usize) {
    let (mut probes, mut sent) = (Vec::new(), 0);
    for command in lab.engine.take_commands() {
        match command {
            Command::Probe { mac, address, .. } => probes.push((mac, address)),
            Command::Send { .. } => sent += 1,
            _ => {}
        }
    }
    (probes, sent)
}
