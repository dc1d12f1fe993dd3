//! Addresses that come back: who may give one back, and when another machine may have it.

use super::promises::store_after;
use super::*;
use crate::leases::HoldCause;

#[test]
fn a_declined_address_rests() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    lab.squatter = Some("02:00:00:00:00:77".to_owned());
    assert!(lab.send(&decline(OTHER, address)).is_none());
    assert_eq!(lab.offered(UNKNOWN), address, "only its holder may decline it");
    assert!(lab.send(&decline(UNKNOWN, address)).is_none());
    lab.squatter = None;
    assert_ne!(lab.offered(UNKNOWN), address);
    assert!(lab.send(&discover(OTHER)).is_none(), "the other one rests");
    lab.later(QUARANTINE + 1);
    assert_eq!(lab.offered(OTHER), address);
}

#[test]
fn a_released_address_stays_the_machines_until_another_needs_it() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let release = release(UNKNOWN, address);
    assert!(lab.send(&release).is_none());
    assert!(matches!(lab.changes.last(), Some(Change::Put(lease)) if lease.state == LeaseState::Released));
    assert_eq!(lab.offered(UNKNOWN), address);
}

#[test]
fn an_address_that_the_kernel_may_have_confirmed_after_its_release_goes_to_nobody_else() {
    for event_comes_first in [true, false] {
        let mut lab = Lab::new(CONFIG);
        // The pool has two, and the second one is somebody's.
        let (address, _) = (lab.leased(UNKNOWN), lab.leased(OTHER));
        let third = discover(Mac([0x52, 0x54, 0, 0, 0, 0x97]));
        if event_comes_first {
            lab.engine.kernel_answered(&confirmed(&lab, UNKNOWN, address), lab.now);
        }
        let release = release(UNKNOWN, address);
        assert!(lab.send(&release).is_none());
        assert!(lab.send(&third).is_none(), "{event_comes_first}: given away at once");
        if !event_comes_first {
            lab.engine.kernel_answered(&confirmed(&lab, UNKNOWN, address), lab.now);
            lab.engine.take_commands();
        }
        lab.later(60);
        assert!(lab.send(&third).is_none(), "{event_comes_first}: given away while it is promised");
        assert_eq!(lab.offered(UNKNOWN), address);
    }
}

#[test]
fn a_released_address_goes_to_another_machine_after_a_moment() {
    let mut lab = Lab::new(CONFIG);
    let (address, _) = (lab.leased(UNKNOWN), lab.leased(OTHER));
    lab.engine.kernel_answered(&confirmed(&lab, UNKNOWN, address), lab.now);
    // Two seconds later the RELEASE is surely the later one.
    lab.later(1);
    lab.later(1);
    let release = release(UNKNOWN, address);
    assert!(lab.send(&release).is_none());
    lab.later(RELEASE_HOLDS);
    assert_eq!(lab.offered(Mac([0x52, 0x54, 0, 0, 0, 0x97])), address);
}

#[test]
fn a_release_by_somebody_else_releases_nothing() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let stored = lab.changes.len();
    let release = release(OTHER, address);
    assert!(lab.send(&release).is_none());
    assert_eq!(lab.changes.len(), stored);
}

#[test]
fn a_lease_that_the_kernel_confirmed_after_its_release_is_stored_again() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let release = release(UNKNOWN, address);
    assert!(lab.send(&release).is_none());
    let event = confirmed(&lab, UNKNOWN, address);
    lab.engine.kernel_answered(&event, lab.now);
    let stored = lab.engine.take_commands().into_iter().any(
        |command| matches!(command, Command::Persist(Change::Put(lease)) if lease.state == LeaseState::Leased),
    );
    assert!(stored);
    lab.engine.kernel_answered(&event, lab.now);
    assert!(lab.engine.take_commands().is_empty(), "once");
}

#[test]
fn a_lease_that_the_kernel_confirmed_while_no_daemon_was_there_is_stored_again() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let key = HostKey::from(UNKNOWN);
    let host = *lab.engine.entries.host(key.mac).unwrap();
    // The last daemon stored the RELEASE, and ended before the kernel knew.
    let release = release(UNKNOWN, address);
    assert!(lab.send(&release).is_none());
    let Some(Change::Put(released)) = lab.changes.last() else { panic!("nothing stored") };
    let mut again = Lab::with_leases(CONFIG, std::slice::from_ref(released), DhcpRole::Server);
    again.engine.adopt(&[(key, host)], again.now);
    again.engine.kernel_answered(&confirmed(&again, UNKNOWN, address), again.now);
    let stored = again.engine.take_commands().into_iter().any(
        |command| matches!(command, Command::Persist(Change::Put(lease)) if lease.state == LeaseState::Leased),
    );
    assert!(stored);
}

#[test]
fn a_hold_has_its_cause_and_keeps_it_over_a_restart() {
    const USER: &str = "02:00:00:00:00:77";
    let config = CONFIG.replacen("10.1.1.33-10.1.1.34", "10.1.1.33-10.1.1.40", 1);
    let mut lab = Lab::new(&config);
    let declined = lab.leased(UNKNOWN);
    lab.squatter = Some(USER.to_owned());
    lab.send(&decline(UNKNOWN, declined));
    // The probe before the first offer tries three.
    assert!(lab.send(&discover(OTHER)).is_none());
    let in_use = lab.probes[2];
    lab.squatter = None;
    let promised = lab.leased(OTHER);
    let stored = store_after(&lab.changes);
    // It has a reserved address by the time of the restart.
    let reserved = format!("{config}\n[[machine]]\nmac = \"{OTHER}\"\nip = \"10.1.1.60\"\n");
    let lab = Lab::with_leases(&reserved, &stored, DhcpRole::Server);
    let shown = lab.engine.leases(&stored, lab.now).into_iter();
    let holds: Vec<_> = shown.filter_map(|shown| Some((shown.address, shown.state.hold()?))).collect();
    for expected in
        [(declined, HoldCause::Declined), (in_use, HoldCause::InUse), (promised, HoldCause::Promised)]
    {
        assert!(holds.contains(&expected), "{expected:?} in {holds:?}");
    }
}
