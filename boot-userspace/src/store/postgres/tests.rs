//! What the file and the database make of each other.

use std::time::{Duration, Instant};

use boot_engine::lifecycle::{Intent, State as Stage, Status};
use boot_engine::registry::{Record, Spec};
use sqlx::postgres::PgListener;
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use super::Trouble;
use crate::store::places::{Place, lease};
use crate::store::sql::{Field, Statement};
use crate::store::{Change, Lease, Store, StoreError, lock};

/// Ends the sessions of xpxe.
const END: &str = "SELECT CAST(pg_terminate_backend(pid) AS TEXT) FROM pg_stat_activity \
                   WHERE application_name LIKE 'xpxe on %' AND datname = current_database()";
/// The tables that a backup has.
const TABLES: [&str; 3] = ["origin", "machines", "leases"];

fn record(id: u64) -> Record {
    let status = Status::new(Stage::Ready, "a test".to_owned(), 1_800_000_000);
    Record {
        id,
        version: 1,
        revision: id,
        spec: Spec { name: Some(format!("node{id}")), ..Spec::default() },
        intent: Intent::default(),
        status,
        bmc_password: None,
        inventory: None,
    }
}

async fn ids(place: &Place, store: &Store) -> Vec<i64> {
    place.machines(store).await.into_iter().map(|(id, _)| id).collect()
}

async fn put(store: &Store, lease: Lease) {
    store.commit(&[Change::Put(lease)]).await.unwrap();
}

/// Opens it, and gives why that is refused.
async fn refused(place: &Place) -> String {
    let store = Store::open_alone(&place.state_dir(), lock(&place.state_dir()).unwrap()).await.unwrap();
    store.follow(place.postgres.as_ref()).await.unwrap_err().to_string()
}

async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < Duration::from_secs(60), "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the connection has ended, and there is another one.
async fn is_met_again(store: &Store) {
    eventually("the end of the connection", async || {
        store.away().is_some() || store.change_machines(&[], &[]).await.is_err()
    })
    .await;
    eventually("another one", async || store.away().is_none()).await;
}

/// Does as a backup of the database does.
async fn back_up(place: &Place, store: &Store) {
    store.deliver().await.unwrap();
    for table in TABLES {
        place.run_sql(store, &format!("CREATE TABLE old_{table} AS SELECT * FROM {table}")).await;
    }
}

/// The database is what it was then.
async fn restore(place: &Place, store: &Store) {
    for table in TABLES {
        place.run_sql(store, &format!("DELETE FROM {table}")).await;
        place.run_sql(store, &format!("INSERT INTO {table} SELECT * FROM old_{table}")).await;
    }
}

#[tokio::test]
async fn what_a_file_has_goes_into_a_new_database_and_from_there_to_another_host() {
    let Some(first) = Place::database() else { return };
    let alone = Place { postgres: None, ..first };
    let store = alone.open().await;
    put(&store, lease(1, 1)).await;
    store.change_machines(&[record(1), record(2)], &[]).await.unwrap();
    store.close().await;
    let Some(new) = Place::database() else { return };
    let mut both = Place { postgres: new.postgres, ..alone };
    let store = both.open().await;
    assert_eq!(both.sorted(&store).await, [lease(1, 1)]);
    assert_eq!(ids(&both, &store).await, [1, 2]);
    // A client may call itself anything.
    put(&store, Lease { hostname: Some("a\0b".to_owned()), ..lease(2, 2) }).await;
    store.deliver().await.unwrap();
    store.close().await;
    let store = both.open_elsewhere().await;
    assert_eq!(
        both.sorted(&store).await,
        [lease(1, 1), Lease { hostname: Some("ab".to_owned()), ..lease(2, 2) }]
    );
    assert_eq!(ids(&both, &store).await, [1, 2]);
    store.close().await;
}

#[tokio::test]
async fn two_do_not_use_one_database_and_the_second_is_told_who_does() {
    let Some(first) = Place::database() else { return };
    let store = first.open().await;
    let second = Place { postgres: first.postgres.clone(), ..Place::file() };
    let said = refused(&second).await;
    let who = format!("process {}) uses PostgreSQL on ", std::process::id());
    assert!(said.starts_with("another xpxe (xpxe on ") && said.contains(&who), "{said}");
    store.close().await;
    eventually("the end of who was refused", async || lock(&second.state_dir()).is_ok()).await;
    second.open().await.close().await;
}

#[tokio::test]
async fn a_host_that_comes_back_begins_with_what_another_one_has_made_of_it() {
    let Some(first) = Place::database() else { return };
    let store = first.open().await;
    put(&store, lease(1, 1)).await;
    put(&store, lease(2, 2)).await;
    store.change_machines(&[record(1)], &[]).await.unwrap();
    store.close().await;
    // What this one has without the database is later than what the other one does, and earlier.
    let file = Store::open_alone(&first.state_dir(), lock(&first.state_dir()).unwrap()).await.unwrap();
    let (later, earlier) = (Lease { updated: 1_799_999_900, ..lease(3, 1) }, lease(4, 2));
    put(&file, later.clone()).await;
    // The other one gives this machine another address.
    put(&file, lease(6, 9)).await;
    put(&file, earlier).await;
    file.close().await;
    let mut second = Place { postgres: first.postgres.clone(), ..Place::file() };
    let store = second.open_elsewhere().await;
    let of_others = |machine, address| Lease { updated: 1_799_999_600, ..lease(machine, address) };
    put(&store, of_others(5, 1)).await;
    put(&store, of_others(6, 2)).await;
    store.change_machines(&[record(2)], &[]).await.unwrap();
    store.change_machines(&[], &[(1, 3)]).await.unwrap();
    store.close().await;
    let store = first.open().await;
    assert_eq!(first.sorted(&store).await, [later, of_others(6, 2)]);
    assert_eq!(ids(&first, &store).await, [2]);
    store.close().await;
}

#[tokio::test]
async fn a_file_that_is_no_copy_of_the_database_is_left_alone() {
    let Some(first) = Place::database() else { return };
    let store = first.open().await;
    store.change_machines(&[record(1)], &[]).await.unwrap();
    store.close().await;
    let mut other = Place::file();
    let store = other.open().await;
    store.change_machines(&[record(7)], &[]).await.unwrap();
    store.close().await;
    other.postgres.clone_from(&first.postgres);
    let said = refused(&other).await;
    assert!(said.contains("others, which are no copy of them"), "{said}");
    // The copy of another database.
    let Some(third) = Place::database() else { return };
    other.postgres = third.postgres;
    other.open().await.close().await;
    other.postgres.clone_from(&first.postgres);
    let said = refused(&other).await;
    assert!(said.contains("is not the database that xpxe.db"), "{said}");
    // Used without the database: from then on both have their own.
    let alone = Place { postgres: None, ..first };
    let store = alone.open().await;
    store.change_machines(&[record(8)], &[]).await.unwrap();
    store.close().await;
    let back = Place { postgres: other.postgres, ..alone };
    let said = refused(&back).await;
    assert!(said.contains("others, which are no copy of them"), "{said}");
    let file = Store::open(&back.state_dir()).await.unwrap();
    assert_eq!(file.machines().await.unwrap().len(), 2, "nothing of it was changed");
}

/// A change that was under way when the connection ended may be in the database, though it was refused.
#[tokio::test]
async fn what_was_never_confirmed_is_taken_back_when_the_connection_is_back() {
    let Some(place) = Place::database() else { return };
    let store = place.open().await;
    store.change_machines(&[record(1), record(2)], &[]).await.unwrap();
    for statement in [
        "INSERT INTO machines SELECT 3, version, 3, name, state, record FROM machines WHERE id = 1",
        "UPDATE machines SET revision = 4 WHERE id = 2",
        "DELETE FROM machines WHERE id = 1",
        END,
    ] {
        place.run_sql(&store, statement).await;
    }
    is_met_again(&store).await;
    assert_eq!(ids(&place, &store).await, [1, 2]);
    // Somebody else has had it meanwhile.
    place.run_sql(&store, "UPDATE origin SET starts = starts + 1").await;
    place.run_sql(&store, END).await;
    let is_told = async || store.away().is_some_and(|why| why.to_string().contains("restart xpxe"));
    eventually("that is told", is_told).await;
    let refused = store.change_machines(&[record(9)], &[]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Postgres(_)), "{refused}");
    put(&store, lease(1, 1)).await;
    store.close().await;
}

#[tokio::test]
async fn a_database_from_an_older_backup_is_refused_and_a_new_one_gets_what_the_copy_has() {
    for is_started_again in [false, true] {
        let Some(place) = Place::database() else { return };
        let mut store = place.open().await;
        put(&store, lease(1, 1)).await;
        store.change_machines(&[record(1)], &[]).await.unwrap();
        back_up(&place, &store).await;
        if is_started_again {
            store.close().await;
            drop(store);
            store = place.open().await;
        }
        put(&store, lease(2, 2)).await;
        store.change_machines(&[record(2)], &[]).await.unwrap();
        let (leases, machines) = (place.sorted(&store).await, place.machines(&store).await);
        assert_eq!((leases.len(), machines.len()), (2, 2));
        store.close().await;
        restore(&place, &store).await;
        drop(store);
        let said = refused(&place).await;
        assert!(said.contains("is older than xpxe.db in state_dir"), "{said}");
        eventually("the end of who was refused", async || lock(&place.state_dir()).is_ok()).await;
        let mut database = PgConnection::connect(&place.postgres.as_ref().unwrap().url).await.unwrap();
        for statement in ["DROP SCHEMA public CASCADE", "CREATE SCHEMA public"] {
            drop(Statement::new(statement).run(&mut database).await.unwrap());
        }
        let store = place.open().await;
        assert_eq!(place.sorted(&store).await, leases, "started again: {is_started_again}");
        assert_eq!(place.machines(&store).await, machines);
        store.close().await;
    }
}

/// A snapshot of a file system that was put back has older leases, which their machines may not have any more.
#[tokio::test]
async fn the_later_lease_counts_where_an_older_file_or_database_was_put_back() {
    let Some(place) = Place::database() else { return };
    let store = place.open().await;
    put(&store, lease(1, 1)).await;
    put(&store, lease(2, 2)).await;
    store.deliver().await.unwrap();
    let files = || std::fs::read_dir(place.state_dir()).unwrap().map(|entry| entry.unwrap().path());
    let files = || files().filter(|path| path.is_file());
    let snapshot: Vec<_> = files().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    let later = |machine, address| Lease { updated: 1_799_999_900, ..lease(machine, address) };
    for lease in [later(1, 1), later(2, 9), lease(3, 3)] {
        put(&store, lease).await;
    }
    store.close().await;
    drop(store);
    files().for_each(|path| std::fs::remove_file(path).unwrap());
    for (path, bytes) in snapshot {
        std::fs::write(path, bytes).unwrap();
    }
    let leases = [later(1, 1), later(2, 9), lease(3, 3)];
    let store = place.open().await;
    assert_eq!(place.sorted(&store).await, leases);
    store.close().await;
    place.run_sql(&store, "DELETE FROM leases WHERE address = '10.1.1.3'").await;
    drop(store);
    let store = place.open().await;
    assert_eq!(place.sorted(&store).await, leases, "the database gets back what it has lost");
    store.close().await;
}

#[tokio::test]
async fn a_database_that_loses_its_latest_changes_while_xpxe_serves_gets_them_again() {
    let Some(place) = Place::database() else { return };
    let store = place.open().await;
    put(&store, lease(1, 1)).await;
    store.change_machines(&[record(1)], &[]).await.unwrap();
    back_up(&place, &store).await;
    put(&store, lease(2, 2)).await;
    store.change_machines(&[record(2)], &[]).await.unwrap();
    let (leases, machines) = (place.sorted(&store).await, place.machines(&store).await);
    restore(&place, &store).await;
    place.run_sql(&store, END).await;
    is_met_again(&store).await;
    assert_eq!(place.sorted(&store).await, leases);
    assert_eq!(place.machines(&store).await, machines);
    store.close().await;
}

#[tokio::test]
async fn a_change_that_the_file_refused_is_nowhere_also_after_a_restart() {
    let Some(place) = Place::database() else { return };
    let store = place.open().await;
    store.change_machines(&[record(1), record(2)], &[]).await.unwrap();
    let before = place.machines(&store).await;
    let run = async |statement: &str| {
        let statement = Statement::new(statement);
        store.database.with(async |connection| statement.run(connection).await).await.unwrap();
    };
    // It does as with a full disk.
    for event in ["INSERT", "UPDATE"] {
        let refuse = "ON machines BEGIN SELECT RAISE(ABORT, 'refused'); END";
        run(&format!("CREATE TRIGGER full_{event} BEFORE {event} {refuse}")).await;
    }
    let changed = Record { version: 2, revision: 3, ..record(1) };
    store.change_machines(&[changed, record(4)], &[]).await.unwrap_err();
    assert_eq!(place.machines(&store).await, before, "in neither");
    store.change_machines(&[], &[(2, 5)]).await.unwrap_err();
    assert_eq!(place.machines(&store).await, before, "in neither");
    for event in ["INSERT", "UPDATE"] {
        run(&format!("DROP TRIGGER full_{event}")).await;
    }
    assert_eq!(store.away(), None);
    store.close().await;
    drop(store);
    let store = place.open().await;
    assert_eq!(place.machines(&store).await, before, "after a restart");
    store.close().await;
}

#[tokio::test]
async fn a_database_whose_disk_is_full_is_not_back_before_it_stores_something() {
    let Some(place) = Place::database() else { return };
    let store = place.open().await;
    for statement in [
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'could not extend a file' USING ERRCODE = '53100'; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON leases FOR EACH ROW EXECUTE FUNCTION refuse()",
    ] {
        place.run_sql(&store, statement).await;
    }
    put(&store, lease(1, 1)).await;
    store.deliver().await.unwrap_err();
    let noticed = Instant::now();
    // It connects again meanwhile.
    while noticed.elapsed() < Duration::from_millis(2500) {
        let said = store.away().map(|why| why.to_string()).unwrap_or_default();
        assert!(said.contains("(its disk is full): free some space"), "{said}");
        tokio::task::yield_now().await;
    }
    place.run_sql(&store, "DROP TRIGGER refuse ON leases").await;
    eventually("that it is back", async || store.away().is_none()).await;
    assert_eq!(place.sorted(&store).await, [lease(1, 1)]);
    store.close().await;
}

#[tokio::test]
async fn a_session_of_its_own_that_hangs_is_ended_and_is_no_other_xpxe() {
    let Some(place) = Place::database() else { return };
    let store = place.open().await;
    store.change_machines(&[record(1)], &[]).await.unwrap();
    let mut other = PgConnection::connect(&place.postgres.as_ref().unwrap().url).await.unwrap();
    for statement in ["BEGIN", "LOCK TABLE machines"] {
        drop(Statement::new(statement).run(&mut other).await.unwrap());
    }
    store.change_machines(&[record(2)], &[]).await.unwrap_err();
    eventually("that it is named", async || {
        let said = store.away().map(|why| why.to_string()).unwrap_or_default();
        assert!(!said.contains("another xpxe"), "{said}");
        said.contains("still works on what this xpxe has asked before")
    })
    .await;
    drop(Statement::new("ROLLBACK").run(&mut other).await.unwrap());
    eventually("that it is back", async || store.away().is_none()).await;
    assert_eq!(ids(&place, &store).await, [1]);
    store.close().await;
}

#[test]
fn why_it_stores_nothing_is_said_once() {
    let why = StoreError::from(Trouble::passing("it is away".to_owned()));
    assert_eq!(format!("{:#}", anyhow::Error::from(why)), "it is away");
}

#[tokio::test]
async fn who_follows_changes_is_woken_and_finds_those_of_deleted_machines_too() {
    let Some(place) = Place::database() else { return };
    let store = place.open().await;
    let url = &place.postgres.as_ref().unwrap().url;
    let mut listener = PgListener::connect(url).await.unwrap();
    listener.listen("xpxe_machines").await.unwrap();
    let mut bell = async || {
        let heard = timeout(Duration::from_secs(60), listener.recv()).await.unwrap().unwrap();
        heard.payload().to_owned()
    };
    store.change_machines(&[record(1), record(2)], &[]).await.unwrap();
    assert_eq!(bell().await, "2");
    store.change_machines(&[], &[(1, 3)]).await.unwrap();
    assert_eq!(bell().await, "3");
    let mut connection = PgConnection::connect(url).await.unwrap();
    let new = Statement::new("SELECT id, state, name FROM machines WHERE revision > 1 ORDER BY revision");
    let text = |text: &str| Field::Text(text.to_owned());
    let expected = [
        vec![Field::Number(2), text("ready"), text("node2")],
        vec![Field::Number(1), text("deleted"), Field::Nothing],
    ];
    assert_eq!(new.run(&mut connection).await.unwrap(), expected);
    store.close().await;
}
