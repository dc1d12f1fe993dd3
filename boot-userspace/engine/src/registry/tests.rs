use super::*;
use crate::config::parse;
use crate::lifecycle::{Intent, Observed, Status, Wanted};

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
