//! Power as it is wanted and as it is seen: each row is a moment of one machine.

use super::*;

const NOW: u64 = 1_800_000_000;

/// A machine with its rules, whose BMC is played by the test.
struct Rig {
    rules: Rules,
    intent: Intent,
    status: Status,
}

/// What happens to it.
#[derive(Clone, Copy, Debug)]
enum Ev {
    Off,
    On,
    Time,
    Kernel,
    Well,
    Badly,
    Blind,
    Dead,
}
use Ev::{Badly, Blind, Dead, Kernel, Off, On, Time, Well};

impl Rig {
    fn new(state: State, wanted: Wanted, from: State) -> Self {
        let rules = Rules { has_agent: true, wipes: true, limits: [].into(), pause: 60, poll: 60 };
        let intent = Intent { wanted, order: 1, ..Intent::default() };
        let mut status = Status::new(from, "a test".to_owned(), NOW);
        status.order = 1;
        status.become_state(state, "a test".to_owned(), "operator", &intent, NOW);
        Self { rules, intent, status }
    }

    /// What the BMC is told, at so many seconds.
    fn see(&mut self, after: u64, event: Ev) -> Option<Act> {
        let at = NOW + after;
        let command = self.status.power.last.as_ref().map_or(0, |done| done.at);
        let observed = match event {
            On | Off => Observed::Power { on: matches!(event, On), at },
            Time => Observed::Time,
            Kernel => Observed::Kernel,
            Well => Observed::Answer { at: command, end: Ok(()) },
            Badly => Observed::Answer { at: command, end: Err("it answers 500".to_owned()) },
            Blind => Observed::Blind(Blindness::CannotTell),
            Dead => Observed::Blind(Blindness::Failed("no route to it".to_owned())),
        };
        let stepped = step(&self.rules, &self.intent, &mut self.status, observed.clone(), "xpxe", at);
        // A second delivery changes nothing.
        let once = self.status.clone();
        let again = step(&self.rules, &self.intent, &mut self.status, observed, "xpxe", at);
        assert_eq!((&self.status, again.power), (&once, None), "{event:?} at {after} twice");
        stepped.power
    }

    fn run(&mut self, rows: &[(u64, Ev, Option<Act>)]) {
        for (after, event, expected) in rows {
            assert_eq!(self.see(*after, *event), *expected, "{event:?} at {after}: {:?}", self.status);
        }
    }
}

#[test]
fn off_is_believed_after_two_readings_and_tried_three_times_with_a_restart_of_the_bmc_between() {
    let mut rig = Rig::new(State::Allocated, Wanted::Run, State::Ready);
    rig.run(&[
        (1, Off, None),
        (2, On, None),
        (3, Off, None),
        (4, Off, Some(Act::On)),
        // Nothing is done while the BMC has not answered, and then there is a pause.
        (100, Time, None),
        (101, Well, None),
        (105, Off, None),
        (110, Off, None),
        (160, Time, None),
        (161, Time, Some(Act::On)),
        (162, Badly, None),
        (165, Off, None),
        (170, Off, None),
        (222, Time, Some(Act::ResetBmc)),
        (223, Well, None),
        (230, Dead, None),
        (300, Off, None),
        (310, Off, None),
    ]);
    assert_eq!(rig.status.waits, "the BMC says off, 2 of 3 tries to switch it on");
    assert!(rig.status.waits_at(NOW + 373).ends_with("told again in 30 s at the earliest"));
    rig.run(&[(403, Time, Some(Act::Cycle)), (404, Badly, None), (410, Off, None), (415, Off, None)]);
    let says = "the BMC says off, 3 of 3 tries to switch it on; at the last one it said: it answers 500";
    assert_eq!(rig.status.waits, says);
    rig.run(&[(464, Time, None)]);
    assert_eq!(rig.status.state, State::Failed);
    let why =
        "it cannot be switched on: the BMC says off after 3 tries; at the last one it said: it answers 500";
    assert_eq!(rig.status.reason, why);
}

#[test]
fn who_is_on_is_cycled_once_to_boot_from_the_network_and_left_alone_then() {
    let mut rig = Rig::new(State::Released, Wanted::Pool, State::Running);
    rig.run(&[
        (1, On, None),
        (2, On, Some(Act::Cycle)),
        (3, Well, None),
        (8, On, None),
        (13, On, None),
        (200, Time, None),
        (210, On, None),
    ]);
    assert_eq!((rig.status.power.tries(), rig.status.power.next_try), (0, 0));
    // Who has begun to boot what it is to boot is not disturbed.
    let mut rig = Rig::new(State::Accepted, Wanted::Pool, State::Discovered);
    rig.run(&[(1, On, None), (2, Kernel, None), (3, On, None)]);
    // It went off by itself: that is not wanted.
    rig.run(&[(60, Off, None), (65, Off, Some(Act::On))]);
}

#[test]
fn who_is_free_is_off_and_what_nobody_decides_about_is_left_alone() {
    let mut rig = Rig::new(State::Ready, Wanted::Pool, State::Released);
    rig.run(&[(1, On, None), (2, On, Some(Act::Off)), (3, Well, None), (8, Off, None), (13, Off, None)]);
    assert!(rig.status.waits.starts_with("it is free"), "{}", rig.status.waits);
    for (state, wanted) in
        [(State::Running, Wanted::Run), (State::Installing, Wanted::Run), (State::Discovered, Wanted::Hold)]
    {
        let mut rig = Rig::new(state, wanted, State::Allocated);
        rig.run(&[(1, On, None), (2, On, None), (60, Off, None), (65, Off, None)]);
        assert_eq!(rig.status.power.is_on(), Some(false));
    }
}

#[test]
fn a_bmc_that_is_silent_is_waited_for_and_fails_nobody() {
    let mut rig = Rig::new(State::Allocated, Wanted::Run, State::Ready);
    rig.run(&[(1, Dead, None), (1000, Dead, None)]);
    assert_eq!(rig.status.state, State::Allocated);
    let waits = "its BMC cannot be asked (no route to it): mend that, or switch the machine on by hand";
    assert_eq!(rig.status.waits, waits);
    rig.run(&[(2000, Off, None), (2005, Off, Some(Act::On))]);
}

#[test]
fn who_cannot_be_asked_is_woken_once() {
    let mut rig = Rig::new(State::Allocated, Wanted::Run, State::Ready);
    rig.run(&[(1, Blind, Some(Act::On)), (2, Well, None), (61, Blind, None), (200, Blind, None)]);
    let mut rig = Rig::new(State::Ready, Wanted::Pool, State::Released);
    rig.run(&[(1, Blind, None)]);
}

#[test]
fn a_command_of_an_operator_is_taken_down_and_orders_of_the_state_wait_for_its_end() {
    let mut rig = Rig::new(State::Allocated, Wanted::Run, State::Ready);
    rig.run(&[(1, Off, None)]);
    let command = Observed::Command { act: Act::Cycle, by: "operator".to_owned(), at: NOW + 2 };
    let stepped = step(&rig.rules, &rig.intent, &mut rig.status, command, "operator", NOW + 2);
    assert_eq!(stepped.power, None);
    rig.run(&[(3, Off, None), (4, Off, None), (5, Badly, None)]);
    let last = rig.status.power.last.clone().unwrap();
    assert_eq!((last.by.as_str(), last.end), ("operator", Some(Err("it answers 500".to_owned()))));
    rig.run(&[(10, Off, None), (15, Off, None), (64, Time, None), (65, Time, Some(Act::On))]);
}

#[test]
fn a_bmc_is_asked_often_while_something_is_awaited() {
    for (state, power, expected) in [
        (State::Allocated, Power { boot: true, ..Power::default() }, 5),
        (State::Allocated, Power { read: Some((true, 1)), confirmed: true, ..Power::default() }, 60),
        (State::Ready, Power { read: Some((true, 1)), confirmed: true, ..Power::default() }, 5),
        (State::Ready, Power { read: Some((false, 1)), confirmed: true, ..Power::default() }, 60),
        (State::Ready, Power { blind: Some(Blindness::CannotTell), ..Power::default() }, 60),
        (State::Running, Power::default(), 60),
    ] {
        assert_eq!(power.asks_after(state, 60), expected, "{state}: {power:?}");
    }
}
