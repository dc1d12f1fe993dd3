//! The machines of the registry: each change is in the database when it is done.

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};

use boot_engine::registry::Record;

/// How many rows are read at once.
const PAGE: i64 = 10_000;
/// How many rows are written by one statement: SQLite takes 32,766 values, and these have six.
const AT_ONCE: usize = 1000;

/// The rows behind a number, in the order of their numbers.
pub(super) async fn page(connection: &mut SqliteConnection, after: i64) -> sqlx::Result<Vec<SqliteRow>> {
    let select =
        "SELECT id, version, revision, name, state, record FROM machines WHERE id > $1 ORDER BY id LIMIT $2";
    sqlx::query(select).bind(after).bind(PAGE).fetch_all(connection).await
}

/// A row, as it is: its number is known though it may not be readable.
pub(super) fn read(row: &SqliteRow) -> (i64, Result<Record, String>) {
    let id = row.try_get::<i64, _>("id").unwrap_or(0);
    let record = row.try_get::<String, _>("record").map_err(|error| error.to_string());
    let record = record.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
    (id, record)
}

/// Writes records in the place of what they were.
pub(super) async fn put(connection: &mut SqliteConnection, records: &[Record]) -> sqlx::Result<()> {
    for some in records.chunks(AT_ONCE) {
        let mut insert =
            QueryBuilder::<Sqlite>::new("INSERT INTO machines (id, version, revision, name, state, record) ");
        insert.push_values(some, |mut row, record| {
            row.push_bind(signed(record.id))
                .push_bind(signed(record.version))
                .push_bind(signed(record.revision))
                .push_bind(record.spec.name.clone())
                .push_bind(record.status.state.name())
                .push_bind(serde_json::to_string(record).unwrap_or_default());
        });
        insert.push(
            " ON CONFLICT (id) DO UPDATE SET version = excluded.version, revision = excluded.revision, \
             name = excluded.name, state = excluded.state, record = excluded.record",
        );
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Removes a record.
pub(super) async fn delete(connection: &mut SqliteConnection, id: u64) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM machines WHERE id = $1").bind(signed(id)).execute(connection).await.map(drop)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use boot_engine::lifecycle::{Intent, State, Status};
    use boot_engine::registry::Spec;

    use super::super::{FILE, Store};
    use super::*;

    fn record(id: u64) -> Record {
        let spec = Spec { name: Some(format!("node{id}")), ..Spec::default() };
        let status = Status::new(State::Ready, "a test".to_owned(), 1_800_000_000);
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

    async fn read_all(store: &Store) -> Vec<Record> {
        store.machines().await.unwrap().into_iter().map(|(_, record)| record.unwrap()).collect()
    }

    #[tokio::test]
    async fn a_change_is_there_after_a_kill_and_a_damaged_row_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        store.put_machines(&(1..=2500).map(record).collect::<Vec<_>>()).await.unwrap();
        let changed = Record { version: 2, revision: 9000, ..record(7) };
        store.put_machines(std::slice::from_ref(&changed)).await.unwrap();
        store.delete_machine(8).await.unwrap();
        // Nothing is closed: what another process reads now is what it reads after a kill.
        let other = Store::open(dir.path()).await.unwrap();
        let all = read_all(&other).await;
        assert_eq!((all.len(), &all[6], all[7].id), (2499, &changed, 9));
        let spoil = async |connection: &mut SqliteConnection| {
            sqlx::query("UPDATE machines SET record = 'x' WHERE id = 9").execute(connection).await
        };
        store.database.with(spoil).await.unwrap();
        let rows = other.machines().await.unwrap();
        let bad: Vec<i64> = rows.iter().filter(|(_, record)| record.is_err()).map(|(id, _)| *id).collect();
        assert_eq!((rows.len(), bad), (2499, vec![9]));
        assert!(other.put_machines(&[record(1)]).await.is_err(), "another process has the store");
    }

    #[tokio::test]
    async fn machines_are_in_a_database_that_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        store.put_machines(&[record(1)]).await.unwrap();
        for ending in ["", "-wal", "-shm"] {
            std::fs::remove_file(dir.path().join(format!("{FILE}{ending}"))).unwrap();
        }
        store.database.keep().await.unwrap();
        store.put_machines(&[record(2)]).await.unwrap();
        let other = Store::open(dir.path()).await.unwrap();
        assert_eq!(read_all(&other).await, [record(1), record(2)]);
    }
}
