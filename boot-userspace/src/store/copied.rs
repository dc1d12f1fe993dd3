//! What SQLite's file notes while it is the copy of a database elsewhere: of which one, and which leases that one does not
//! have as they are here.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use super::Lease;
use super::lease;
use super::sql::{Field, ROWS_PER_STATEMENT, Sql, Statement};

/// Which database it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Another one for each.
    pub(super) id: String,
    /// How often an xpxe has begun to use it.
    pub(super) starts: i64,
}

/// Whether the file is a copy, for who changes leases, and how the other database is told that some have changed.
#[derive(Debug, Default)]
pub(super) struct IsCopy {
    is_one: AtomicBool,
    bell: Notify,
}

impl IsCopy {
    pub(super) fn is_one(&self) -> bool {
        self.is_one.load(Ordering::Acquire)
    }

    pub(super) fn set(&self, is_one: bool) {
        self.is_one.store(is_one, Ordering::Release);
    }

    /// Some leases have changed.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Waits until some have.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }
}

/// Which database this is, or is a copy of.
pub(super) async fn origin(connection: &mut impl Sql) -> sqlx::Result<Option<Origin>> {
    let rows = Statement::new("SELECT id, starts FROM origin").run(connection).await?;
    Ok(rows
        .first()
        .and_then(|row| Some(Origin { id: row.first()?.text()?.to_owned(), starts: row.get(1)?.number()? })))
}

/// Takes down which database this is, or is a copy of.
pub(super) async fn set_origin(connection: &mut impl Sql, origin: Option<&Origin>) -> sqlx::Result<()> {
    Statement::new("DELETE FROM origin").run(connection).await?;
    if let Some(Origin { id, starts }) = origin {
        let insert = Statement::new("INSERT INTO origin (id, starts)");
        insert.rows([vec![id.clone().into(), (*starts).into()]]).run(connection).await?;
    }
    Ok(())
}

/// Takes down that these addresses have changed.
pub(super) async fn note(connection: &mut impl Sql, addresses: &[String]) -> sqlx::Result<()> {
    let number = next(connection).await?;
    for some in addresses.chunks(ROWS_PER_STATEMENT) {
        let rows = some.iter().map(|address| vec![address.clone().into(), number.into()]);
        let insert = Statement::new("INSERT INTO unsent (address, number)").rows(rows);
        insert.then(" ON CONFLICT (address) DO UPDATE SET number = excluded.number").run(connection).await?;
    }
    Ok(())
}

/// Takes down that all addresses have.
pub(super) async fn note_all(connection: &mut impl Sql) -> sqlx::Result<()> {
    let number = next(connection).await?;
    let insert = Statement::new("INSERT INTO unsent (address, number) SELECT address, ").value(number);
    // Without the WHERE, SQLite takes ON for a part of a join.
    let insert =
        insert.then(" FROM leases WHERE true ON CONFLICT (address) DO UPDATE SET number = excluded.number");
    insert.run(connection).await.map(drop)
}

/// Nothing is known any more.
pub(super) async fn empty(connection: &mut impl Sql) -> sqlx::Result<()> {
    for table in ["unsent", "leases", "machines"] {
        Statement::new("DELETE FROM ").then(table).run(connection).await?;
    }
    Ok(())
}

/// The file is no copy any more.
pub(super) async fn end(connection: &mut impl Sql) -> sqlx::Result<()> {
    set_origin(connection, None).await?;
    Statement::new("DELETE FROM unsent").run(connection).await.map(drop)
}

async fn next(connection: &mut impl Sql) -> sqlx::Result<i64> {
    let rows = Statement::new("SELECT COALESCE(MAX(number), 0) + 1 FROM unsent").run(connection).await?;
    Ok(rows.first().and_then(|row| row.first()?.number()).unwrap_or(1))
}

/// Everything that a copy notes.
pub(super) async fn all(connection: &mut impl Sql) -> sqlx::Result<(Option<Origin>, Vec<String>)> {
    let rows = Statement::new("SELECT address FROM unsent ORDER BY number").run(connection).await?;
    let addresses = rows.iter().filter_map(|row| row.first()?.text().map(str::to_owned));
    Ok((origin(connection).await?, addresses.collect()))
}

/// Some of the addresses that have changed, with what they have now.
#[derive(Clone, Debug, Default)]
pub(super) struct Unsent {
    pub(super) addresses: Vec<String>,
    pub(super) leases: Vec<Lease>,
    /// What has changed since then has a greater one.
    number: i64,
}

/// Those that have changed first, at most so many.
pub(super) async fn some(connection: &mut impl Sql, most: usize) -> sqlx::Result<Unsent> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let select = Statement::new("SELECT address, number FROM unsent ORDER BY number, address LIMIT ");
    let rows = select.value(most).run(connection).await?;
    let text = |row: &Vec<Field>| row.first().and_then(Field::text).map(str::to_owned);
    let mut unsent = Unsent {
        addresses: rows.iter().filter_map(text).collect(),
        leases: Vec::new(),
        number: rows.iter().filter_map(|row| row.get(1)?.number()).max().unwrap_or(0),
    };
    for some in unsent.addresses.chunks(ROWS_PER_STATEMENT) {
        let select = Statement::new("SELECT ").then(lease::COLUMNS).then(" FROM leases WHERE address IN ");
        let rows = select.list(some.iter().cloned()).run(connection).await?;
        unsent.leases.extend(rows.iter().filter_map(|row| lease::read_or_report(row)));
    }
    Ok(unsent)
}

/// The other database has these now.
pub(super) async fn sent(connection: &mut impl Sql, unsent: &Unsent) -> sqlx::Result<()> {
    for some in unsent.addresses.chunks(ROWS_PER_STATEMENT) {
        let delete = Statement::new("DELETE FROM unsent WHERE number <= ").value(unsent.number);
        delete.then(" AND address IN ").list(some.iter().cloned()).run(connection).await?;
    }
    Ok(())
}

/// How many addresses have changed.
pub(super) async fn count(connection: &mut impl Sql) -> sqlx::Result<i64> {
    let rows = Statement::new("SELECT COUNT(*) FROM unsent").run(connection).await?;
    Ok(rows.first().and_then(|row| row.first()?.number()).unwrap_or(0))
}
