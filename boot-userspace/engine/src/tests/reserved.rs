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
