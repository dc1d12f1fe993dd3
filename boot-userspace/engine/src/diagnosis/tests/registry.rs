//! What is done with a machine beside its boots: seen there, and neither the beginning nor a part of one.

use super::*;
use crate::lifecycle::{Act, State};

fn became(state: State) -> What {
    What::BecameState { state, why: "its disks are wiped".into() }
}

fn told(act: Act) -> What {
    What::Power { act, by: "xpxe".into(), failed: "".into() }
}

fn wiping(percent: u8) -> What {
    What::Progress { does: "wiping".into(), percent: Some(percent) }
}

fn says(boot: &Boot) -> Vec<String> {
    boot.all_steps().iter().map(|step| step.what.to_string()).collect()
}

#[test]
fn what_is_done_with_a_machine_opens_no_boot_and_prolongs_none() {
    let beside = [became(State::Ready), told(Act::Off), wiping(40)];
    for what in beside.clone() {
        assert!(what.is_beside(), "{what}");
        assert_eq!(heard([what]).count(), 0, "it opens none");
    }
    let mut timelines = heard([rom(Given::Offer), rom(Given::Ack)]);
    for (minute, what) in (1..).zip(beside) {
        timelines.note(note(MAC, what), minute * 60_000);
    }
    let boot = timelines.boots(MAC).next_back().unwrap().clone();
    assert_eq!((boot.last(), boot.steps.len(), boot.beside.len()), (1000, 2, 3));
    assert_eq!(verdict(&timelines, &facts(), 180_000).cause, Cause::NoFileAsked, "it is silent all the same");
    assert_eq!(
        says(&boot)[2..],
        ["became ready: its disks are wiped", "its BMC was told: off (by xpxe)", "its agent: wiping 40 %"]
    );
    // After that silence the firmware begins another boot.
    timelines.note(note(MAC, rom(Given::Offer)), 200_000);
    assert_eq!(timelines.count(), 2);
}

#[test]
fn a_command_to_switch_a_machine_on_is_seen_in_the_boot_that_comes_of_it() {
    let mut timelines = heard(with_kernel());
    timelines.note(note(MAC, became(State::Released)), 100_000);
    timelines.note(note(MAC, told(Act::Cycle)), 101_000);
    timelines.note(note(MAC, became(State::Failed)), 102_000);
    timelines.note(note(MAC, rom(Given::Offer)), 300_000);
    let boots: Vec<&Boot> = timelines.boots(MAC).collect();
    assert_eq!(boots.len(), 2);
    assert_eq!(says(boots[0]).last().unwrap(), "became released: its disks are wiped");
    assert_eq!(says(boots[1])[0], "its BMC was told: cycle (by xpxe)");
    assert_eq!((boots[1].opened, boots[1].steps.len(), boots[1].beside.len()), (300_000, 1, 2));
    // One that has never asked has no boot to be seen in before, and its verdict has it.
    let mut timelines = heard([told(Act::On)]);
    let silent = never_asked(&facts(), 0, true).after(timelines.ahead(MAC));
    assert_eq!(silent.cause, Cause::NeverAsked);
    assert_eq!(silent.evidence.last().unwrap().says, "its BMC was told: on (by xpxe)");
    timelines.note(note(MAC, rom(Given::Offer)), 30_000);
    assert_eq!(timelines.boots(MAC).next().unwrap().beside.len(), 1);
    // A command that failed leads to none.
    let failed = What::Power { act: Act::On, by: "xpxe".into(), failed: "no answer".into() };
    let mut timelines = heard([rom(Given::Offer), failed]);
    timelines.note(note(MAC, ipxe(Given::Offer)), 3000);
    assert_eq!(
        says(timelines.boots(MAC).next().unwrap())[1],
        "its BMC was told: on (by xpxe), and did not do it: no answer"
    );
}

#[test]
fn whatever_is_done_with_machines_fills_no_memory() {
    let mut timelines = heard([rom(Given::Offer)]);
    for percent in (0..100).chain(0..100) {
        timelines.note(note(MAC, wiping(percent)), 2000 + u64::from(percent));
    }
    let beside = |timelines: &Timelines| timelines.boots(MAC).next().unwrap().beside.len();
    assert_eq!((beside(&timelines), timelines.steps()), (1, 2), "one step with the latest share");
    for at in 0..10_000 {
        let state = if at % 2 == 0 { State::Ready } else { State::Allocated };
        timelines.note(note(MAC, became(state)), 10_000 + at);
    }
    assert_eq!((beside(&timelines), timelines.steps()), (32, 33));
    // The last of them is there still.
    assert!(says(timelines.boots(MAC).next().unwrap()).last().unwrap().starts_with("became allocated"));
    for number in 0..10_000u32 {
        let [_, _, a, b] = number.to_be_bytes();
        for _ in 0..20 {
            timelines.note(note(Mac([2, 0, 0, 0, a, b]), told(Act::On)), 20_000);
        }
    }
    assert_eq!(timelines.macs().len(), 1);
    let waiting = timelines.waiting();
    assert!(waiting <= 4096 * 8, "{waiting}");
}

#[test]
fn what_an_agent_says_pushes_out_nothing_that_was_done_with_its_machine() {
    let mut timelines = heard([rom(Given::Offer), became(State::Accepted), told(Act::Off)]);
    for number in 0..3000 {
        let what = What::Progress { does: format!("p{number}").into(), percent: None };
        timelines.note(note(MAC, what), 10_000 + number);
    }
    let boot = timelines.boots(MAC).next().unwrap();
    let says = says(boot);
    assert_eq!(says[1], "became accepted: its disks are wiped");
    assert_eq!((says[3].as_str(), says[10].as_str()), ("its agent: p2992", "its agent: p2999"));
    assert_eq!((says.len(), boot.more, timelines.steps()), (11, 2992, 11));
}

#[test]
fn a_boot_that_was_stored_has_what_was_done_beside_it() {
    let mut timelines = heard([rom(Given::Offer), became(State::Ready)]);
    let stored = timelines.take_unsaved(0, true);
    let text = serde_json::to_string(&stored[0]).unwrap();
    assert_eq!(serde_json::from_str::<Boot>(&text).unwrap(), stored[0]);
    // It is stored anew with what comes later.
    timelines.note(note(MAC, told(Act::Off)), 60_000);
    assert_eq!(timelines.take_unsaved(120_000, false)[0].beside.len(), 2);
}
