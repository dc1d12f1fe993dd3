//! Any state, any intent, any observation.

use super::*;

const NOW: u64 = 1_800_000_000;

fn rules() -> Rules {
    Rules { has_agent: true, wipes: true, limits: [(State::Installing, 3600)].into(), pause: 60, poll: 60 }
}

fn intent(wanted: Wanted) -> Intent {
    Intent { wanted, order: 1, ..Intent::default() }
}

fn status(state: State) -> Status {
    let before = matches!(state, State::Failed | State::Maintenance | State::Ignored);
    Status {
        before: before.then_some(State::Running),
        order: 1,
        ..Status::new(state, "a test".to_owned(), NOW)
    }
}

fn observed() -> [(&'static str, Observed); 9] {
    let (well, badly) = (|| Ok("ok".to_owned()), || Err("no disk".to_owned()));
    [
        ("time", Observed::Time),
        ("kernel", Observed::Kernel),
        ("wiped", Observed::Agent(well())),
        ("unwiped", Observed::Agent(badly())),
        ("written", Observed::Image(well())),
        ("unwritten", Observed::Image(badly())),
        ("done", Observed::Home(well())),
        ("broken", Observed::Home(badly())),
        ("power", Observed::Power { on: true, at: NOW + 1 }),
    ]
}

/// What becomes of a machine that was in each state, in the order of [`State::ALL`]: with nobody's decision, in the pool, and
/// to run. Who comes back from maintenance, or is not ignored any more, ran before.
const TABLE: [(&str, &str); 27] = [
    ("hold time", "discovered accepted ready released released released released released released failed"),
    ("hold kernel", "discovered accepted ready released released released released released released failed"),
    ("hold wiped", "discovered ready ready ready ready ready ready ready ready failed"),
    ("hold unwiped", "discovered failed ready failed failed failed failed failed failed failed"),
    (
        "hold written",
        "discovered accepted ready released released released released released released failed",
    ),
    (
        "hold unwritten",
        "discovered accepted ready released released released released released released failed",
    ),
    ("hold done", "discovered accepted ready released released released released released released failed"),
    ("hold broken", "discovered accepted ready released released released released released released failed"),
    ("hold power", "discovered accepted ready released released released released released released failed"),
    ("pool time", "accepted accepted ready released released released released released released failed"),
    ("pool kernel", "accepted accepted ready released released released released released released failed"),
    ("pool wiped", "ready ready ready ready ready ready ready ready ready failed"),
    ("pool unwiped", "failed failed ready failed failed failed failed failed failed failed"),
    ("pool written", "accepted accepted ready released released released released released released failed"),
    (
        "pool unwritten",
        "accepted accepted ready released released released released released released failed",
    ),
    ("pool done", "accepted accepted ready released released released released released released failed"),
    ("pool broken", "accepted accepted ready released released released released released released failed"),
    ("pool power", "accepted accepted ready released released released released released released failed"),
    ("run time", "accepted accepted allocated allocated installing running released running running failed"),
    (
        "run kernel",
        "accepted accepted installing installing installing running released running running failed",
    ),
    (
        "run wiped",
        "allocated allocated allocated allocated installing running allocated running running failed",
    ),
    ("run unwiped", "failed failed allocated allocated installing running failed running running failed"),
    (
        "run written",
        "accepted accepted installing installing installing running released running running failed",
    ),
    ("run unwritten", "accepted accepted failed failed failed running released running running failed"),
    ("run done", "accepted accepted running running running running released running running failed"),
    ("run broken", "accepted accepted failed failed failed running released running running failed"),
    ("run power", "accepted accepted allocated allocated installing running released running running failed"),
];

#[test]
fn any_state_and_any_event_and_a_second_delivery_changes_nothing() {
    let mut rows = TABLE.iter();
    for (want, wanted) in [("hold", Wanted::Hold), ("pool", Wanted::Pool), ("run", Wanted::Run)] {
        for (event, observed) in observed() {
            let (row, states) = rows.next().unwrap();
            assert_eq!(*row, format!("{want} {event}"));
            for (state, expected) in State::ALL.into_iter().zip(states.split(' ')) {
                let intent = intent(wanted);
                let mut machine = status(state);
                step(&rules(), &intent, &mut machine, Observed::Time, "xpxe", NOW);
                step(&rules(), &intent, &mut machine, observed.clone(), "xpxe", NOW + 1);
                assert_eq!(machine.state.name(), expected, "{state} after {row}: {machine:?}");
                let once = machine.clone();
                let again = step(&rules(), &intent, &mut machine, observed.clone(), "xpxe", NOW + 1);
                assert_eq!(machine, once, "{state} after {row} twice");
                assert_eq!(again, Stepped::default(), "{state} after {row} twice");
            }
        }
    }
    assert!(rows.next().is_none());
}

/// The same for what is wanted aside of that: it goes before everything.
#[test]
fn who_is_ignored_or_worked_on_is_that_whatever_happens_and_comes_back_to_what_it_was() {
    for state in State::ALL {
        for (_, observed) in observed() {
            let mut aside = intent(Wanted::Run);
            let mut machine = status(state);
            let before = machine.clone();
            aside.maintenance = Some("a new fan".to_owned());
            step(&rules(), &aside, &mut machine, observed.clone(), "operator", NOW);
            assert_eq!(machine.state, State::Maintenance, "{state}");
            aside.ignored = true;
            step(&rules(), &aside, &mut machine, observed.clone(), "operator", NOW);
            assert_eq!(machine.state, State::Ignored, "{state}");
            let back = if before.before.is_some() && state != State::Failed { State::Running } else { state };
            assert_eq!(machine.before, Some(back), "{state}");
        }
    }
}

/// Whoever gets a machine next must not find the last one's data, whatever was ordered meanwhile.
#[test]
fn a_failed_wipe_is_done_again_after_maintenance_too() {
    for state in [State::Accepted, State::Released] {
        let mut machine = status(state);
        let failed = Observed::Agent(Err("a disk is gone".to_owned()));
        step(&rules(), &intent(Wanted::Pool), &mut machine, failed, "agent", NOW);
        assert_eq!(machine.state, State::Failed);
        let mut aside = intent(Wanted::Pool);
        aside.maintenance = Some("a new disk".to_owned());
        step(&rules(), &aside, &mut machine, Observed::Time, "operator", NOW + 1);
        assert_eq!(machine.state, State::Maintenance);
        aside.maintenance = None;
        step(&rules(), &aside, &mut machine, Observed::Time, "operator", NOW + 2);
        assert_eq!(
            (machine.state, machine.reason.as_str()),
            (State::Failed, "the agent reports: a disk is gone")
        );
        let allocated = Intent { wanted: Wanted::Run, order: machine.order + 1, ..aside };
        step(&rules(), &allocated, &mut machine, Observed::Time, "operator", NOW + 3);
        assert_eq!(machine.state, state, "it is wiped before it is allocated");
    }
}

#[test]
fn what_a_system_reports_during_maintenance_counts_afterwards() {
    let reports = [
        (Observed::Home(Ok("ok".to_owned())), State::Running),
        (Observed::Home(Err("no disk".to_owned())), State::Failed),
    ];
    for (report, end) in reports {
        let mut machine = status(State::Installing);
        let mut aside = intent(Wanted::Run);
        aside.maintenance = Some("a look".to_owned());
        for observed in [Observed::Time, report, Observed::Time] {
            step(&rules(), &aside, &mut machine, observed, "operator", NOW);
            assert_eq!(machine.state, State::Maintenance);
        }
        aside.maintenance = None;
        step(&rules(), &aside, &mut machine, Observed::Time, "operator", NOW);
        step(&rules(), &aside, &mut machine, Observed::Time, "operator", NOW);
        assert_eq!(machine.state, end);
    }
}

#[test]
fn a_wipe_that_was_ordered_during_maintenance_is_not_forgotten() {
    let mut machine = status(State::Running);
    let wiped = Intent { wipe: machine.wiped + 1, ..intent(Wanted::Run) };
    step(&rules(), &wiped, &mut machine, Observed::Time, "operator", NOW);
    assert_eq!(machine.state, State::Released);
}

#[test]
fn the_whole_circle_with_who_when_and_why() {
    let rules = rules();
    let mut machine = Status::new(State::Discovered, "it asked for the first time".to_owned(), NOW);
    let mut wanted = Intent::default();
    let mut went = Vec::new();
    let done = || Observed::Home(Ok(String::new()));
    let wiped = || Observed::Agent(Ok(String::new()));
    let mut now = NOW;
    let mut go = |order: Option<Order>, observed: Observed, machine: &mut Status, wanted: &mut Intent| {
        now += 10;
        if let Some(order) = order {
            *wanted = wanted.after(&order, machine).unwrap();
        }
        let stepped = step(&rules, wanted, machine, observed, "operator", now);
        went.extend(stepped.changes.iter().map(|past| past.to.name()));
    };
    go(Some(Order::Accept), Observed::Time, &mut machine, &mut wanted);
    go(None, wiped(), &mut machine, &mut wanted);
    go(Some(Order::Allocate), Observed::Time, &mut machine, &mut wanted);
    go(None, Observed::Kernel, &mut machine, &mut wanted);
    go(None, done(), &mut machine, &mut wanted);
    go(Some(Order::Reinstall), Observed::Time, &mut machine, &mut wanted);
    go(None, Observed::Kernel, &mut machine, &mut wanted);
    go(None, Observed::Home(Err("disk full".to_owned())), &mut machine, &mut wanted);
    go(Some(Order::Reinstall), Observed::Kernel, &mut machine, &mut wanted);
    go(None, Observed::Kernel, &mut machine, &mut wanted);
    go(None, done(), &mut machine, &mut wanted);
    go(Some(Order::Release), Observed::Time, &mut machine, &mut wanted);
    go(None, wiped(), &mut machine, &mut wanted);
    go(Some(Order::Wipe), Observed::Time, &mut machine, &mut wanted);
    go(None, wiped(), &mut machine, &mut wanted);
    assert_eq!(
        went,
        [
            "accepted",
            "ready",
            "allocated",
            "installing",
            "running",
            "allocated",
            "installing",
            "failed",
            "allocated",
            "installing",
            "running",
            "released",
            "ready",
            "released",
            "ready"
        ]
    );
    assert_eq!(machine.history.len(), went.len());
    let failed = &machine.history[7];
    assert_eq!((failed.from, failed.to, failed.at), (State::Installing, State::Failed, NOW + 80));
    assert_eq!((failed.by.as_str(), failed.why.as_str()), ("operator", "it reports: disk full"));
}

#[test]
fn an_order_that_was_given_already_is_no_new_one() {
    for wanted in [Wanted::Hold, Wanted::Pool, Wanted::Run] {
        for state in State::ALL {
            for order in [
                Order::Accept,
                Order::Ignore,
                Order::Allocate,
                Order::Release,
                Order::Wipe,
                Order::Reinstall,
                Order::Maintain("x".to_owned()),
                Order::Resume,
            ] {
                let mut machine = status(state);
                let before = intent(wanted);
                let Ok(once) = before.after(&order, &machine) else { continue };
                assert_eq!(once.after(&order, &machine), Ok(once.clone()), "{order:?} in {state}");
                step(&rules(), &once, &mut machine, Observed::Time, "operator", NOW);
                let again = once.after(&order, &machine);
                // Who runs again may be installed again: that is a new order.
                if !(order == Order::Reinstall && matches!(machine.state, State::Installing | State::Running)
                    || order == Order::Wipe && machine.state == State::Ready)
                {
                    assert_eq!(again, Ok(once), "{order:?} in {state}, then {}", machine.state);
                }
            }
        }
    }
    let ignored = Intent { ignored: true, ..Intent::default() };
    assert_eq!(ignored.after(&Order::Wipe, &status(State::Ignored)), Err(OrderError::Ignored));
}

#[test]
fn history_is_bounded() {
    let mut machine = status(State::Running);
    for number in 0..100 {
        let mut wanted = intent(Wanted::Run);
        wanted.maintenance = (number % 2 == 0).then(|| format!("work {number}"));
        step(&rules(), &wanted, &mut machine, Observed::Time, "operator", NOW + number);
    }
    assert_eq!(machine.history.len(), MOST_KEPT);
    assert_eq!(machine.history.last().unwrap().at, NOW + 99);
}

#[test]
fn who_is_in_a_state_for_too_long_is_said_to_be_once() {
    let mut machine = status(State::Installing);
    let wanted = intent(Wanted::Run);
    let mut at =
        |after| step(&rules(), &wanted, &mut machine, Observed::Time, "xpxe", NOW + after).is_overdue;
    assert_eq!([3600, 3601, 3602].map(&mut at), [false, true, false]);
}

#[test]
fn without_an_agent_nothing_is_ready_unless_that_is_wanted() {
    let wanted = intent(Wanted::Pool);
    let mut machine = status(State::Released);
    let none = Rules { has_agent: false, ..rules() };
    step(&none, &wanted, &mut machine, Observed::Time, "xpxe", NOW);
    assert_eq!(machine.state, State::Released);
    assert!(machine.waits.contains("there is no agent"), "{}", machine.waits);
    step(&Rules { wipes: false, ..none }, &wanted, &mut machine, Observed::Time, "xpxe", NOW);
    assert_eq!(machine.state, State::Ready);
}

/// By it a late report of an earlier one is known.
#[test]
fn each_installation_has_a_number_of_its_own() {
    let mut machine = status(State::Ready);
    let mut wanted = intent(Wanted::Pool);
    let mut go = |order: Order, observed: Observed| {
        wanted = wanted.after(&order, &machine).unwrap();
        step(&rules(), &wanted, &mut machine, observed, "operator", NOW);
        (machine.state, machine.run)
    };
    assert_eq!(go(Order::Allocate, Observed::Time), (State::Allocated, NOW));
    assert_eq!(go(Order::Allocate, Observed::Kernel), (State::Installing, NOW));
    // In the same second.
    assert_eq!(go(Order::Reinstall, Observed::Time), (State::Allocated, NOW + 1));
    // Who comes back goes on with what it did, unless somebody has ordered it anew.
    assert_eq!(go(Order::Maintain("a fan".to_owned()), Observed::Time).1, NOW + 1);
    assert_eq!(go(Order::Resume, Observed::Time), (State::Allocated, NOW + 1));
    go(Order::Maintain("a fan".to_owned()), Observed::Time);
    go(Order::Reinstall, Observed::Time);
    assert_eq!(go(Order::Resume, Observed::Time), (State::Allocated, NOW + 2));
}
