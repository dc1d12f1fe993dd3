//! Records that cannot be read: a later version has written them, or they were damaged.

use sqlx::{Connection as _, SqliteConnection};

use super::*;

const OWN: &str = "02:00:00:00:00:09";

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
    damage(dir.path(), r#"UPDATE machines SET record = replace(record, '"spec":{', '"spec":{"newer":1,')"#);
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
