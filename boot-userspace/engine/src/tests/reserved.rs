//! The ACK of a reserved address, which the kernel half may give before the lease is stored: the configuration promises it.

use super::*;

const RESERVED: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 50);

/// What is stored by the commands that wait.
fn stored(lab: &mut Lab) -> Vec<(Mac, Ipv4Addr, LeaseState)> {
    let commands = lab.engine.take_commands();
    let lease = |command| match command {
        Command::Persist(Change::Put(lease)) => Some((lease.mac, lease.address, lease.state)),
        _ => None,
    };
    commands.into_iter().filter_map(lease).collect()
}

#[test]
fn a_lease_that_the_kernel_gives_for_a_reservation_is_stored_once_and_ahead() {
    let mut lab = Lab::new(CONFIG);
    let host = *lab.engine.entries.host(NODE1).unwrap();
    assert_eq!((host.durable_until, host.promised_until()), (0, u64::MAX), "nobody has asked yet");
    lab.engine.kernel_answered(&confirmed(&lab, NODE1, RESERVED), lab.now);
    let commands = lab.engine.take_commands();
    assert!(!commands.iter().any(|command| matches!(command, Command::PutHost(..))), "the kernel knows");
    let persist = |command: &&Command| matches!(command, Command::Persist(_));
    let [Command::Persist(Change::Put(lease))] = &commands.iter().filter(persist).collect::<Vec<_>>()[..]
    else {
        panic!("{commands:?}")
    };
    assert_eq!((lease.mac, lease.address, lease.state), (NODE1, RESERVED, LeaseState::Leased));
    assert_eq!(u64::try_from(lease.expires).unwrap(), lab.now.seconds() + 1200, "twice the lease");
    // It renews as long as the lease is stored for, and then it is stored again.
    for (later, expected) in [(0, 0), (300, 0), (300, 1), (300, 0)] {
        lab.later(later);
        lab.engine.kernel_answered(&confirmed(&lab, NODE1, RESERVED), lab.now);
        assert_eq!(stored(&mut lab).len(), expected, "{later} s later");
    }
}

#[test]
fn the_daemon_acknowledges_a_reservation_when_its_lease_is_stored() {
    let mut lab = Lab::new(CONFIG);
    assert_eq!(lab.leased(NODE1), RESERVED);
    let [Change::Put(lease)] = &lab.changes[..] else { panic!("{:?}", lab.changes) };
    assert_eq!((lease.mac, lease.address, lease.state), (NODE1, RESERVED, LeaseState::Leased));
    // The disk refuses: the next REQUEST is to be stored again.
    let changes = lab.changes.clone();
    lab.engine.not_stored(&changes);
    lab.changes.clear();
    assert_eq!(lab.leased(NODE1), RESERVED);
    assert_eq!(lab.changes.len(), 1);
}

#[test]
fn an_ack_for_what_is_reserved_no_longer_keeps_the_address_from_others_as_long_as_it_lasts() {
    let without = CONFIG.split("[[machine]]").next().unwrap();
    let mut lab = Lab::new(without);
    lab.engine.kernel_answered(&confirmed(&lab, NODE1, RESERVED), lab.now);
    let on_hold = LeaseState::OnHold(crate::leases::HoldCause::Promised);
    assert_eq!(stored(&mut lab), [(NODE1, RESERVED, on_hold)]);
    assert!(lab.engine.bindings.is_on_hold(RESERVED, lab.now.seconds() + 599));
    assert!(!lab.engine.bindings.is_on_hold(RESERVED, lab.now.seconds() + 601));
}

#[test]
fn a_reservation_that_has_moved_waits_for_whom_the_kernel_gave_it() {
    let to_other = CONFIG.replace("52:54:00:00:00:01", &OTHER.to_string()).replace("node1", "node2");
    let mut lab = Lab::new(&to_other);
    // It was NODE1's when the last daemon ended, and the ACK is read by this one.
    lab.engine.kernel_answered(&confirmed(&lab, NODE1, RESERVED), lab.now);
    let stored = stored(&mut lab);
    assert_eq!(stored, [(NODE1, RESERVED, LeaseState::Leased)]);
    assert_ne!(lab.offered(OTHER), RESERVED, "two machines with one address");
    lab.later(601);
    assert_eq!(lab.offered(OTHER), RESERVED, "the lease is over");

    let mut before = Lab::new(CONFIG);
    before.leased(NODE1);
    let Some(Change::Put(lease)) = before.changes.last().cloned() else { panic!("nothing stored") };
    let mut again = Lab::with_leases(&to_other, &[lease], DhcpRole::Server);
    assert_ne!(again.offered(OTHER), RESERVED, "two machines with one address");
}

#[test]
fn a_release_that_is_read_after_the_ack_that_followed_it_ends_nothing() {
    let mut lab = Lab::new(CONFIG);
    lab.leased(NODE1);
    lab.changes.clear();
    lab.engine.kernel_answered(&confirmed(&lab, NODE1, RESERVED), lab.now);
    assert!(lab.send(&release(NODE1, RESERVED)).is_none());
    assert!(lab.changes.is_empty(), "{:?}", lab.changes);
    for _ in 0..2 {
        lab.later(1);
    }
    assert!(lab.send(&release(NODE1, RESERVED)).is_none());
    assert!(matches!(&lab.changes[..], [Change::Put(lease)] if lease.state == LeaseState::Released));
}

#[test]
fn a_lease_that_the_kernel_gave_while_the_disk_was_full_is_stored_when_it_is_not() {
    let mut lab = Lab::new(CONFIG);
    lab.engine.kernel_answered(&confirmed(&lab, NODE1, RESERVED), lab.now);
    for _ in 0..2 {
        let changes: Vec<Change> = changes(&mut lab);
        assert_eq!(changes.len(), 1);
        lab.engine.not_stored(&changes);
        for _ in 0..10 {
            lab.now.wall += Duration::from_secs(1);
            lab.now.boot += Duration::from_secs(1);
            lab.engine.tick(lab.now);
        }
    }
    assert_eq!(stored(&mut lab), [(NODE1, RESERVED, LeaseState::Leased)]);
    for _ in 0..20 {
        lab.later(1);
    }
    assert!(lab.changes.is_empty(), "once: {:?}", lab.changes);
}

/// Of a lease of a pool the client hears when it is stored, and so of a refused one never.
#[test]
fn a_refused_lease_of_a_pool_is_not_stored_though_its_address_is_reserved_by_then() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let refused = lab.changes.clone();
    lab.engine.not_stored(&refused);
    let text = format!("{CONFIG}[[machine]]\nmac = \"{UNKNOWN}\"\nip = \"{address}\"\n");
    let config = std::sync::Arc::new(config::parse(&text, "test").unwrap());
    let loaders = crate::policy::loaders(|_| Ok("snponly.efi".to_owned()));
    lab.engine.reload(config, loaders, &[], lab.now);
    for _ in 0..20 {
        lab.later(1);
    }
    assert!(stored(&mut lab).is_empty(), "nobody was told of it");
}

#[test]
fn the_kernel_promises_nothing_to_a_card_that_was_recognised_by_its_uuid() {
    let config =
        CONFIG.replace("mac = \"52:54:00:00:00:01\"", &format!("uuid = \"{}\"", super::promises::UUID));
    let mut lab = Lab::new(&config);
    let offer = lab.send(&super::promises::discover_with_uuid(UNKNOWN)).expect("an offer");
    assert_eq!(offer.message.yiaddr(), RESERVED);
    let host = *lab.engine.entries.host(UNKNOWN).unwrap();
    assert_eq!((host.promised_until(), host.bound_until), (0, boot_common::tables::SHARED));
}

#[test]
fn what_the_kernel_confirms_while_a_reload_takes_the_reservation_is_kept() {
    let mut lab = Lab::new(CONFIG);
    let without = CONFIG.split("[[machine]]").next().unwrap();
    let config = std::sync::Arc::new(config::parse(without, "test").unwrap());
    let loaders = crate::policy::loaders(|_| Ok("snponly.efi".to_owned()));
    lab.engine.reload(config, loaders, &[], lab.now);
    lab.engine.take_commands();
    lab.engine.kernel_answered(&confirmed(&lab, NODE1, RESERVED), lab.now);
    assert_eq!(stored(&mut lab), [(NODE1, RESERVED, LeaseState::Leased)]);
}

#[test]
fn a_forged_decline_takes_no_promise_of_a_reservation_back() {
    let mut lab = Lab::new(CONFIG);
    lab.leased(NODE1);
    let before = lab.engine.entries.host(NODE1).unwrap().durable_until;
    assert!(lab.send(&decline(NODE1, RESERVED)).is_none());
    assert_eq!(lab.engine.entries.host(NODE1).unwrap().durable_until, before);
}

fn changes(lab: &mut Lab) -> Vec<Change> {
    let commands = lab.engine.take_commands();
    let change = |command| if let Command::Persist(change) = command { Some(change) } else { None };
    commands.into_iter().filter_map(change).collect()
}
