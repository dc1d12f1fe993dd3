//! Records that cannot be read: a later version has written them, or they were damaged.

use sqlx::{Connection as _, SqliteConnection};

use super::*;

const OWN: &str = "02:00:00:00:00:09";
/// Makes the record of the machine one of a later version.
const LATER: &str = r#"UPDATE machines SET record = replace(record, '"spec":{', '"spec":{"newer":1,')"#;

/// Changes what is stored while no daemon runs.
fn damage(dir: &Path, statement: &'static str) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        Rig::store(dir).await.close().await;
        let file = format!("sqlite://{}", dir.join("xpxe.db").display());
        let mut database = SqliteConnection::connect(&file).await.unwrap();
        let changed = sqlx::query(statement).execute(&mut database).await.unwrap();
        assert_eq!(changed.rows_affected(), 1);
        database.close().await.unwrap();
    });
}

fn everybody() -> String {
    CONFIG.replace("accept = \"rack7\"", "accept = \"all\"")
}

#[test]
fn a_machine_whose_record_cannot_be_read_waits_until_that_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), &everybody());
    rig.create("db1", OWN).unwrap();
    let id = rig.record("db1").id;
    rig.kill();
    damage(dir.path(), LATER);
    let rig = Rig::start(dir.path(), &everybody());
    let mac: Mac = OWN.parse().unwrap();
    rig.registry.sighted(mac, None);
    let census = rig.ask(RegistryAsk::Count).unwrap();
    assert_eq!((census.shadowed, census.states.iter().map(|(_, count)| count).sum::<usize>()), (1, 0));
    let life = rig.machines.life_of(mac).unwrap();
    assert!(
        (life.record, life.is_unserved) == (id, true) && life.says.contains("cannot be read"),
        "{life:?}"
    );
    for which in ["db1", OWN] {
        let refused = rig.order(which, Order::Release).unwrap_err().to_string();
        assert!(refused.contains(&format!("xpxe machines delete id:{id}")), "{refused}");
        let View::Registered { shadowed, .. } =
            rig.ask(|reply| RegistryAsk::Show(which.to_owned(), reply)).unwrap()
        else {
            panic!("a machine of the configuration")
        };
        assert!(shadowed.is_some_and(|why| why.contains("newer")));
    }
    rig.runtime.block_on(rig.registry.reloaded());
    assert!(rig.machines.life_of(mac).is_some(), "after a reload, too");
    rig.ask(|reply| RegistryAsk::Delete(format!("id:{id}"), None, reply)).unwrap();
    assert_eq!(rig.machines.life_of(mac), None);
    rig.create("db1", OWN).unwrap();
    rig.kill();
}

/// db1, by what it has.
fn expected(mac: &[&str]) -> Spec {
    let mac = mac.iter().map(|mac| (*mac).to_owned()).collect();
    let bmc = boot_engine::config::RegisteredBmc {
        mac: Some("02:00:00:00:00:99".to_owned()),
        ..boot_engine::config::RegisteredBmc::default()
    };
    Spec {
        name: Some("db1".to_owned()),
        labels: [("bmc".to_owned(), "yes".to_owned())].into(),
        mac,
        serial: Some("CZ0043".to_owned()),
        ip: Some("10.1.1.60".to_owned()),
        bmc: Some(bmc),
        ..Spec::default()
    }
}

#[test]
fn nothing_that_can_be_read_of_a_machine_becomes_anothers() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), &everybody());
    rig.ask(|reply| RegistryAsk::Create(expected(&["02:00:00:00:00:08"]), reply)).unwrap();
    let id = rig.record("db1").id;
    rig.kill();
    damage(dir.path(), LATER);
    let rig = Rig::start(dir.path(), &everybody());
    let known = rig.machines.by_mac("02:00:00:00:00:08".parse().unwrap()).unwrap();
    assert_eq!(known.machine.ip, Some([10, 1, 1, 60].into()));
    assert!(rig.machines.is_bmc("02:00:00:00:00:99".parse().unwrap()));
    let other = |change: &dyn Fn(&mut Spec)| {
        let mut spec = Spec { mac: vec!["02:00:00:00:00:50".to_owned()], ..Spec::default() };
        change(&mut spec);
        rig.ask(|reply| RegistryAsk::Create(spec, reply)).unwrap_err().to_string()
    };
    let delete = format!("xpxe machines delete id:{id}");
    assert!(other(&|spec| spec.name = Some("DB1".to_owned())).contains(&delete));
    assert!(other(&|spec| spec.serial = Some("cz0043".to_owned())).contains(&delete));
    assert!(other(&|spec| spec.ip = Some("10.1.1.60".to_owned())).contains("db1"));
    let page = rig.ask(|reply| RegistryAsk::List(Query::default(), reply)).unwrap();
    let is_it =
        |view: &&View| matches!(view, View::Registered { record, shadowed: Some(_), .. } if record.id == id);
    assert_eq!(page.machines.iter().filter(is_it).count(), 1);
    let seen = rig.ask(|reply| RegistryAsk::Observed(id, Observed::Kernel, reply)).unwrap_err();
    assert!(matches!(seen, RegistryError::Unreadable { .. }), "{seen}");
    rig.kill();
}

#[test]
fn whoever_says_the_serial_number_of_a_machine_whose_record_cannot_be_read_is_not_wiped() {
    for mac in [&["02:00:00:00:00:08"][..], &[][..]] {
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::start(dir.path(), &everybody());
        rig.ask(|reply| RegistryAsk::Create(expected(mac), reply)).unwrap();
        let id = rig.record("serial:cz0043").id;
        rig.kill();
        damage(dir.path(), LATER);
        let rig = Rig::start(dir.path(), &everybody());
        let refused = rig.order("serial:CZ0043", Order::Release).unwrap_err().to_string();
        assert!(refused.contains("cannot be read"), "{refused}");
        let [first, second]: [Mac; 2] = [OWN, "02:00:00:00:00:10"].map(|mac| mac.parse().unwrap());
        rig.registry.sighted(first, None);
        rig.runtime.block_on(rig.registry.heard_serial(first, "CZ0043"));
        assert_eq!(rig.machines.life_of(first).map(|life| life.state), Some(State::Maintenance));
        // It was not taken down before.
        rig.runtime.block_on(rig.registry.heard_serial(second, "CZ0043"));
        let waits = rig.machines.life_of(second).map(|life| (life.record, life.is_unserved));
        assert_eq!(waits, mac.is_empty().then_some((id, true)));
        rig.kill();
    }
}

#[test]
fn of_two_machines_with_one_name_one_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), &everybody());
    rig.ask(|reply| RegistryAsk::Create(expected(&["02:00:00:00:00:08"]), reply)).unwrap();
    rig.create("db2", OWN).unwrap();
    let first = rig.record("db1").id;
    rig.kill();
    damage(dir.path(), "UPDATE machines SET record = replace(record, 'db2', 'db1') WHERE name = 'db2'");
    let rig = Rig::start(dir.path(), &everybody());
    for is_reloaded in [false, true] {
        if is_reloaded {
            rig.runtime.block_on(rig.registry.reloaded());
        }
        assert_eq!(rig.record("db1").id, first);
        let lives = ["02:00:00:00:00:08", OWN].map(|mac| rig.machines.life_of(mac.parse().unwrap()).unwrap());
        assert_eq!(lives.map(|life| life.is_unserved), [false, true]);
    }
    rig.kill();
}

#[test]
fn rows_with_numbers_that_no_machine_has_are_named_and_their_machines_wait_until_they_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), &everybody());
    let macs = [OWN, "02:00:00:00:00:10", "02:00:00:00:00:11"].map(|mac| mac.parse::<Mac>().unwrap());
    for (name, mac) in ["db1", "db2", "db3"].into_iter().zip(macs) {
        rig.create(name, &mac.to_string()).unwrap();
    }
    rig.kill();
    for statement in [
        "UPDATE machines SET id = -7 WHERE name = 'db1'",
        "UPDATE machines SET id = -8 WHERE name = 'db2'",
        "UPDATE machines SET id = 0, record = replace(record, substr(record, 1, instr(record, ',')), '{\"id\":0,') \
         WHERE name = 'db3'",
    ] {
        damage(dir.path(), statement);
    }
    let rig = Rig::start(dir.path(), &everybody());
    let (mut query, mut listed) = (Query { limit: 1, ..Query::default() }, Vec::new());
    loop {
        let page = rig.ask(|reply| RegistryAsk::List(query.clone(), reply)).unwrap();
        listed.extend(page.machines);
        let Some(next) = page.next else { break };
        assert!(next > query.after, "{next}");
        query.after = next;
    }
    let mut found = Vec::new();
    for view in listed {
        if let View::Registered { record, shadowed: Some(why), .. } = view {
            found.push((record.called(), record.id, why));
        }
    }
    found.sort_unstable();
    for ((called, id, why), (name, row)) in
        found.iter().zip([("db1", "is -7"), ("db2", "is -8"), ("db3", "is 0")])
    {
        assert!(called == name && why.contains(row), "{found:?}");
        assert!(why.contains(&format!("xpxe machines delete id:{id}")), "{why}");
    }
    assert_eq!(found.len(), 3);
    for mac in macs {
        rig.registry.sighted(mac, None);
        assert_eq!(rig.machines.life_of(mac).map(|life| life.is_unserved), Some(true), "{mac}");
    }
    for (_, id, _) in &found {
        rig.ask(|reply| RegistryAsk::Delete(format!("id:{id}"), None, reply)).unwrap();
    }
    rig.kill();
    let rig = Rig::start(dir.path(), &everybody());
    assert_eq!(macs.map(|mac| rig.machines.life_of(mac)), [None, None, None], "they are gone for good");
    rig.create("db1", OWN).unwrap();
    assert!(i64::try_from(rig.record("db1").id).is_ok());
    rig.kill();
}

#[test]
fn no_rule_accepts_a_machine_that_may_be_one_whose_record_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), &everybody());
    rig.create("db1", OWN).unwrap();
    let id = rig.record("db1").id;
    rig.kill();
    damage(dir.path(), "UPDATE machines SET record = 'x'");
    let rig = Rig::start(dir.path(), &everybody());
    let mac: Mac = OWN.parse().unwrap();
    let state = |rig: &Rig| {
        rig.registry.sighted(mac, None);
        // What is asked later is answered later.
        rig.ask(RegistryAsk::Count).unwrap();
        rig.machines.life_of(mac).map(|life| life.state)
    };
    assert_eq!(state(&rig), Some(State::Discovered));
    assert_eq!(state(&rig), Some(State::Discovered), "when it asks again, too");
    rig.ask(|reply| RegistryAsk::Delete(format!("id:{id}"), None, reply)).unwrap();
    assert_eq!(state(&rig), Some(State::Accepted));
    rig.kill();
}
