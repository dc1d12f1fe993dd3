//! Machines of a manifest that has their serial numbers and no MACs.

use boot_engine::events::{Meanwhile, Shared};
use serde_json::{Value, json};

use super::conflicts::spec;
use super::*;

const CARD: &str = "02:00:00:00:00:09";
const OTHER: &str = "02:00:00:00:00:10";

fn row(name: &str, serial: &str) -> Value {
    json!({ "spec": { "name": name, "serial": serial, "labels": { "rack": "7" } } })
}

impl Rig {
    fn expects(&self, name: &str, serial: &str) {
        let done = self.import(&[row(name, serial)], false);
        assert_eq!((done.added, &done.refused[..]), (1, &[][..]), "{done:?}");
    }

    fn says_serial(&self, mac: &str, serial: &str) {
        self.runtime.block_on(self.registry.heard_serial(mac.parse().unwrap(), serial));
    }

    fn discovers(&self, mac: &str) {
        let mac = mac.parse().unwrap();
        self.registry.sighted(mac, None);
        self.eventually("it is discovered", |rig| rig.machines.life_of(mac));
    }

    /// A machine that a rule accepts has come as far as running.
    fn runs(&self, mac: &str) {
        self.discovers(mac);
        self.observe(mac, Observed::Agent(Ok(String::new())));
        self.order(mac, Order::Allocate).unwrap();
        self.observe(mac, Observed::Home(Ok(String::new())));
        assert_eq!(self.record(mac).status.state, State::Running);
    }

    /// The machine has its MAC now.
    fn is_met(&self, name: &str) -> Arc<Record> {
        self.eventually("it has a MAC", |rig| Some(rig.record(name)).filter(|it| !it.spec.mac.is_empty()))
    }

    fn expected_event(&self, events: &mut Reader) -> (Option<String>, String, Option<String>) {
        let next = async {
            loop {
                if let Some(event) = events.next().await
                    && let Step::Expected { serial, before } = &event.step
                {
                    let before = before.as_ref().map(ToString::to_string);
                    return (event.name().map(str::to_owned), serial.to_string(), before);
                }
            }
        };
        self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), next).await.unwrap() })
    }

    fn count(&self) -> usize {
        let page = self.ask(|reply| RegistryAsk::List(Query::default(), reply)).unwrap();
        page.machines.iter().filter(|view| matches!(view, View::Registered { .. })).count()
    }
}

#[test]
fn the_first_machine_that_says_an_expected_serial_number_is_that_one() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    rig.expects("node1", "CZ12");
    let mut events = rig.events.read();
    assert!(!rig.machines.has_without_mac(), "nobody has to look at each DHCP message for it");
    rig.says_serial(CARD, " cz12");
    let record = rig.is_met("node1");
    assert_eq!(
        (record.spec.mac.as_slice(), record.spec.labels["rack"].as_str()),
        (&[CARD.to_owned()][..], "7")
    );
    assert_eq!(rig.expected_event(&mut events), (Some("node1".to_owned()), "CZ12".to_owned(), None));
    let known = rig.machines.by_mac(CARD.parse().unwrap()).unwrap();
    assert_eq!(known.machine.name.as_deref(), Some("node1"), "who answers it knows");
    // The same list again takes nothing away that was learnt.
    assert_eq!(rig.import(&[row("node1", "CZ12")], false).unchanged, 1);
    assert_eq!(rig.import(&[json!({ "spec": { "serial": "cz12", "ip": "10.1.1.5" } })], false).changed, 1);
    rig.kill();
    let rig = Rig::start(dir.path(), CONFIG);
    assert_eq!(rig.record("serial:cz12").spec.mac, [CARD], "after a kill");
    // Another one that says it is told of, and is nobody.
    let mut events = rig.events.read();
    rig.says_serial(OTHER, "CZ12");
    let (mac, conflict) = rig.next_conflict(&mut events);
    let what = Shared::Serial { serial: "CZ12".into(), other: CARD.into() };
    assert_eq!(
        (mac.to_string().as_str(), conflict.what, conflict.meanwhile),
        (OTHER, what, Meanwhile::Nothing)
    );
    assert_eq!(rig.record("serial:CZ12").spec.mac, [CARD]);
    rig.kill();
}

#[test]
fn a_discovered_machine_that_is_an_expected_one_is_one_record() {
    let dir = tempfile::tempdir().unwrap();
    // It is accepted before anybody knows its serial number, and it stays so.
    let config = CONFIG.replace("accept = \"rack7\"", "accept = \"all\"");
    let rig = Rig::start(dir.path(), &config);
    rig.discovers(CARD);
    rig.eventually("it is accepted", |rig| (rig.record(CARD).status.state == State::Accepted).then_some(()));
    let before = rig.record(CARD);
    let done = rig.import(&[row("node1", "CZ12")], false);
    assert_eq!(done.added, 1, "{done:?}");
    let served = || rig.machines.by_mac(CARD.parse().unwrap()).map(|known| known.id);
    let mut events = rig.events.read();
    let served_before = served();
    rig.report(CARD, "CZ12", &[CARD]).unwrap();
    assert_eq!(served(), served_before, "its agent goes on");
    let record = rig.record("node1");
    assert_eq!(record.spec.mac, [CARD]);
    assert_eq!(
        (rig.count(), record.id == before.id),
        (1, false),
        "one record, and that is the expected one's"
    );
    assert!(before.status.history.iter().all(|past| record.status.history.contains(past)), "{record:?}");
    assert_eq!(record.inventory.as_ref().map(|it| it.system.serial.as_str()), Some("CZ12"));
    let expected = (Some("node1".to_owned()), "CZ12".to_owned(), Some(CARD.to_owned()));
    assert_eq!(rig.expected_event(&mut events), expected);
    rig.kill();
}

#[test]
fn what_was_ordered_of_an_expected_machine_beforehand_is_what_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    rig.expects("node1", "CZ12");
    rig.order("node1", Order::Allocate).unwrap();
    assert_eq!(rig.record("node1").status.state, State::Accepted);
    rig.discovers(CARD);
    rig.says_serial(CARD, "CZ12");
    let record = rig.is_met("node1");
    assert_eq!((record.status.state, rig.count()), (State::Accepted, 1));
    rig.kill();
}

#[test]
fn a_manifest_may_come_after_the_machines() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    rig.discovers(CARD);
    rig.report(CARD, "CZ12", &[CARD]).unwrap();
    rig.expects("node1", "cz12");
    assert_eq!((rig.record("node1").spec.mac.as_slice(), rig.count()), (&[CARD.to_owned()][..], 1));
    rig.kill();
}

#[test]
fn serial_numbers_that_tell_no_machine_from_others_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    rig.put(spec("known", OTHER, None));
    rig.report("known", "CZ99", &[OTHER]).unwrap();
    let rows = [
        row("a", "To Be Filled By O.E.M."),
        row("b", "CZ12"),
        row("c", " cz12 "),
        row("d", "CZ99"),
        json!({ "spec": { "ip": "10.1.1.9" } }),
    ];
    for dry_run in [true, false] {
        let done = rig.import(&rows, dry_run);
        let refused: Vec<usize> = done.refused.iter().map(|(position, _)| *position).collect();
        assert_eq!((done.added, refused), (1, vec![0, 2, 3, 4]), "{done:?}");
        for (at, says) in [(0, "have no serial number"), (1, "serial number"), (2, "known has reported it")] {
            assert!(done.refused[at].1.contains(says), "{done:?}");
        }
    }
    // Who says what nobody can be told by is nobody.
    rig.says_serial(CARD, "To Be Filled By O.E.M.");
    rig.discovers(CARD);
    assert_eq!(rig.record(CARD).spec.name, None);
    // One that is written as another machine is not taken for the expected one.
    let mut events = rig.events.read();
    rig.put(spec("mine", "02:00:00:00:00:11", None));
    rig.report("mine", "CZ12", &["02:00:00:00:00:11"]).unwrap();
    let (_, conflict) = rig.next_conflict(&mut events);
    assert_eq!(conflict.what, Shared::Serial { serial: "CZ12".into(), other: "b".into() });
    assert_eq!((rig.record("b").spec.mac.len(), conflict.meanwhile), (0, Meanwhile::Waits));
    rig.kill();
}

/// A rule accepts what a list adds, and that is nobody's order: what runs was wiped.
#[test]
fn a_list_that_comes_later_changes_nothing_of_what_its_machines_do() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), &CONFIG.replace("accept = \"rack7\"", "accept = \"all\""));
    rig.runs(CARD);
    rig.report(CARD, "CZ12", &[CARD]).unwrap();
    rig.expects("node1", "CZ12");
    let record = rig.record("node1");
    assert_eq!(
        (record.status.state, record.spec.mac.as_slice(), rig.count()),
        (State::Running, &[CARD.to_owned()][..], 1)
    );
    // Who has ordered something did not know that it runs.
    rig.expects("node2", "CZ13");
    assert_eq!(rig.record("node2").status.state, State::Discovered, "nobody knows yet which machine it is");
    rig.order("node2", Order::Allocate).unwrap();
    rig.runs(OTHER);
    rig.says_serial(OTHER, "CZ13");
    let held = rig.is_met("node2");
    assert_eq!((held.status.state, held.status.before), (State::Maintenance, Some(State::Running)));
    assert!(held.status.reason.starts_with(&format!("node2 is {OTHER}, which was running: ")), "{held:?}");
    rig.order("node2", Order::Resume).unwrap();
    assert_eq!(rig.record("node2").status.state, State::Running);
    // The rule accepts it when it is there.
    rig.expects("node3", "CZ14");
    rig.says_serial("02:00:00:00:00:11", "CZ14");
    let accepted = |rig: &Rig| (rig.record("node3").status.state == State::Accepted).then_some(());
    rig.eventually("it is accepted", accepted);
    rig.kill();
}

#[test]
fn a_machine_that_cannot_be_the_expected_one_yet_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!("{CONFIG}[[profile]]\nname = \"spare\"\nkernel = \"spare/vmlinuz\"\n");
    let rig = Rig::start(dir.path(), &config);
    let spec = json!({ "name": "node1", "serial": "CZ12", "profile": "spare" });
    assert_eq!(rig.import(&[json!({ "spec": spec })], false).added, 1);
    rig.discovers(CARD);
    rig.order(CARD, Order::Accept).unwrap();
    let before = rig.record(CARD);
    rig.kill();
    let rig = Rig::start(dir.path(), CONFIG);
    let refused = rig.report(CARD, "CZ12", &[CARD]).unwrap_err().to_string();
    assert!(refused.contains("no profile \"spare\""), "{refused}");
    rig.says_serial(CARD, "CZ12");
    let after = rig.record(CARD);
    assert_eq!((after.id, after.status.state), (before.id, State::Accepted));
    assert_eq!((&after.status.history, rig.count()), (&before.status.history, 2));
    let life = rig.machines.life_of(CARD.parse().unwrap()).unwrap();
    assert_eq!((life.record, life.state), (before.id, State::Accepted), "and is served so");
    rig.kill();
    let rig = Rig::start(dir.path(), &config);
    rig.report(CARD, "CZ12", &[CARD]).unwrap();
    let record = rig.record("node1");
    assert_eq!((record.status.state, record.spec.mac.as_slice()), (State::Accepted, &[CARD.to_owned()][..]));
    rig.kill();
    let rig = Rig::start(dir.path(), &config);
    assert_eq!((rig.record(CARD).id, rig.count()), (record.id, 1), "after a kill");
    rig.kill();
}

#[test]
fn a_card_that_was_taken_for_an_expected_machine_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    rig.expects("node1", "CZ12");
    rig.says_serial(OTHER, "CZ12");
    rig.is_met("node1");
    rig.discovers(CARD);
    let set = |macs: &[&str]| {
        let mac = macs.iter().map(|mac| (*mac).to_owned()).collect();
        let spec = Spec { mac, ..rig.record("node1").spec.clone() };
        rig.ask(|reply| RegistryAsk::Put("node1".to_owned(), None, spec, reply)).unwrap();
    };
    // Nobody has said anything of the other record: it is part of this one.
    set(&[OTHER, CARD]);
    assert_eq!((rig.record(CARD).spec.name.as_deref(), rig.count()), (Some("node1"), 1));
    let served = |mac: &str| rig.machines.by_mac(mac.parse().unwrap());
    assert_eq!(served(CARD).map(|known| known.id), served(OTHER).map(|known| known.id));
    set(&[]);
    assert!(served(CARD).is_none() && served(OTHER).is_none());
    rig.says_serial(CARD, "CZ12");
    assert_eq!(rig.is_met("node1").spec.mac, [CARD]);
    rig.kill();
    let rig = Rig::start(dir.path(), CONFIG);
    assert_eq!((rig.record(CARD).spec.name.as_deref(), rig.count()), (Some("node1"), 1), "after a kill");
    rig.kill();
}

/// It may be that machine by another card, and was wiped while that one ran.
#[test]
fn who_says_the_serial_number_of_another_machine_is_held_before_it_is_wiped() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), &CONFIG.replace("accept = \"rack7\"", "accept = \"all\""));
    rig.expects("node1", "CZ12");
    rig.says_serial(CARD, "CZ12");
    assert_eq!(rig.record("node1").spec.mac, [CARD]);
    let (by_agent, another) = ("02:00:00:00:00:11", "02:00:00:00:00:12");
    rig.discovers(OTHER);
    assert_eq!(rig.record(OTHER).status.state, State::Accepted);
    rig.says_serial(OTHER, "CZ12");
    rig.discovers(by_agent);
    rig.report(by_agent, "CZ12", &[by_agent]).unwrap();
    // So is one that reports another number than is written of it: somebody else may have said that one.
    rig.expects("node2", "CZ13");
    rig.says_serial(another, "CZ13");
    assert_eq!(rig.record("node2").status.state, State::Accepted);
    rig.report("node2", "CZ14", &[another]).unwrap();
    for which in [OTHER, by_agent, "node2"] {
        let record = rig.record(which);
        assert_eq!(record.status.state, State::Maintenance, "{record:?}");
        assert!(record.status.reason.contains("the serial number CZ1"), "{record:?}");
    }
    assert_eq!(rig.record("node1").status.state, State::Accepted, "nothing happens to the other one");
    rig.kill();
}

#[test]
fn a_serial_number_that_two_machines_have_reported_makes_neither_the_expected_one() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    for card in [CARD, OTHER] {
        rig.discovers(card);
        rig.report(card, "CZ12", &[card]).unwrap();
    }
    rig.expects("node1", "CZ12");
    rig.order(OTHER, Order::Accept).unwrap();
    let mut events = rig.events.read();
    rig.says_serial(CARD, "CZ12");
    let (mac, conflict) = rig.next_conflict(&mut events);
    let what = Shared::Board { mark: "the serial number CZ12".into(), other: OTHER.into() };
    assert_eq!((mac.to_string().as_str(), conflict.what), (CARD, what));
    rig.report(OTHER, "CZ12", &[OTHER]).unwrap();
    assert_eq!((rig.record("node1").spec.mac.len(), rig.count()), (0, 3));
    assert_eq!(rig.record(OTHER).status.state, State::Maintenance);
    // A person says which one it is not.
    rig.ask(|reply| RegistryAsk::Delete(OTHER.to_owned(), None, reply)).unwrap();
    assert_eq!(rig.import(&[row("node1", "CZ12")], false).unchanged, 1);
    assert_eq!(rig.record("node1").spec.mac, [CARD]);
    rig.kill();
}

#[test]
fn all_serial_numbers_that_are_said_at_once_are_heard() {
    const MANY: u16 = 300;
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    let rows: Vec<Value> = (0..MANY).map(|n| row(&format!("node{n}"), &format!("CZ{n}x"))).collect();
    assert_eq!(rig.import(&rows, false).added, usize::from(MANY));
    rig.runtime.block_on(async {
        let mut said = tokio::task::JoinSet::new();
        for n in 0..MANY {
            let ([first, last], registry) = (n.to_be_bytes(), rig.registry.clone());
            let mac = Mac([2, 0, 0, 1, first, last]);
            said.spawn(async move { registry.heard_serial(mac, &format!("CZ{n}x")).await });
        }
        said.join_all().await;
    });
    let is_met = |n: &u16| !rig.record(&format!("node{n}")).spec.mac.is_empty();
    assert_eq!((0..MANY).filter(is_met).count(), usize::from(MANY));
    rig.kill();
}
