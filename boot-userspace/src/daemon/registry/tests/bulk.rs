//! Many machines at once.

use super::*;
use crate::daemon::request::{ImportItem, Imported};

impl Rig {
    pub(super) fn import(&self, items: &[serde_json::Value], dry_run: bool) -> Imported {
        let items = items.iter().map(|item| serde_json::from_value::<ImportItem>(item.clone()).unwrap());
        let items = items.collect();
        self.ask(|reply| RegistryAsk::Import(items, dry_run, reply)).unwrap()
    }
}

fn item(name: &str, mac: &str) -> serde_json::Value {
    serde_json::json!({ "spec": { "name": name, "mac": [mac] } })
}

#[test]
fn what_is_imported_is_added_changed_or_refused_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    rig.create("node1", "02:00:00:00:00:09").unwrap();
    rig.create("node2", "02:00:00:00:00:10").unwrap();
    let items = [
        item("node1", "02:00:00:00:00:09"),
        // The two have changed their cards: the second one's is free only when the first one has another.
        serde_json::json!({ "spec": { "mac": ["02:00:00:00:00:11"], "name": "node2" } }),
        item("node3", "02:00:00:00:00:10"),
        item("node4", "02:00:00:00:00:10"),
        item("NODE3", "02:00:00:00:00:13"),
        item("from-file", "02:00:00:00:00:14"),
        serde_json::json!({ "spec": { "ip": "10.1.1.7" } }),
        serde_json::json!({ "spec": { "name": "node5", "nmae": 1 } }),
        serde_json::json!({ "spec": { "name": "node1", "ip": "10.1.1.9" }, "keep": true }),
        item("02:00:00:00:00:15", "02:00:00:00:00:15"),
    ];
    let dry = rig.import(&items, true);
    assert_eq!((dry.added, rig.record("node1").version), (1, 1), "{dry:?}");
    assert!(matches!(rig.order("node3", Order::Accept), Err(RegistryError::Unknown(_))));
    let done = rig.import(&items, false);
    let refused: Vec<usize> = done.refused.iter().map(|(position, _)| *position).collect();
    assert_eq!((done.added, done.changed, done.unchanged), (1, 2, 1), "{done:?}");
    assert_eq!(refused, [3, 4, 5, 6, 7, 9], "{done:?}");
    for (position, says) in [
        (3, "it is node3's"),
        (4, "node3 is twice in what is imported"),
        (5, "is in the configuration"),
        (7, "unknown field `nmae`"),
    ] {
        let why = &done.refused.iter().find(|(other, _)| *other == position).unwrap().1;
        assert!(why.contains(says), "{why}");
    }
    let mac = |which: &str| rig.record(which).spec.mac[0].clone();
    assert_eq!((mac("node2"), mac("node3")), ("02:00:00:00:00:11".into(), "02:00:00:00:00:10".into()));
    assert_eq!(rig.record("node1").spec.ip.as_deref(), Some("10.1.1.9"), "its MAC is kept");
    assert_eq!(rig.record("node1").spec.mac.len(), 1);
    rig.kill();
    let rig = Rig::start(dir.path(), CONFIG);
    assert_eq!(rig.record("node3").spec.mac, ["02:00:00:00:00:10"], "after a kill");
    rig.kill();
}

#[test]
fn what_the_configuration_has_is_counted_and_what_differs_from_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let of_file = "[[machine]]\nmac = \"02:00:00:00:00:aa\"\nargs = \"{% if true %}a{% endif %}\"\n\
                   [[machine]]\nrelay_port = { circuit_id = \"eth0/7\" }\nprofile = \"linux\"\n";
    let rig = Rig::start(dir.path(), &format!("{CONFIG}{of_file}"));
    rig.create("node1", "02:00:00:00:00:09").unwrap();
    let page = rig.ask(|reply| RegistryAsk::List(Query::default(), reply)).unwrap();
    let spec = |view: &View| match view {
        View::Configured(machine) => Spec::from(&**machine),
        View::Registered { record, .. } => record.spec.clone(),
    };
    let exported = page.machines.iter().map(|view| serde_json::json!({ "spec": spec(view) }));
    let mut items: Vec<serde_json::Value> = exported.collect();
    items.extend([
        serde_json::json!({ "spec": {
            "name": "from-file", "mac": ["52-54-00-00-00-01"], "labels": { "role": "gateway" }
        } }),
        serde_json::json!({ "spec": { "name": "FROM-file", "labels": { "role": "gateway" } }, "keep": true }),
        serde_json::json!({ "spec": { "mac": ["02:00:00:00:00:aa"], "ip": "10.1.1.9" }, "keep": true }),
        serde_json::json!({ "spec": { "relay_port": { "circuit_id": "eth0/7" } } }),
        serde_json::json!({ "spec": { "relay_port": { "circuit_id": "eth0/8" } } }),
    ]);
    for dry_run in [true, false] {
        let done = rig.import(&items, dry_run);
        assert_eq!((done.added, done.changed, done.unchanged, done.configured), (0, 0, 1, 4), "{done:?}");
        let [(5, of_name), (6, of_mac), (7, of_port), (8, nobody)] = &done.refused[..] else {
            panic!("{done:?}")
        };
        let differs = "FROM-file is in the configuration, and differs: name is \"from-file\" there and \"FROM-file\" here";
        assert!(of_name.starts_with(differs), "{of_name}");
        let differs = "02:00:00:00:00:aa is in the configuration, and differs: ip is not set there and \"10.1.1.9\" here; \
                       change it in its file";
        assert!(of_mac.starts_with(differs), "{of_mac}");
        assert!(of_port.contains("profile is \"linux\" there and not set here"), "{of_port}");
        assert!(nobody.starts_with("it has no name"), "{nobody}");
    }
    assert!(rig.machines.by_mac("52:54:00:00:00:01".parse().unwrap()).unwrap().life.is_none());
    rig.kill();
}

#[test]
fn a_dry_run_refuses_whatever_the_import_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    let items = [
        item("da", "02:00:00:00:00:21"),
        item("db", "02:00:00:00:00:21"),
        item("dc", "02:00:00:00:00:22"),
        item("dd", "02:00:00:00:00:22"),
    ];
    let [dry, done] = [true, false].map(|dry_run| rig.import(&items, dry_run));
    let refused =
        |done: &Imported| done.refused.iter().map(|(position, _)| *position).collect::<Vec<usize>>();
    assert_eq!((dry.added, refused(&dry)), (2, vec![1, 3]), "{dry:?}");
    assert_eq!((done.added, refused(&done)), (2, vec![1, 3]), "{done:?}");
    rig.kill();
}

#[test]
fn a_list_gives_a_machine_the_card_that_was_discovered_before() {
    const CARD: &str = "02:00:00:00:00:31";
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    let nobodys = serde_json::json!({ "spec": { "name": "node7", "serial": "CZ7" } });
    assert_eq!(rig.import(&[nobodys], false).added, 1);
    rig.registry.sighted(CARD.parse().unwrap(), None);
    rig.eventually("it is discovered", |rig| rig.machines.life_of(CARD.parse().unwrap()));
    // Behind one that waits for its commit.
    let items = [item("node8", "02:00:00:00:00:32"), item("node7", CARD)];
    for dry_run in [true, false] {
        let done = rig.import(&items, dry_run);
        assert_eq!((done.added, done.changed, &done.refused[..]), (1, 1, &[][..]), "{done:?}");
        let census = rig.ask(RegistryAsk::Count).unwrap();
        assert_eq!(census.states.iter().map(|(_, count)| count).sum::<usize>(), 2, "{dry_run}");
    }
    assert_eq!(rig.record(CARD).spec.name.as_deref(), Some("node7"));
    assert_eq!(rig.record("node7").spec.mac, [CARD]);
    rig.kill();
}

#[test]
fn a_machine_gets_all_of_its_cards_that_were_discovered_before() {
    const CARDS: [&str; 2] = ["02:00:00:00:00:31", "02:00:00:00:00:32"];
    for by_list in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::start(dir.path(), CONFIG);
        let nobodys = serde_json::json!({ "spec": { "name": "node7", "serial": "CZ7" } });
        assert_eq!(rig.import(&[nobodys], false).added, 1);
        for card in CARDS {
            rig.registry.sighted(card.parse().unwrap(), None);
            rig.eventually("it is discovered", |rig| rig.machines.life_of(card.parse().unwrap()));
        }
        if by_list {
            let both = [serde_json::json!({ "spec": { "name": "node7", "mac": CARDS } })];
            for dry_run in [true, false] {
                let done = rig.import(&both, dry_run);
                assert_eq!((done.changed, &done.refused[..]), (1, &[][..]), "{done:?}");
            }
        } else {
            let mac = CARDS.map(str::to_owned).to_vec();
            let spec = Spec { mac, ..rig.record("node7").spec.clone() };
            rig.ask(|reply| RegistryAsk::Put("node7".to_owned(), None, spec, reply)).unwrap();
        }
        let census = rig.ask(RegistryAsk::Count).unwrap();
        assert_eq!(census.states.iter().map(|(_, count)| count).sum::<usize>(), 1, "{by_list}");
        rig.kill();
        let rig = Rig::start(dir.path(), CONFIG);
        for card in CARDS {
            assert_eq!(rig.record(card).spec.name.as_deref(), Some("node7"), "{by_list}");
        }
        rig.kill();
    }
}

#[test]
fn a_list_names_machines_that_were_discovered_before() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    let (text, mac) = ("02:00:00:00:00:31", Mac([2, 0, 0, 0, 0, 0x31]));
    rig.registry.sighted(mac, None);
    rig.eventually("it is discovered", |rig| rig.machines.life_of(mac));
    let id = rig.record(text).id;
    let Err(refused) = rig.create("a1", text) else { panic!("it is there already") };
    let refused = refused.to_string();
    assert!(refused.ends_with(&format!(": xpxe machines set {text} --name a1")), "{refused}");
    assert_eq!(rig.import(&[item("a1", text)], true).changed, 1);
    assert_eq!(rig.record(text).spec.name, None, "that was a dry run");
    let done = rig.import(&[item("a1", text)], false);
    assert_eq!((done.changed, rig.record("a1").id), (1, id), "{done:?}");
    assert!(rig.record("a1").status.heard > 0, "it was seen, whatever becomes of its boots");
    assert_eq!(rig.import(&[item("a1", text)], false).unchanged, 1);
    // A list may be wrong: who has a name keeps it.
    let done = rig.import(&[item("a2", text)], false);
    assert_eq!(rig.record(text).spec.name.as_deref(), Some("a1"));
    assert!(done.refused[0].1.ends_with(": xpxe machines set a1 --name a2"), "{done:?}");
    rig.kill();
}

#[test]
fn events_name_a_machine_without_a_mac() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    let spec = Spec {
        name: Some("uu".to_owned()),
        uuid: Some("4c4c4544-0042-3510-8052-b4c04f4e3132".to_owned()),
        labels: [("role".to_owned(), "worker".to_owned())].into(),
        ..Spec::default()
    };
    rig.ask(|reply| RegistryAsk::Create(spec, reply)).unwrap();
    let mut events = rig.events.read();
    rig.order("uu", Order::Accept).unwrap();
    let event = loop {
        let event = rig.runtime.block_on(events.next()).unwrap();
        if matches!(event.step, Step::BecameState(_)) {
            break event;
        }
    };
    let known = event.without_mac.clone().unwrap();
    assert_eq!((event.name(), known.record), (Some("uu"), rig.record("uu").id));
    assert_eq!(known.machine.labels["role"], "worker");
    rig.kill();
}

/// A reload that changes what all machines wait for was one commit for each of them.
#[test]
fn many_are_stored_together_and_each_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    let each = |number: u32| {
        let [.., c, d] = number.to_be_bytes();
        item(&format!("n{number}"), &Mac([6, 0, 0, 0, c, d]).to_string())
    };
    let items: Vec<serde_json::Value> = (0..2500).map(each).collect();
    assert_eq!(rig.import(&items, false).added, 2500);
    assert_eq!(rig.import(&items, false).unchanged, 2500);
    let [first, last] = ["n0", "n2499"].map(|name| rig.record(name));
    assert_eq!(last.revision, first.revision + 2499, "each change has its number");
    assert!(last.id > first.id);
    for number in [0u32, 999, 1000, 2499] {
        let [.., c, d] = number.to_be_bytes();
        let known = rig.machines.by_mac(Mac([6, 0, 0, 0, c, d])).unwrap();
        assert_eq!(known.machine.name.as_deref(), Some(format!("n{number}").as_str()));
    }
    let page = rig.ask(|reply| RegistryAsk::List(Query { limit: 7, ..Query::default() }, reply)).unwrap();
    assert_eq!(page.machines.len(), 7);
    rig.kill();
    let rig = Rig::start(dir.path(), CONFIG);
    assert_eq!(rig.record("n1700").spec.mac, ["06:00:00:00:06:a4"]);
    let spec =
        Spec { name: Some("new".to_owned()), mac: vec!["06:00:00:01:00:00".to_owned()], ..Spec::default() };
    rig.ask(|reply| RegistryAsk::Delete("n2499".to_owned(), None, reply)).unwrap();
    rig.kill();
    let rig = Rig::start(dir.path(), CONFIG);
    rig.ask(|reply| RegistryAsk::Create(spec, reply)).unwrap();
    assert!(rig.record("new").id > last.id, "the number of a machine that is gone is nobody's");
    rig.kill();
}
