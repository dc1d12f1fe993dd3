//! What a machine's own messages say: the relay that they came by, and for how long it has asked.

use super::*;
use crate::events::Said;

fn heard_saying(steps: impl IntoIterator<Item = (What, Said)>) -> Timelines {
    let mut timelines = Timelines::default();
    for (second, (what, said)) in (0..).zip(steps) {
        timelines.note(Note { said, ..note(MAC, what) }, second * 1000);
    }
    timelines
}

fn after(secs: u16) -> Said {
    Said { secs, ..Said::default() }
}

fn silent(steps: Vec<What>) -> Vec<(What, Said)> {
    steps.into_iter().map(|what| (what, Said::default())).collect()
}

#[test]
fn a_machine_that_was_first_heard_late_says_so_itself() {
    let booted = |secs| {
        let mut steps = silent([with_kernel(), vec![os(Given::Ack)]].concat());
        steps[0].1 = after(secs);
        verdict(&heard_saying(steps), &facts(), LATER)
    };
    assert_eq!(booted(19).cause, Cause::Boots);
    let found = booted(28);
    assert_eq!((found.cause, found.sure), (Cause::LateLink, Sure::Likely));
    assert!(found.because.contains("asked for 28 s when it was first heard"), "{}", found.because);
    assert!(found.evidence[0].says.ends_with("; it had asked for 28 s by then"), "{:?}", found.evidence);
}

#[test]
fn an_ipxe_that_was_heard_late_says_for_how_long_its_link_was_down() {
    let without = |secs| {
        let mut steps = silent([with_loader(), vec![ipxe(Given::Offer); 2]].concat());
        let first = steps.len() - 2;
        steps[first].1 = after(secs);
        verdict(&heard_saying(steps), &facts(), LATER)
    };
    let found = without(12);
    assert_eq!(found.cause, Cause::SecondDhcp);
    assert!(found.because.contains("iPXE had asked for 12 s before it was heard"), "{}", found.because);
    assert!(!without(4).because.contains("had asked"), "every iPXE says 4 with its first message");
}

#[test]
fn a_machine_is_behind_the_relay_that_it_was_heard_through_and_no_other() {
    let relay = Ipv4Addr::new(10, 2, 0, 1);
    let relays = |said: Said| {
        let timelines = heard_saying([(rom(Given::Offer), said), (rom(Given::Ack), Said::default())]);
        let boot = timelines.boots(MAC).next().unwrap();
        let verdict = verdict(&timelines, &facts(), 2000);
        let member = Member { mac: MAC, name: None, verdict, traits: Vec::new(), since: 0 };
        let traits = member.with_traits_of(boot).traits;
        traits.into_iter().filter(|(kind, _)| *kind == "relay").map(|(_, value)| value).collect::<Vec<_>>()
    };
    assert_eq!(relays(Said { relay: Some(relay), secs: 0 }), ["10.2.0.1"]);
    assert!(relays(Said::default()).is_empty(), "one that is not known is none");
}

#[test]
fn secs_is_read_in_either_byte_order() {
    let mut bootp: boot_common::wire::BootpFixed = zerocopy::FromZeros::new_zeroed();
    for (field, secs) in [(0u16, 0), (4, 4), (28, 28), (0x1c00, 28), (300, 300)] {
        bootp.secs = field.into();
        bootp.giaddr = [10, 2, 0, 1];
        assert_eq!(Said::by(&bootp), Said { relay: Some(Ipv4Addr::new(10, 2, 0, 1)), secs });
    }
    bootp.giaddr = [0; 4];
    assert_eq!(Said::by(&bootp).relay, None);
}

/// The kernel half's ACK is read after the DECLINE that followed it.
#[test]
fn what_is_heard_late_has_its_place_by_its_time() {
    let mut timelines = Timelines::default();
    let in_use = What::AddressInUse { address: ADDRESS, user: "x".into() };
    for (at, what) in [(1000, rom(Given::Offer)), (1003, in_use), (1002, rom(Given::Ack))] {
        timelines.note(note(MAC, what), at);
    }
    assert_eq!(verdict(&timelines, &facts(), LATER).cause, Cause::AddressInUse);
    let boot = timelines.boots(MAC).next().unwrap();
    assert!(boot.steps.is_sorted_by_key(|step| step.at), "{boot:?}");
}
