mod random;

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;

use boot_common::Mac;
use boot_engine::config::RelayPort;
use boot_engine::machines::Identity;

use super::places::in_each;
use super::*;

fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn lease(machine: u8, address: u8) -> Lease {
    Lease { hostname: Some("rack1-node1".to_owned()), ..places::lease(machine, address) }
}

async fn run_sql(store: &Store, statement: String) {
    let run = async |connection: &mut sqlx::SqliteConnection| {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(connection).await
    };
    store.database.with(run).await.unwrap();
}

async fn sorted(store: &Store) -> Vec<Lease> {
    let mut leases = store.leases().await.unwrap();
    leases.sort_by_key(|lease| (lease.mac, lease.address));
    leases
}

#[test]
fn leases_survive_a_restart_in_a_private_directory() {
    in_each(async |mut place| {
        let store = place.open().await;
        let port = RelayPort { circuit_id: b"eth1/7".to_vec(), remote_id: Some(vec![0, 255]) };
        let recognised_by = Some(Identity::SwitchPort(port));
        let nameless = Lease { hostname: None, recognised_by, state: LeaseState::Released, ..lease(2, 2) };
        store
            .commit(&[Change::Put(lease(1, 1)), Change::Put(nameless.clone()), Change::Put(lease(3, 3))])
            .await
            .unwrap();
        store.commit(&[Change::Delete(lease(3, 3).mac, lease(3, 3).address)]).await.unwrap();
        store.commit(&[]).await.unwrap();
        store.close().await;
        let store = place.open_elsewhere().await;
        assert_eq!(place.sorted(&store).await, [lease(1, 1), nameless]);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let state_dir = place.state_dir();
        assert_eq!((mode(&state_dir), mode(&state_dir.join(FILE))), (0o700, 0o600));
        assert_eq!(mode(&state_dir.join("xpxe.db-wal")), 0o600);
        store.close().await;
    });
}

#[test]
fn more_leases_than_a_page_are_all_read_once() {
    in_each(async |place| {
        let store = place.open().await;
        for extra in [0, 1] {
            let many = u32::try_from(2 * lease::PAGE + extra).unwrap();
            let all: Vec<Lease> = (0..many)
                .map(|number| {
                    let [_, a, b, c] = number.to_be_bytes();
                    Lease { mac: Mac([2, 0, 0, a, b, c]), address: [10, a, b, c].into(), ..lease(0, 0) }
                })
                .collect();
            let changes: Vec<Change> = all.iter().cloned().map(Change::Put).collect();
            store.commit(&changes).await.unwrap();
            assert_eq!(place.sorted(&store).await, all);
        }
    });
}

#[test]
fn all_times_go_with_the_clock() {
    in_each(async |place| {
        let store = place.open().await;
        let leases = [lease(1, 1), lease(2, 2)];
        store.commit(&leases.clone().map(Change::Put)).await.unwrap();
        let now = leases[0].updated;
        store.shift(86_400, now).await.unwrap();
        assert_eq!(place.sorted(&store).await, leases.clone().map(|lease| lease.later_by(86_400)));
        store.shift(-86_400, now + 86_400).await.unwrap();
        assert_eq!(place.sorted(&store).await, leases);
        // A machine without a battery begins in 1970, until it has asked what time it is.
        store.shift(now, 5).await.unwrap();
        assert_eq!(place.sorted(&store).await, leases);
    });
}

#[test]
fn an_address_belongs_to_its_latest_machine() {
    in_each(async |place| {
        let store = place.open().await;
        store.commit(&[Change::Put(lease(1, 1)), Change::Put(lease(2, 2))]).await.unwrap();
        store.commit(&[Change::Put(lease(1, 2)), Change::Put(lease(2, 1))]).await.unwrap();
        assert_eq!(place.sorted(&store).await, [lease(1, 2), lease(2, 1)], "a swap");
        store.commit(&[Change::Put(lease(3, 1))]).await.unwrap();
        assert_eq!(place.sorted(&store).await, [lease(1, 2), lease(3, 1)], "a move");
        store
            .commit(&[Change::Put(lease(4, 2)), Change::Delete(lease(4, 2).mac, lease(4, 2).address)])
            .await
            .unwrap();
        assert_eq!(place.sorted(&store).await, [lease(3, 1)], "a move and its end in one batch");
    });
}

#[test]
fn what_rests_because_of_a_machine_is_beside_its_lease() {
    let rests = |machine, address| Lease {
        state: LeaseState::OnHold(HoldCause::Declined),
        ..lease(machine, address)
    };
    in_each(async |place| {
        let store = place.open().await;
        store.commit(&[Change::Put(lease(1, 1))]).await.unwrap();
        store
            .commit(&[Change::Delete(lease(1, 1).mac, lease(1, 1).address), Change::Put(rests(1, 1))])
            .await
            .unwrap();
        store.commit(&[Change::Put(lease(1, 2))]).await.unwrap();
        store.commit(&[Change::Put(rests(1, 2)), Change::Put(lease(1, 3))]).await.unwrap();
        assert_eq!(place.sorted(&store).await, [rests(1, 1), rests(1, 2), lease(1, 3)]);
        store.commit(&[Change::Lift(lease(1, 1).address), Change::Lift(lease(1, 3).address)]).await.unwrap();
        assert_eq!(place.sorted(&store).await, [rests(1, 2), lease(1, 3)], "only what rests is lifted");
        store.commit(&[Change::Put(lease(2, 2))]).await.unwrap();
        assert_eq!(place.sorted(&store).await, [lease(1, 3), lease(2, 2)]);
    });
}

/// Two journals of a daemon that was killed, the first one written later.
#[test]
fn what_was_left_in_the_journals_is_brought_into_the_database_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, epoch, changes: &[Change]| {
        let mut journal = journal::Journal::empty(dir.path().join(name), epoch).unwrap();
        changes
            .iter()
            .for_each(|change| journal.append(&encoding::encode(std::slice::from_ref(change))).unwrap());
    };
    let delete = |machine, address| Change::Delete(lease(machine, 0).mac, lease(0, address).address);
    let earlier = [Change::Put(lease(1, 1)), Change::Put(lease(2, 2)), Change::Put(lease(3, 3))];
    let later = [delete(2, 2), Change::Put(lease(4, 2)), Change::Put(lease(1, 5)), delete(3, 3)];
    write(JOURNALS[1], 8, &earlier);
    write(JOURNALS[0], 9, &later);
    run(async {
        let expected = [lease(1, 5), lease(4, 2)];
        let store = Store::open(dir.path()).await.unwrap();
        assert_eq!(sorted(&store).await, expected);
        assert_eq!(store.database.leases().await.unwrap().len(), 2, "they are in the database");
        let found = look(&Location::in_dir(dir.path())).unwrap();
        assert!(found.iter().all(|found| found.changes.is_empty() && found.epoch > 9), "{found:?}");
        store.close().await;
        // A power cut between the database's commit and the emptying of a journal: it is brought in once more.
        write(JOURNALS[0], 20, &later);
        let store = Store::open(dir.path()).await.unwrap();
        assert_eq!(sorted(&store).await, expected);
        store.close().await;
    });
}

#[test]
fn another_process_reads_what_was_committed_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let store = Store::open(dir.path()).await.unwrap();
        let other = Store::open(dir.path()).await.unwrap();
        for (number, settles) in [(1, false), (2, true), (3, false)] {
            store.commit(&[Change::Put(lease(number, number))]).await.unwrap();
            if settles {
                store.settle().await.unwrap();
            }
            assert_eq!(sorted(&other).await, sorted(&store).await);
            assert_eq!(sorted(&other).await.len(), usize::from(number));
        }
        let refused = other.commit(&[Change::Put(lease(4, 4))]).await.unwrap_err().to_string();
        assert!(refused.contains("is locked by another process"), "{refused}");
        store.close().await;
        let other = Store::open(dir.path()).await.unwrap();
        other.commit(&[Change::Put(lease(4, 4))]).await.unwrap();
        other.close().await;
    });
}

#[test]
fn more_than_two_journals_hold_is_committed_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let store = Store::open(dir.path()).await.unwrap();
        let long = |number: u8| Lease { hostname: Some("x".repeat(200_000)), ..lease(number, number) };
        for number in 0..20 {
            store.commit(&[Change::Put(long(number))]).await.unwrap();
        }
        let too_long = Lease { hostname: Some("y".repeat(2 << 20)), ..lease(0, 0) };
        store.commit(&[Change::Put(too_long.clone())]).await.unwrap();
        store.commit(&[Change::Put(lease(1, 1))]).await.unwrap();
        store.close().await;
        let store = Store::open(dir.path()).await.unwrap();
        let expected: Vec<Lease> = (2..20).map(long).collect();
        assert_eq!(sorted(&store).await, [vec![too_long, lease(1, 1)], expected].concat());
        for name in JOURNALS {
            assert!(dir.path().join(name).metadata().unwrap().len() <= 1 << 20);
        }
    });
}

/// The file of a daemon that kept no resting addresses.
#[test]
fn leases_of_the_first_version_are_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let file = dir.path().join(FILE);
        let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
        let pool = SqlitePool::connect_with(options).await.unwrap();
        let mut first = sqlx::migrate!("./migrations");
        first.migrations.to_mut().retain(|migration| migration.version == 1);
        first.run(&pool).await.unwrap();
        let row = "INSERT INTO leases VALUES ('02:00:00:00:00:01', '10.1.1.1', '10.1.0.0/16', 'leased', 1800000000, \
            'rack1-node1', 1799999400)";
        sqlx::query(row).execute(&pool).await.unwrap();
        pool.close().await;
        let store = Store::open(dir.path()).await.unwrap();
        assert_eq!(sorted(&store).await, [lease(1, 1)]);
    });
}

/// The file of a daemon that noted no causes of holds.
#[test]
fn holds_of_earlier_versions_have_no_known_cause() {
    let dir = tempfile::tempdir().unwrap();
    let held = |cause| Lease { state: LeaseState::OnHold(cause), ..lease(1, 1) };
    run(async {
        let store = Store::open(dir.path()).await.unwrap();
        store.commit(&[Change::Put(held(HoldCause::InUse))]).await.unwrap();
        store.settle().await.unwrap();
        assert_eq!(sorted(&store).await, [held(HoldCause::InUse)]);
        run_sql(&store, "UPDATE leases SET hold_cause = NULL".to_owned()).await;
        assert_eq!(sorted(&store).await, [held(HoldCause::Unknown)]);
    });
}

/// The files of a daemon that was killed, with a log of several commits.
fn killed(dir: &Path) -> PathBuf {
    let living = dir.join("living");
    let dead = dir.join("dead");
    std::fs::create_dir_all(&dead).unwrap();
    run(async {
        let store = Store::open(&living).await.unwrap();
        for number in 1..20 {
            store.commit(&[Change::Put(lease(number, number))]).await.unwrap();
            store.settle().await.unwrap();
        }
        for ending in ["", "-wal", "-shm"] {
            let name = format!("{FILE}{ending}");
            std::fs::copy(living.join(&name), dead.join(&name)).unwrap();
        }
        store.close().await;
    });
    dead.join(FILE)
}

fn beside(database: &Path, ending: &str) -> PathBuf {
    database.with_file_name(format!("{FILE}{ending}"))
}

#[test]
fn a_log_that_was_cut_off_or_damaged_is_told_from_one_that_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let database = killed(dir.path());
    let (wal, shm) = (beside(&database, "-wal"), beside(&database, "-shm"));
    let whole = std::fs::read(&wal).unwrap();
    assert_eq!(loss::look(&database), Loss::Nothing);
    // What stands behind the last commit was never confirmed to anybody.
    std::fs::write(&wal, [&whole[..], &whole[32..1000]].concat()).unwrap();
    assert_eq!(loss::look(&database), Loss::Nothing);
    let mut damaged = whole.clone();
    let middle = whole.len() / 2;
    damaged[middle] ^= 1;
    for broken in [&whole[..middle], &whole[..whole.len() - 1], &whole[..0], &damaged[..]] {
        std::fs::write(&wal, broken).unwrap();
        let found = loss::look(&database);
        assert!(
            matches!(found, Loss::Cut { committed, there } if there < committed),
            "{}: {found:?}",
            broken.len()
        );
    }
    // Without the index nobody knows how long it was.
    std::fs::remove_file(&shm).unwrap();
    assert_eq!(loss::look(&database), Loss::Nothing);
}

#[test]
fn an_emptied_database_is_told_from_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(loss::look(&dir.path().join("new").join(FILE)), Loss::Nothing);
    let database = killed(dir.path());
    std::fs::write(&database, "").unwrap();
    assert_eq!(loss::look(&database), Loss::Emptied);
    std::fs::remove_file(&database).unwrap();
    assert_eq!(loss::look(&database), Loss::Emptied, "its log is still there");
    run(async {
        let fresh = dir.path().join("fresh");
        let store = Store::open(&fresh).await.unwrap();
        store.commit(&[Change::Put(lease(1, 1))]).await.unwrap();
        assert_eq!(loss::look(&fresh.join(FILE)), Loss::Nothing, "in use");
        store.close().await;
        assert_eq!(loss::look(&fresh.join(FILE)), Loss::Nothing, "closed");
    });
}

#[test]
fn an_unreadable_row_is_left_out_and_the_rest_loads() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let store = Store::open(dir.path()).await.unwrap();
        store.commit(&[Change::Put(lease(1, 1))]).await.unwrap();
        for (n, damage) in [
            "mac = 'x'",
            "address = x'ff00'",
            "subnet = '10.0.0.0/99'",
            "state = 7",
            "expires = 'soon'",
            "hostname = x'ff'",
            "recognised_by = 'uuid 7'",
            "hostname = CAST(x'ff' AS TEXT)",
        ]
        .into_iter()
        .enumerate()
        {
            let n = n as u8 + 100;
            store.commit(&[Change::Put(lease(n, n))]).await.unwrap();
            store.settle().await.unwrap();
            let statement = format!("UPDATE leases SET {damage} WHERE mac = '{}'", lease(n, n).mac);
            run_sql(&store, statement).await;
        }
        assert_eq!(store.leases().await.unwrap(), [lease(1, 1)]);
    });
}

#[test]
fn errors_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let error = async |path: &Path| Store::open(path).await.unwrap_err().to_string();
        let file = |name: &str| dir.path().join(name).join(FILE);

        let store = Store::open(&dir.path().join("newer")).await.unwrap();
        let applied = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
            VALUES (99, 'later', true, x'00', 0)";
        run_sql(&store, applied.to_owned()).await;
        store.close().await;
        let text = error(&dir.path().join("newer")).await;
        let expected = format!(
            "{} is from a newer xpxe (it has migration 99): install that version, or move the file away",
            file("newer").display()
        );
        assert!(text.starts_with(&expected) && text.contains("take accept out of [lifecycle]"), "{text}");

        std::fs::create_dir(dir.path().join("damaged")).unwrap();
        std::fs::write(file("damaged"), [b'x'; 5000]).unwrap();
        let text = error(&dir.path().join("damaged")).await;
        assert!(text.contains("is damaged") && text.contains("move it away"), "{text}");
        assert!(text.contains("take accept out of [lifecycle]"), "{text}");

        std::fs::write(dir.path().join("file"), "").unwrap();
        let text = error(&dir.path().join("file")).await;
        assert!(text.contains("Not a directory") && text.contains("check state_dir"), "{text}");
    });
}

/// Run by hand in a small file system:
/// `mount -t tmpfs -o size=256k none DIR && XPXE_SMALL_DIR=DIR cargo test store::tests::a_full_disk -- --ignored`
#[test]
#[ignore = "needs a small file system in XPXE_SMALL_DIR"]
fn a_full_disk_is_named_and_what_was_committed_stays() {
    let dir = std::env::var_os("XPXE_SMALL_DIR").unwrap();
    run(async {
        let store = Store::open(Path::new(&dir)).await.unwrap();
        let mut committed = 0;
        let error = loop {
            let long = Lease { hostname: Some("x".repeat(5000)), ..lease(committed, committed) };
            match store.commit(&[Change::Put(long)]).await {
                Ok(()) => committed += 1,
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.starts_with("the disk is full: free some space for"), "{error}");
        assert_eq!(store.leases().await.unwrap().len(), usize::from(committed));
    });
}

/// `cargo test --release store::tests::throughput -- --ignored --nocapture`; TMPDIR chooses the disk.
#[test]
#[ignore = "a measurement"]
fn throughput() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let store = Store::open(dir.path()).await.unwrap();
        for batch in [1u32, 256] {
            let commits = 2048 / batch.min(64);
            let start = Instant::now();
            for commit in 0..commits {
                let changes: Vec<Change> = (0..batch)
                    .map(|n| {
                        let [_, a, b, c] = (commit * batch + n).to_be_bytes();
                        let mac = Mac([2, 0, batch as u8, a, b, c]);
                        Change::Put(Lease { mac, address: [batch as u8, a, b, c].into(), ..lease(0, 0) })
                    })
                    .collect();
                store.commit(&changes).await.unwrap();
            }
            let seconds = start.elapsed().as_secs_f64();
            let commits = f64::from(commits);
            println!(
                "batches of {batch}: {:.0} commits/s, {:.0} leases/s, {:.2} ms each",
                commits / seconds,
                commits * f64::from(batch) / seconds,
                1000.0 * seconds / commits
            );
        }
    });
}
