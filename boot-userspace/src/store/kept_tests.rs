//! What becomes of leases whose files are deleted or replaced while they are in use.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::places::lease;
use super::{Change, FILE, JOURNALS, Location, Store, StoreError, encoding, is_journal_lost, journal, look};

const SOON: Duration = Duration::from_secs(20);

fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn put(machine: u8) -> Change {
    Change::Put(lease(machine, machine))
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What the next daemon knows when this one is killed now.
async fn after_a_kill(dir: &Path) -> Vec<u8> {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // SQLite makes its index anew.
        if !path.display().to_string().ends_with("-shm") {
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let mut machines: Vec<u8> = Store::open(copy.path())
        .await
        .unwrap()
        .leases()
        .await
        .unwrap()
        .iter()
        .map(|lease| lease.mac.0[5])
        .collect();
    machines.sort_unstable();
    machines
}

fn beside() -> [String; 2] {
    ["-wal", "-shm"].map(|ending| format!("{FILE}{ending}"))
}

#[test]
fn a_database_that_is_deleted_is_written_anew_with_all_it_had() {
    run(async {
        let [log, index] = beside();
        for deleted in [&[FILE][..], &[FILE, &log, &index], &[FILE, &log, &index, JOURNALS[0], JOURNALS[1]]] {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).await.unwrap();
            store.commit(&[put(1)]).await.unwrap();
            store.settle().await.unwrap();
            for file in deleted {
                fs::remove_file(dir.path().join(file)).unwrap();
            }
            // Nobody commits anything: it is noticed all the same.
            eventually("a new database", || dir.path().join(FILE).exists()).await;
            store.commit(&[put(2)]).await.unwrap();
            store.settle().await.unwrap();
            assert_eq!(after_a_kill(dir.path()).await, [1, 2], "{deleted:?}");
            assert_eq!(store.trouble(), None);
            store.close().await;
        }
    });
}

#[test]
fn what_is_acknowledged_without_a_journal_is_in_a_new_one() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        for machine in 1..=20 {
            store.commit(&[put(machine)]).await.unwrap();
            // Deleted, and another file in its place.
            for (number, journal) in JOURNALS.iter().enumerate() {
                fs::remove_file(dir.path().join(journal)).unwrap();
                if usize::from(machine) % 3 == number {
                    fs::write(dir.path().join(journal), "a backup").unwrap();
                }
            }
            store.commit(&[put(machine + 100)]).await.unwrap();
            let known = after_a_kill(dir.path()).await;
            let wanted: Vec<u8> = (1..=machine).chain(101..=machine + 100).collect();
            assert_eq!(known, wanted);
        }
        store.close().await;
    });
}

#[test]
fn a_log_that_is_deleted_loses_nothing() {
    run(async {
        for deleted in beside() {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).await.unwrap();
            store.commit(&[put(1)]).await.unwrap();
            store.settle().await.unwrap();
            fs::remove_file(dir.path().join(&deleted)).unwrap();
            store.commit(&[put(2)]).await.unwrap();
            store.settle().await.unwrap();
            assert_eq!(after_a_kill(dir.path()).await, [1, 2], "{deleted}");
            store.close().await;
        }
    });
}

#[test]
fn nothing_is_stored_while_another_file_has_the_name() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        store.commit(&[put(1)]).await.unwrap();
        store.settle().await.unwrap();
        let (file, aside) = (dir.path().join(FILE), dir.path().join("aside"));
        let refused = async || {
            // Names are looked at ten times a second.
            let began = Instant::now();
            while store.commit(&[put(2)]).await.is_ok() {
                assert!(began.elapsed() < SOON, "it is not noticed");
            }
            for refused in [store.commit(&[put(2)]).await, store.try_to_write().await] {
                let failure = refused.unwrap_err();
                assert!(matches!(failure, StoreError::Replaced { .. }), "{failure}");
                assert!(failure.to_string().contains("restart xpxe"), "{failure}");
            }
            eventually("it is said", || store.trouble().is_some_and(|said| said.contains("was replaced")))
                .await;
            assert_eq!(fs::read(&file).unwrap(), b"a backup", "the other file was written to");
        };
        fs::rename(&file, &aside).unwrap();
        fs::write(&file, "a backup").unwrap();
        refused().await;
        // The first file comes back.
        fs::rename(&aside, &file).unwrap();
        eventually("the end of the trouble", || store.trouble().is_none()).await;
        store.commit(&[put(2)]).await.unwrap();
        store.settle().await.unwrap();
        // It does not, and the other one goes.
        fs::remove_file(&file).unwrap();
        fs::write(&file, "a backup").unwrap();
        refused().await;
        fs::remove_file(&file).unwrap();
        eventually("a new database", || file.exists() && store.trouble().is_none()).await;
        store.commit(&[put(3)]).await.unwrap();
        store.settle().await.unwrap();
        assert_eq!(after_a_kill(dir.path()).await, [1, 2, 3]);
        store.close().await;
    });
}

#[test]
fn a_journal_that_is_gone_at_a_start_is_said_to_be() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let journal = |number: usize| dir.path().join(JOURNALS[number]);
        let is_lost = async |store: &Store| {
            is_journal_lost(&look(&Location::in_dir(dir.path())).unwrap(), &store.database).await.unwrap()
        };
        let store = Store::open(dir.path()).await.unwrap();
        fs::remove_file(journal(0)).unwrap();
        assert!(!is_lost(&store).await, "there was no lease yet");
        store.commit(&[put(1)]).await.unwrap();
        store.settle().await.unwrap();
        assert!(!is_lost(&store).await, "it was made anew");
        store.close().await;
        let whole = [0, 1].map(|number| fs::read(journal(number)).unwrap());
        let store = Store::open(dir.path()).await.unwrap();
        for number in [0, 1] {
            let other = &whole[1 - number];
            for lost in [None, Some(vec![]), Some(vec![0; whole[number].len()]), Some(other.clone())] {
                fs::write(journal(1 - number), other).unwrap();
                match &lost {
                    Some(bytes) => fs::write(journal(number), bytes).unwrap(),
                    None => fs::remove_file(journal(number)).unwrap(),
                }
                assert!(is_lost(&store).await, "journal {number} is {:?}", lost.map(|bytes| bytes.len()));
            }
        }
        fs::remove_file(journal(1)).unwrap();
        fs::remove_file(journal(0)).unwrap();
        assert!(is_lost(&store).await, "both");
        store.close().await;
    });
}

/// The head of the later journal is damaged, and its records are still there.
#[test]
fn records_of_a_journal_whose_head_was_damaged_never_count_again() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let append =
            |journal: &mut journal::Journal, change| journal.append(&encoding::encode(&[change])).unwrap();
        let path = |number: usize| dir.path().join(JOURNALS[number]);
        let mut later = journal::Journal::empty(path(0), 3).unwrap();
        append(&mut later, put(10));
        append(&mut later, put(11));
        drop(journal::Journal::empty(path(1), 2).unwrap());
        let mut bytes = fs::read(path(0)).unwrap();
        bytes[17] ^= 1;
        fs::write(path(0), bytes).unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        // As long as the old first one.
        // Before the database has it: what a kill leaves then is in the journals.
        store.commit(&[put(20)]).await.unwrap();
        assert_eq!(after_a_kill(dir.path()).await, [20]);
        store.close().await;
    });
}
