use super::*;
use crate::config::parse;
use crate::lifecycle::{Intent, Observed, Order, Status, Wanted};

pub(super) fn record(id: u64, name: &str, state: State) -> Record {
    let spec = Spec {
        name: Some(name.to_owned()),
        mac: vec![format!("02:00:00:00:00:{id:02x}")],
        ..Spec::default()
    };
    let status = Status::new(state, "a test".to_owned(), 1000);
    Record {
        id,
        version: 1,
        revision: id,
        spec,
        intent: Intent::default(),
        status,
        bmc_password: None,
        inventory: None,
    }
}

pub(super) fn entry(record: Record) -> Entry {
    Entry { record: record.into(), machine: Arc::default(), place: Place::Shadowed(String::new()) }
}

pub(super) fn rules() -> Rules {
    Rules { has_agent: true, wipes: true, limits: [(State::Installing, 60)].into(), ..Rules::default() }
}

#[test]
fn records_are_found_counted_and_looked_at_when_it_is_time() {
    let mut registry = Registry::default();
    registry.put(entry(record(1, "One", State::Installing)), &rules());
    registry.put(entry(record(2, "two", State::Ready)), &rules());
    assert_eq!(registry.named("ONE").map(|entry| entry.record.id), Some(1));
    assert_eq!((registry.next_revision(), registry.len()), (3, 2));
    let count = |registry: &Registry, state| registry.counts().into_iter().find(|(other, _)| *other == state);
    assert_eq!(count(&registry, State::Ready), Some((State::Ready, 1)));
    assert_eq!((registry.due(1060, 9), registry.due(1061, 9)), (vec![], vec![1]));
    let (late, stepped) = {
        let mut installing = record(1, "One", State::Installing);
        installing.intent.wanted = Wanted::Run;
        installing.observe(&rules(), Observed::Time, "xpxe", 1061).unwrap()
    };
    assert!(stepped.is_overdue);
    registry.put(entry(late), &rules());
    assert_eq!((registry.due(9999, 9), registry.count_overdue()), (vec![], 1));
    registry.put(entry(record(1, "renamed", State::Running)), &rules());
    assert!(registry.named("one").is_none() && registry.named("renamed").is_some());
    assert_eq!(
        (count(&registry, State::Installing), registry.count_overdue()),
        (Some((State::Installing, 0)), 0)
    );
    assert!(registry.remove(1).is_some() && registry.remove(1).is_none());
    assert_eq!(registry.after(0).map(|entry| entry.record.id).collect::<Vec<_>>(), [2]);
}

/// Whoever has noted a machine's number must not reach another machine by it.
#[test]
fn the_number_of_a_record_that_was_deleted_is_nobodys_also_after_a_restart() {
    let now = |micros| std::time::Duration::from_micros(micros);
    let mut registry = Registry::default();
    let first = registry.take_id(now(1_800_000_000_000_000));
    let second = registry.take_id(now(1_800_000_000_000_000));
    assert_eq!((first, second), (1_800_000_000_000_000, 1_800_000_000_000_001));
    let mut restarted = Registry::default();
    restarted.put(entry(record(first, "one", State::Ready)), &rules());
    assert!(restarted.take_id(now(1_800_000_000_000_009)) > second);
    assert_eq!(restarted.take_id(now(7)), 1_800_000_000_000_010, "the clock was set back");
}

#[test]
fn what_is_stored_is_read_as_it_was() {
    let mut whole = record(7, "node", State::Failed);
    whole.spec.labels.insert("role".to_owned(), "worker".to_owned());
    whole.spec.relay_port = Some(SwitchPort { circuit_id: "eth1/7".to_owned(), remote_id: None });
    whole.status.report = Some(Err("x".to_owned()));
    let text = serde_json::to_string(&whole).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), whole);
    let unknown = serde_json::from_str::<Spec>("{\"nmae\":\"x\"}").unwrap_err().to_string();
    assert!(unknown.contains("nmae"), "{unknown}");
    let config = parse("[[interface]]\nname = \"eth1\"\ndhcp = \"proxy\"\n", "test").unwrap();
    assert_eq!(whole.spec.check(&config).unwrap().name.as_deref(), Some("node"));
}

#[test]
fn selectors_choose_by_label_and_state() {
    let mut worker = record(1, "a", State::Ready);
    worker.spec.labels.insert("role".to_owned(), "worker".to_owned());
    for (selector, fits) in
        [("", true), ("role=worker", true), ("role", true), ("role=master", false), ("role,rack", false)]
    {
        let labels = Query::read_labels(selector).unwrap();
        assert_eq!(Query { labels, ..Query::default() }.fits(&worker), fits, "{selector}");
    }
    assert!(!Query { states: vec![State::Failed], ..Query::default() }.fits(&worker));
    assert!(Query::read_labels("=x").is_err());
}

/// A list that comes after the machines says what they are called, and nothing of what they do.
#[test]
fn what_no_person_has_ordered_of_an_expected_machine_changes_nothing_of_the_one_that_it_is() {
    let step = |record: Record, by: &str, now: u64| {
        record.observe(&rules(), Observed::Time, by, now).map_or(record, |(after, _)| after)
    };
    let expected = |intent: &Intent, by: &str| {
        let mut expected = record(1, "node1", State::Discovered);
        expected.spec.mac.clear();
        expected.intent = intent.clone();
        step(expected, by, 1001)
    };
    let nothing = Intent::default();
    let asked = record(9, "x", State::Discovered).status;
    let accepted = nothing.after(&Order::Accept, &asked).unwrap();
    let allocated = accepted.after(&Order::Allocate, &asked).unwrap();
    for state in State::ALL {
        let mut found = record(2, "x", state);
        found.spec.name = None;
        found.intent.ignored = state == State::Ignored;
        found.intent.maintenance = (state == State::Maintenance).then(|| "a fan".to_owned());
        for (intent, by) in [(&nothing, "xpxe"), (&accepted, "rule accept = \"all\"")] {
            let joined = expected(intent, by).joined(&found);
            assert_eq!((&joined.intent, joined.status.state), (&found.intent, state), "{state}, {by}");
            assert_eq!(joined.spec.mac, found.spec.mac);
        }
        for (intent, by) in [(&accepted, "operator"), (&allocated, "rule accept = \"all\"")] {
            let before = expected(intent, by);
            let after = step(before.joined(&found), "xpxe", 1002);
            if matches!(state, State::Discovered | State::Accepted | State::Ready) {
                assert_eq!((&after.intent, after.status.state), (intent, State::Accepted), "{state}, {by}");
                continue;
            }
            let is = if state == State::Ignored { state } else { State::Maintenance };
            assert_eq!((after.status.state, after.intent.wanted), (is, found.intent.wanted), "{state}, {by}");
            let why = after.intent.maintenance.unwrap_or_default();
            assert!(why.starts_with(&format!("node1 is 02:00:00:00:00:02, which was {state}: ")), "{why}");
            assert_eq!(why.ends_with("; a fan"), state == State::Maintenance, "{why}");
        }
    }
}

/// A list of boxes took all places of the machines that ask.
#[test]
fn a_machine_that_somebody_has_written_of_is_no_stranger() {
    let mut registry = Registry::default();
    let stranger = |id, state| {
        let mut found = record(id, "", state);
        found.spec.name = None;
        found
    };
    registry.put(entry(record(1, "written", State::Discovered)), &rules());
    registry.put(entry(stranger(2, State::Discovered)), &rules());
    registry.put(entry(stranger(3, State::Discovered)), &rules());
    registry.put(entry(stranger(3, State::Discovered)), &rules());
    assert_eq!(registry.count_strangers(), 2);
    registry.put(entry(stranger(2, State::Accepted)), &rules());
    assert_eq!(registry.count_strangers(), 1);
    registry.remove(3);
    assert_eq!(registry.count_strangers(), 0);
}

/// Whoever sends packets makes up machines, has a rule accept them, fails in their names, and reports what they consist of.
#[test]
fn a_machine_is_chosen_once_a_person_has_said_or_ordered_something_of_it() {
    let mut found = record(1, "", State::Discovered);
    found.spec.name = None;
    let step = |record: &Record, observed: Observed, by: &str| {
        record.observe(&rules(), observed, by, 1001).map_or_else(|| record.clone(), |(after, _)| after)
    };
    let accepted = found.intent.after(&Order::Accept, &found.status).unwrap();
    let accepted_by = |by: &str| {
        let record = Record { intent: accepted.clone(), ..found.clone() };
        step(&record, Observed::Time, by)
    };
    let by_rule = accepted_by("rule accept = \"all\"");
    let mut failed = step(&by_rule, Observed::Agent(Err("x".to_owned())), "xpxe");
    failed.inventory = Some(Arc::default());
    assert_eq!(failed.status.state, State::Failed);
    let mut held = by_rule.clone();
    held.intent.maintenance = Some("it says a serial number".to_owned());
    let held = step(&held, Observed::Time, "rule of [identity]");
    for made_up in [&found, &by_rule, &failed, &held] {
        assert!(!made_up.life().is_chosen, "{made_up:?}");
    }
    let mut labelled = found.clone();
    labelled.spec.labels = [("rack".to_owned(), "7".to_owned())].into();
    let mut allocated = by_rule.clone();
    allocated.intent = by_rule.intent.after(&Order::Allocate, &by_rule.status).unwrap();
    for chosen in [&labelled, &accepted_by("operator"), &allocated] {
        assert!(chosen.life().is_chosen, "{chosen:?}");
    }
}
