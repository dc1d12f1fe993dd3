//! An address that was promised to a machine is kept for it, whomever the configuration has it for by now.

use std::sync::Arc;

use super::promises::{THIRD, UUID, discover_with_uuid, store_after};
use super::*;

const RESERVED: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 50);
const SECOND_RESERVED: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 51);

/// [`CONFIG`] with these machines instead of its own.
pub(super) fn with(machines: &[(Mac, Ipv4Addr)]) -> String {
    let subnets = CONFIG.split("[[machine]]").next().unwrap();
    let machine = |(mac, ip): &(Mac, Ipv4Addr)| format!("[[machine]]\nmac = \"{mac}\"\nip = \"{ip}\"\n");
    format!("{subnets}\n{}", machines.iter().map(machine).collect::<String>())
}

pub(super) fn reload(lab: &mut Lab, text: &str) {
    let config = Arc::new(config::parse(text, "test").unwrap());
    let loaders = crate::policy::loaders(|_| Ok("snponly.efi".to_owned()));
    lab.engine.reload(config, loaders, &[], lab.now);
    lab.engine.take_commands();
}

/// The kernel half has acknowledged an address that is reserved for nobody by now: it rests as promised, as is stored.
fn resting() -> (Lab, Lease) {
    let mut lab = Lab::new(&with(&[]));
    lab.engine.kernel_answered(&confirmed(&lab, NODE1, RESERVED), lab.now);
    let stored = lab.engine.take_commands().into_iter().find_map(|command| match command {
        Command::Persist(Change::Put(lease)) => Some(lease),
        _ => None,
    });
    (lab, stored.expect("a hold"))
}

/// What NODE1 says or does, by which its promise ends.
type End = fn(&mut Lab);

#[test]
fn a_new_reservation_of_an_address_that_rests_as_promised_waits_until_the_promise_ends() {
    let is_refused = |lab: &mut Lab, message: &Message| {
        let reply = lab.send(message).expect("an answer");
        assert_eq!(reply.kind(), MessageType::Nak);
        assert!(matches!(lab.changes[..], [.., Change::Lift(RESERVED)]), "{:?}", lab.changes);
    };
    let ends: [(&str, End); 4] = [
        ("its time", |lab| lab.later(601)),
        ("a RELEASE", |lab| assert!(lab.send(&release(NODE1, RESERVED)).is_none())),
        ("a renewal", |lab| drop(lab.send(&renewal(NODE1, RESERVED)))),
        ("a reboot", |lab| drop(lab.send(&request(NODE1, RESERVED, None)))),
    ];
    let to_other = with(&[(OTHER, RESERVED)]);
    for (what, end) in ends {
        let (mut reloaded, hold) = resting();
        reload(&mut reloaded, &to_other);
        let restarted = Lab::with_leases(&to_other, &[hold], DhcpRole::Server);
        for mut lab in [reloaded, restarted] {
            for later in [0, 100] {
                lab.later(later);
                assert_ne!(lab.offered(OTHER), RESERVED, "{what}: two machines with one address");
            }
            end(&mut lab);
            assert_eq!(lab.offered(OTHER), RESERVED, "{what}");
        }
    }
    for asks in [renewal(NODE1, RESERVED), request(NODE1, RESERVED, None)] {
        let (mut lab, _) = resting();
        reload(&mut lab, &to_other);
        is_refused(&mut lab, &asks);
    }
}

#[test]
fn a_release_of_a_resting_address_by_somebody_else_ends_nothing() {
    let (mut lab, _) = resting();
    reload(&mut lab, &with(&[(OTHER, RESERVED)]));
    for message in [release(UNKNOWN, RESERVED), request(UNKNOWN, RESERVED, None)] {
        lab.send(&message);
    }
    lab.send_to(&release(NODE1, RESERVED), 67, SocketAddrV4::new(Ipv4Addr::new(10, 1, 1, 99), 68));
    assert_ne!(lab.offered(OTHER), RESERVED);
}

#[test]
fn what_a_machine_gave_up_is_given_up_after_a_restart_too() {
    let text = with(&[(NODE1, Ipv4Addr::new(10, 1, 1, 60)), (OTHER, RESERVED)]);
    let mut before = Lab::new(CONFIG);
    before.leased(NODE1);
    reload(&mut before, &text);
    assert_ne!(before.offered(NODE1), RESERVED);
    assert_eq!(before.send(&request(NODE1, RESERVED, None)).expect("an answer").kind(), MessageType::Nak);
    let mut lab = Lab::with_leases(&text, &store_after(&before.changes), DhcpRole::Server);
    for lab in [&mut before, &mut lab] {
        assert_eq!(lab.offered(OTHER), RESERVED);
    }
}

#[test]
fn a_moved_reservation_waits_though_its_old_machine_has_a_new_one() {
    let third = Ipv4Addr::new(10, 1, 1, 60);
    let mut lab = Lab::new(CONFIG);
    lab.leased(NODE1);
    reload(&mut lab, &with(&[(NODE1, third), (OTHER, RESERVED)]));
    for later in [1, 100, 100] {
        lab.later(later);
        assert_ne!(lab.offered(OTHER), RESERVED, "two machines with one address");
    }
    assert_eq!(lab.leased(NODE1), third);
    assert_eq!(lab.offered(OTHER), RESERVED, "its old machine has taken its new one");
}

/// The same at a start, of an address that was the old machine's out of the pool.
#[test]
fn a_start_keeps_what_a_machine_was_promised_that_has_a_reservation_by_then() {
    let mut before = Lab::new(CONFIG);
    let address = before.leased(UNKNOWN);
    let text = with(&[(UNKNOWN, SECOND_RESERVED), (OTHER, address)]);
    let mut lab = Lab::with_leases(&text, &store_after(&before.changes), DhcpRole::Server);
    assert_ne!(lab.offered(OTHER), address, "two machines with one address");
    assert_eq!(lab.leased(UNKNOWN), SECOND_RESERVED);
    assert_eq!(lab.offered(OTHER), address);
}

#[test]
fn an_address_that_was_reserved_for_nobody_for_a_while_is_still_promised() {
    let mut lab = Lab::new(CONFIG);
    lab.leased(NODE1);
    reload(&mut lab, &with(&[]));
    lab.later(OFFER_HOLDS + 1);
    reload(&mut lab, &with(&[(OTHER, RESERVED)]));
    assert_ne!(lab.offered(OTHER), RESERVED, "two machines with one address");
    lab.later(1200);
    assert_eq!(lab.offered(OTHER), RESERVED);
}

#[test]
fn a_reservation_by_uuid_waits_for_the_lease_that_ran_at_the_start() {
    let mut before = Lab::new(CONFIG);
    before.leased(NODE1);
    let text = format!("{}[[machine]]\nuuid = \"{UUID}\"\nip = \"{RESERVED}\"\n", with(&[]));
    let mut lab = Lab::with_leases(&text, &store_after(&before.changes), DhcpRole::Server);
    let offered = |lab: &mut Lab| lab.send(&discover_with_uuid(OTHER)).expect("an offer").message.yiaddr();
    assert_ne!(offered(&mut lab), RESERVED, "two machines with one address");
    lab.later(1201);
    assert_eq!(offered(&mut lab), RESERVED);
}

#[test]
fn both_cards_of_a_machine_get_its_address_when_the_lease_that_it_waited_for_is_over() {
    let mut before = Lab::new(CONFIG);
    before.leased(NODE1);
    let cards = format!("[[machine]]\nmac = [\"{OTHER}\", \"{THIRD}\"]\nip = \"{RESERVED}\"\n");
    let text = format!("{}{cards}", with(&[]));
    let mut lab = Lab::with_leases(&text, &store_after(&before.changes), DhcpRole::Server);
    assert_ne!(lab.offered(OTHER), RESERVED, "two machines with one address");
    lab.later(1201);
    assert_eq!([OTHER, THIRD].map(|mac| lab.leased(mac)), [RESERVED; 2]);
}

/// Anybody can send one in a machine's name.
#[test]
fn a_discover_ends_no_lease_that_a_reservation_waits_for() {
    let to_other = with(&[(OTHER, RESERVED)]);
    let mut reloaded = Lab::new(CONFIG);
    reloaded.leased(NODE1);
    let restarted = Lab::with_leases(&to_other, &store_after(&reloaded.changes), DhcpRole::Server);
    reload(&mut reloaded, &to_other);
    for mut lab in [reloaded, restarted] {
        assert_ne!(lab.offered(NODE1), RESERVED, "it is to have another one");
        for later in [0, 100] {
            lab.later(later);
            assert_ne!(lab.offered(OTHER), RESERVED, "two machines with one address");
        }
        lab.later(1200);
        assert_eq!(lab.offered(OTHER), RESERVED, "the lease is over");
    }
}

#[test]
fn who_takes_another_address_leaves_its_old_one_to_the_reservation() {
    let mut lab = Lab::new(CONFIG);
    lab.leased(NODE1);
    reload(&mut lab, &with(&[(OTHER, RESERVED)]));
    assert_ne!(lab.leased(NODE1), RESERVED);
    assert_eq!(lab.offered(OTHER), RESERVED);
}

#[test]
fn reservations_that_were_swapped_while_nobody_ran_wait_for_each_other() {
    let mut before = Lab::new(&with(&[(NODE1, RESERVED), (OTHER, SECOND_RESERVED)]));
    assert_eq!([NODE1, OTHER].map(|mac| before.leased(mac)), [RESERVED, SECOND_RESERVED]);
    let swapped = with(&[(NODE1, SECOND_RESERVED), (OTHER, RESERVED)]);
    let mut lab = Lab::with_leases(&swapped, &store_after(&before.changes), DhcpRole::Server);
    let offered = [NODE1, OTHER].map(|mac| lab.offered(mac));
    assert!(!offered.contains(&RESERVED) && !offered.contains(&SECOND_RESERVED), "{offered:?}");
    // Each leaves what it had by taking another one.
    for mac in [NODE1, OTHER] {
        lab.leased(mac);
    }
    assert_eq!([NODE1, OTHER].map(|mac| lab.leased(mac)), [SECOND_RESERVED, RESERVED]);
}
