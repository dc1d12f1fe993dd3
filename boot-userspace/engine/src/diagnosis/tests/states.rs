//! Causes that the registry knows: a machine that waits, or is stuck.

use super::*;
use crate::lifecycle::State;

fn standing(state: State, told: Option<&str>, is_overdue: bool) -> Facts {
    let stands = Stands {
        state: Some(state),
        since: 500,
        is_overdue,
        waits: "for somebody".to_owned(),
        told: told.map(str::to_owned),
        is_sent_away: false,
        is_unserved: false,
    };
    Facts { stands: Some(stands), ..facts() }
}

#[test]
fn a_machine_that_is_told_to_wait_is_told_so() {
    for (state, expected) in [
        (State::Discovered, Cause::NotAccepted),
        (State::Accepted, Cause::NoAgent),
        (State::Released, Cause::NoAgent),
        (State::Ready, Cause::NotAllocated),
        (State::Running, Cause::FromDisk),
        (State::Maintenance, Cause::InMaintenance),
        (State::Failed, Cause::FailedBefore),
    ] {
        let facts = standing(state, Some("node1 waits: for somebody"), false);
        for steps in [with_script(), [with_script(), vec![os(Given::Ack)]].concat()] {
            let found = verdict(&heard(steps), &facts, LATER);
            assert_eq!((found.cause, found.sure), (expected, Sure::Certain), "{state}");
            assert_eq!(found.because, "node1 waits: for somebody");
            assert!(found.evidence[0].says.contains("since then: for somebody"), "{found:?}");
        }
        // What went wrong on the way to its script is the network's doing, and not the registry's.
        assert_eq!(verdict(&heard(with_loader()), &facts, LATER).cause, Cause::LoaderSilent, "{state}");
        // One that got its script before it came into this state was told something else.
        let stands = facts.stands.clone().map(|stands| Stands { since: LATER, ..stands });
        let later = Facts { stands, ..facts.clone() };
        assert_eq!(verdict(&heard(with_script()), &later, LATER).cause, Cause::KernelNotAsked, "{state}");
        let silent = never_asked(&facts, 7, true);
        let is_to_boot = matches!(state, State::Accepted | State::Released);
        assert_eq!(silent.cause, if is_to_boot { Cause::NeverAsked } else { expected }, "{state}");
        assert!(!silent.evidence.is_empty());
    }
}

#[test]
fn a_machine_whose_record_is_not_served_is_told_so_in_every_state() {
    for state in [State::Discovered, State::Accepted, State::Ready, State::Allocated, State::Maintenance] {
        let mut facts = standing(state, Some("node1 waits: not served: a cause"), false);
        facts.stands.as_mut().unwrap().is_unserved = true;
        assert_eq!(verdict(&heard(with_script()), &facts, LATER).cause, Cause::NotServed, "{state}");
        assert_eq!(never_asked(&facts, 7, true).cause, Cause::NotServed, "{state}");
        // As of a record that cannot be read.
        facts.stands.as_mut().unwrap().since = 0;
        let found = verdict(&heard(with_script()), &facts, LATER);
        assert_eq!(found.cause, Cause::NotServed, "{state}");
        assert!(found.evidence.iter().all(|evidence| evidence.at != 0), "{found:?}");
    }
}

#[test]
fn an_ignored_machine_is_ignored_from_then_on() {
    let facts = standing(State::Ignored, Some("node1 is ignored"), false);
    assert_eq!(verdict(&heard([rom(Given::Offer)]), &facts, LATER).cause, Cause::Ignored);
    let mut timelines = heard([rom(Given::Offer)]);
    timelines.note(note(MAC, rom(Given::Offer)), 60_000);
    assert_eq!(verdict(&timelines, &facts, LATER).cause, Cause::OfferNotTaken, "it was answered since");
    assert_eq!(never_asked(&facts, 7, true).cause, Cause::Ignored);
}

#[test]
fn a_machine_that_is_too_long_in_its_state_is_stuck_unless_its_boot_says_more() {
    let facts = standing(State::Installing, None, true);
    let up = [with_kernel(), vec![os(Given::Ack)]].concat();
    let found = verdict(&heard(up), &facts, LATER);
    assert_eq!((found.cause, found.sure), (Cause::StuckInState, Sure::Certain));
    assert!(found.because.contains("installing") && found.evidence.len() == 2, "{found:?}");
    let found = verdict(&heard(with_kernel()), &facts, LATER);
    assert_eq!(found.cause, Cause::SystemSilent);
    assert!(found.evidence.iter().any(|sign| sign.says.contains("installing since then")), "{found:?}");
    assert_eq!(never_asked(&facts, 7, true).cause, Cause::StuckInState);
}

#[test]
fn who_was_never_heard_is_only_likely_so_when_boots_made_room_for_others() {
    assert_eq!(never_asked(&facts(), 7, true).sure, Sure::Certain);
    let found = never_asked(&facts(), 7, false);
    assert_eq!((found.cause, found.sure), (Cause::NeverAsked, Sure::Likely));
}
