//! The machines of the registry: each change is in the database when it is done.

use std::collections::{HashMap, HashSet};

use boot_engine::registry::Record;

use super::sql::{Field, ROWS_PER_STATEMENT, Row, Sql, Statement, Value};

/// How many rows are read at once.
const PAGE: i64 = 10_000;
/// In the number of what stands for a row that people have given a number that no machine has: no row can have such a number.
const BELOW: u64 = 1 << 63;
/// The state of a row whose machine was deleted.
const DELETED: &str = "deleted";
/// The columns of the table.
const COLUMNS: &str = "id, version, revision, name, state, record";
/// How many of them are numbers, at the beginning.
const NUMBERS: usize = 3;

/// A record with its number, or what can be read of its row.
pub(super) type Stored = (i64, Result<Record, Unreadable>);

/// The row of a record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Why not.
    pub why: String,
    /// The machine's name.
    pub name: Option<String>,
    /// The word for its state, if it is there.
    pub state: String,
    /// The record as it is there, as far as it can be read as a text.
    pub record: String,
}

/// All records in the order of their numbers.
pub(super) async fn all(connection: &mut impl Sql) -> sqlx::Result<Vec<Stored>> {
    let mut all = Vec::new();
    loop {
        let after = all.last().map_or(i64::MIN, |(id, _)| *id);
        let rows = page(connection, after).await?;
        all.extend(rows.iter().map(|row| read(row)));
        // Behind a full page only: SQLite has a number that is no number behind every number.
        if i64::try_from(rows.len()).is_ok_and(|count| count < PAGE) {
            return Ok(all);
        }
    }
}

/// The rows behind a number, in the order of their numbers.
pub(super) async fn page(connection: &mut impl Sql, after: i64) -> sqlx::Result<Vec<Row>> {
    let select = Statement::new("SELECT id, record, name, state FROM machines WHERE id > ").value(after);
    let select = select.then(" AND state <> ").value(DELETED.to_owned()).then(" ORDER BY id LIMIT ");
    select.value(PAGE).run(connection).await
}

/// A row, as it is: its number is known though it may not be readable.
pub(super) fn read(row: &[Field]) -> Stored {
    let number = row.first().and_then(Field::number);
    let id = number.unwrap_or(0);
    let text = |at: usize| row.get(at).and_then(Field::remains).map(str::to_owned);
    let record = match row.get(1) {
        _ if number.is_none() => Err("its number in the database is no number".to_owned()),
        _ if id < 1 => Err(format!("its number in the database is {id}, and numbers of machines begin at 1")),
        Some(Field::Text(text)) => match serde_json::from_str::<Record>(text) {
            Ok(record) if signed(record.id) == id => Ok(record),
            Ok(record) => Err(format!("it says that it is id:{}, in the row of id:{id}", record.id)),
            Err(error) => Err(error.to_string()),
        },
        Some(Field::Unreadable { why, .. }) => Err(why.clone()),
        _ => Err("its record is no text".to_owned()),
    };
    let unreadable = |why| Unreadable {
        why,
        name: text(2),
        state: text(3).unwrap_or_default(),
        record: text(1).unwrap_or_default(),
    };
    (id, record.map_err(unreadable))
}

/// Which records there are, with the number of the last change of each.
pub(super) async fn revisions(connection: &mut impl Sql) -> sqlx::Result<HashMap<i64, i64>> {
    let rows = Statement::new("SELECT id, revision FROM machines").run(connection).await?;
    Ok(rows.iter().filter_map(|row| Some((row.first()?.number()?, row.get(1)?.number()?))).collect())
}

/// The whole rows of these records, for [`put_rows`].
pub(super) async fn rows(connection: &mut impl Sql, ids: &[i64]) -> sqlx::Result<Vec<Row>> {
    let mut all = Vec::new();
    for some in ids.chunks(ROWS_PER_STATEMENT) {
        let select = Statement::new("SELECT ").then(COLUMNS).then(" FROM machines WHERE id IN ");
        all.extend(select.list(some.iter().copied()).run(connection).await?);
    }
    Ok(all)
}

/// Every row.
pub(super) async fn every_row(connection: &mut impl Sql) -> sqlx::Result<Vec<Row>> {
    let ids: Vec<i64> = revisions(connection).await?.into_keys().collect();
    rows(connection, &ids).await
}

/// Writes rows as another database has them. What is no text in one of them is written as far as it can be read, so that
/// its machine stays one whose record cannot be read, and becomes no unknown one.
pub(super) async fn put_rows(connection: &mut impl Sql, rows: &[Row]) -> sqlx::Result<()> {
    let value = |(column, field): (usize, &Field)| match field {
        Field::Text(text) => Some(text.clone().into()),
        Field::Number(number) => Some((*number).into()),
        Field::Nothing => Some(Value::Nothing),
        Field::Unreadable { text, .. } => (column >= NUMBERS).then(|| text.clone().into()),
    };
    let values = |row: &Row| row.iter().enumerate().map(value).collect();
    write(connection, rows.iter().filter_map(values).collect()).await
}

/// Makes of these records what their rows were; those without a row are removed.
pub(super) async fn restore(connection: &mut impl Sql, ids: &[i64], rows: &[Row]) -> sqlx::Result<()> {
    let kept: HashSet<i64> = rows.iter().filter_map(|row| row.first()?.number()).collect();
    let gone: Vec<i64> = ids.iter().copied().filter(|id| !kept.contains(id)).collect();
    delete(connection, &gone).await?;
    put_rows(connection, rows).await
}

/// Writes records in the place of what they were.
async fn put(connection: &mut impl Sql, records: &[Record]) -> sqlx::Result<()> {
    for some in records.chunks(ROWS_PER_STATEMENT) {
        let values = |record: &Record| {
            vec![
                signed(record.id).into(),
                signed(record.version).into(),
                signed(record.revision).into(),
                record.spec.name.clone().into(),
                record.status.state.name().to_owned().into(),
                serde_json::to_string(record).unwrap_or_default().into(),
            ]
        };
        write(connection, some.iter().map(values).collect()).await?;
    }
    Ok(())
}

/// Writes records, and removes others, each with the number of that change.
pub(super) async fn change(
    connection: &mut impl Sql,
    records: &[Record],
    gone: &[(u64, u64)],
) -> sqlx::Result<()> {
    for (id, revision) in gone {
        bury(connection, *id, *revision).await?;
    }
    put(connection, records).await
}

async fn write(connection: &mut impl Sql, rows: Vec<Vec<Value>>) -> sqlx::Result<()> {
    for some in rows.chunks(ROWS_PER_STATEMENT) {
        let insert = Statement::new("INSERT INTO machines (").then(COLUMNS).then(")").rows(some.to_vec());
        let replaced = " ON CONFLICT (id) DO UPDATE SET version = excluded.version, revision = excluded.revision, \
                        name = excluded.name, state = excluded.state, record = excluded.record";
        insert.then(replaced).run(connection).await?;
    }
    Ok(())
}

/// Removes a record. Its row stays, with the number of this change: who follows changes learns of it, and no other
/// machine and no other change gets these numbers.
async fn bury(connection: &mut impl Sql, id: u64, revision: u64) -> sqlx::Result<()> {
    let update =
        Statement::new("UPDATE machines SET version = version + 1, name = NULL, record = '', state = ");
    let update = update.value(DELETED.to_owned()).then(", revision = ").value(signed(revision));
    update.then(" WHERE id = ").value(row_of(id)).run(connection).await.map(drop)
}

/// The greatest numbers of a machine and of a change that were ever given.
pub(super) async fn last(connection: &mut impl Sql) -> sqlx::Result<(u64, u64)> {
    let select = "SELECT COALESCE(MAX(id), 0), COALESCE(MAX(revision), 0) FROM machines";
    let rows = Statement::new(select).run(connection).await?;
    let number = |at: usize| rows.first()?.get(at)?.number().and_then(|number| u64::try_from(number).ok());
    Ok((number(0).unwrap_or(0), number(1).unwrap_or(0)))
}

/// The machines that were deleted last, with the numbers of these changes; at most so many.
pub(super) async fn deleted(connection: &mut impl Sql, most: usize) -> sqlx::Result<Vec<(u64, u64)>> {
    let select = Statement::new("SELECT id, revision FROM machines WHERE state = ").value(DELETED.to_owned());
    let select = select.then(" ORDER BY revision DESC LIMIT ").value(i64::try_from(most).unwrap_or(i64::MAX));
    let rows = select.run(connection).await?;
    let revision = |row: &Row| u64::try_from(row.get(1)?.number()?).ok();
    let both = |row: &Row| Some((number_of(row.first()?.number()?), revision(row)?));
    Ok(rows.iter().filter_map(both).collect())
}

/// Removes rows.
pub(super) async fn delete(connection: &mut impl Sql, ids: &[i64]) -> sqlx::Result<()> {
    for some in ids.chunks(ROWS_PER_STATEMENT) {
        let delete = Statement::new("DELETE FROM machines WHERE id IN ").list(some.iter().copied());
        delete.run(connection).await?;
    }
    Ok(())
}

/// The number of the machine of a row: that of the row, or where that is below 1 one that no row has.
#[must_use]
pub fn number_of(row: i64) -> u64 {
    match u64::try_from(row) {
        Ok(number) if number > 0 => number,
        _ => BELOW | row.unsigned_abs(),
    }
}

/// The row of the machine with this number.
pub(super) fn row_of(number: u64) -> i64 {
    match number & BELOW {
        0 => signed(number),
        _ => -signed(number & !BELOW),
    }
}

/// As databases have it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use boot_engine::lifecycle::{Intent, State, Status};
    use boot_engine::registry::Spec;
    use sqlx::SqliteConnection;

    use super::super::places::in_each;
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

    #[test]
    fn a_change_is_there_after_a_kill_and_a_damaged_row_is_left_out() {
        in_each(async |mut place| {
            let store = place.open().await;
            store.change_machines(&(1..=2500).map(record).collect::<Vec<_>>(), &[]).await.unwrap();
            let changed = Record { version: 2, revision: 9000, ..record(7) };
            store.change_machines(std::slice::from_ref(&changed), &[]).await.unwrap();
            store.change_machines(&[], &[(8, 8999)]).await.unwrap();
            // Nothing is closed: what another process reads now is what it reads after a kill.
            let other = Store::open(&place.state_dir()).await.unwrap();
            let all = read_all(&other).await;
            assert_eq!((all.len(), &all[6], all[7].id), (2499, &changed, 9));
            assert!(other.change_machines(&[record(1)], &[]).await.is_err(), "another process has the store");
            assert_eq!(place.machines(&store).await, other.machines().await.unwrap());
            place.run_sql(&store, "UPDATE machines SET record = 'x', revision = 9001 WHERE id = 9").await;
            let other = "(SELECT record FROM machines WHERE id = 11)";
            place.run_sql(&store, &format!("UPDATE machines SET record = {other} WHERE id = 12")).await;
            store.close().await;
            let store = place.open_elsewhere().await;
            let rows = place.machines(&store).await;
            let bad: Vec<i64> =
                rows.iter().filter(|(_, record)| record.is_err()).map(|(id, _)| *id).collect();
            assert_eq!((rows.len(), bad), (2499, vec![9, 12]));
            store.change_machines(&[], &[(2500, 9002)]).await.unwrap();
            assert_eq!(place.machines(&store).await.len(), 2498);
            assert_eq!(store.deleted_machines(9).await.unwrap(), [(2500, 9002), (8, 8999)]);
            assert_eq!(store.deleted_machines(1).await.unwrap(), [(2500, 9002)], "the last ones");
            store.close().await;
            let store = place.open_elsewhere().await;
            assert_eq!(store.last_numbers().await.unwrap(), (2500, 9002), "nobody gets them again");
            let changed = Record { version: 3, revision: 9004, ..record(7) };
            store.change_machines(std::slice::from_ref(&changed), &[(10, 9003)]).await.unwrap();
            let rows = place.machines(&store).await;
            assert!(rows.contains(&(7, Ok(changed))) && rows.iter().all(|(id, _)| *id != 10));
            assert_eq!(store.deleted_machines(1).await.unwrap(), [(10, 9003)], "in the same commit");
            store.close().await;
        });
    }

    #[test]
    fn a_row_below_1_has_a_number_that_no_other_row_has() {
        for row in [1, 7, i64::MAX, 0, -1, -7, -i64::MAX] {
            assert_eq!(row_of(number_of(row)), row);
            assert_eq!(i64::try_from(number_of(row)).is_ok(), row > 0, "{row}");
        }
    }

    #[tokio::test]
    async fn a_row_whose_number_is_none_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        store.change_machines(&[record(1), record(2), record(3)], &[]).await.unwrap();
        for (id, row) in [("0", 1), ("'none'", 2)] {
            let update = Statement::new(&format!("UPDATE machines SET id = {id} WHERE id = {row}"));
            let run = async |connection: &mut SqliteConnection| update.run(connection).await;
            store.database.with(run).await.unwrap();
        }
        let all = store.machines().await.unwrap();
        let [(0, Err(zero)), (3, Ok(_)), (_, Err(none))] = &all[..] else { panic!("{all:?}") };
        assert_eq!((zero.name.as_deref(), none.name.as_deref()), (Some("node1"), Some("node2")));
        assert!(zero.why.contains("is 0") && none.why.contains("is no number"), "{zero:?} {none:?}");
        store.change_machines(&[], &[(number_of(0), 9)]).await.unwrap();
        assert_eq!(store.machines().await.unwrap().len(), 2);
        assert_eq!(store.deleted_machines(9).await.unwrap(), [(number_of(0), 9)]);
    }

    #[tokio::test]
    async fn what_can_be_read_of_bytes_that_are_no_text_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        store.change_machines(&[record(1)], &[]).await.unwrap();
        for damaged in ["X'7BFF22'", "CAST(X'7BFF22' AS TEXT)"] {
            let update = Statement::new(&format!("UPDATE machines SET record = {damaged}"));
            let run = async |connection: &mut SqliteConnection| update.run(connection).await;
            store.database.with(run).await.unwrap();
            let (id, found) = store.machines().await.unwrap().remove(0);
            let Unreadable { record, name, state, .. } = found.unwrap_err();
            assert_eq!((id, record.as_str()), (1, "{\u{fffd}\""), "{damaged}");
            assert_eq!((name.as_deref(), state.as_str()), (Some("node1"), "ready"));
        }
    }

    #[tokio::test]
    async fn machines_are_in_a_database_that_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        store.change_machines(&[record(1), record(3), record(7)], &[]).await.unwrap();
        store.change_machines(&[], &[(7, 8)]).await.unwrap();
        let damage = Statement::new("UPDATE machines SET record = X'7BFF22' WHERE id = 3");
        let run = async |connection: &mut SqliteConnection| damage.run(connection).await;
        store.database.with(run).await.unwrap();
        for ending in ["", "-wal", "-shm"] {
            std::fs::remove_file(dir.path().join(format!("{FILE}{ending}"))).unwrap();
        }
        store.database.keep().await.unwrap();
        store.change_machines(&[record(2)], &[]).await.unwrap();
        let other = Store::open(dir.path()).await.unwrap();
        let all = other.machines().await.unwrap();
        let [(1, Ok(_)), (2, Ok(_)), (3, Err(damaged))] = &all[..] else { panic!("{all:?}") };
        assert_eq!(damaged.name.as_deref(), Some("node3"), "no machine becomes an unknown one");
        assert_eq!(other.last_numbers().await.unwrap(), (7, 8));
    }
}
