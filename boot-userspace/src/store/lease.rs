//! Leases' rows.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use boot_engine::machines::Identity;

use super::sql::{Field, Row, Sql, Statement, Value};
use super::{HoldCause, Lease, LeaseState};

/// How many rows are read at once: a row takes several times what its lease does.
pub(super) const PAGE: usize = 10_000;

/// The columns of the table, the key first.
pub(super) const COLUMNS: &str =
    "address, mac, subnet, state, hold_cause, expires, hostname, recognised_by, updated";

/// The first rows, or those behind a key, in the order of the keys, which are compared as they are stored.
pub(super) async fn page(connection: &mut impl Sql, after: Option<&str>) -> sqlx::Result<Vec<Row>> {
    let mut select = Statement::new("SELECT ").then(COLUMNS).then(" FROM leases");
    if let Some(after) = after {
        select = select.then(" WHERE address > ").value(after.to_owned());
    }
    let most = i64::try_from(PAGE).unwrap_or(i64::MAX);
    select.then(" ORDER BY address LIMIT ").value(most).run(connection).await
}

/// All leases, in no particular order. A row that cannot be read is reported in the log and left out.
pub(super) async fn all(connection: &mut impl Sql) -> sqlx::Result<Vec<Lease>> {
    let mut leases = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let rows = page(connection, after.as_deref()).await?;
        leases.extend(rows.iter().filter_map(|row| read_or_report(row)));
        // Damaged keys come last, because they are no text: they are no place to go on from.
        let last = rows.iter().rev().find_map(|row| key(row));
        if rows.len() < PAGE || last.is_none() || last == after {
            return Ok(leases);
        }
        after = last;
    }
}

/// A row's key, if it is a text.
pub(super) fn key(row: &[Field]) -> Option<String> {
    row.first()?.text().map(str::to_owned)
}

/// What the row of a lease has, in the order of [`COLUMNS`].
pub(super) fn values(lease: &Lease) -> Vec<Value> {
    vec![
        lease.address.to_string().into(),
        lease.mac.to_string().into(),
        lease.subnet.to_string().into(),
        lease.state.as_str().to_owned().into(),
        lease.state.hold().map(|cause| cause.as_str().to_owned()).into(),
        lease.expires.into(),
        lease.hostname.clone().into(),
        lease.recognised_by.as_ref().map(Identity::to_text).into(),
        lease.updated.into(),
    ]
}

/// One unreadable row must not keep the server from starting.
pub(super) fn read_or_report(row: &[Field]) -> Option<Lease> {
    match read(row) {
        Ok(lease) => Some(lease),
        Err(reason) => {
            let name = |at: usize| row.get(at).and_then(Field::text).unwrap_or("?");
            let (address, mac) = (name(0), name(1));
            tracing::error!(
                mac,
                address,
                "the lease of {mac:?} for {address:?} cannot be read and is left out: {reason}"
            );
            None
        }
    }
}

fn read(row: &[Field]) -> Result<Lease, Unreadable> {
    Ok(Lease {
        address: parsed(row, 0)?,
        mac: parsed(row, 1)?,
        subnet: parsed(row, 2)?,
        state: state(row)?,
        expires: number(row, 5)?,
        hostname: text(row, 6)?.map(str::to_owned),
        recognised_by: optional(row, 7)?,
        updated: number(row, 8)?,
    })
}

fn state(row: &[Field]) -> Result<LeaseState, Unreadable> {
    let state: LeaseState = parsed(row, 3)?;
    let cause: Option<HoldCause> = optional(row, 4)?;
    // Rows of earlier versions have none.
    Ok(cause.filter(|_| state.is_on_hold()).map_or(state, LeaseState::OnHold))
}

struct Unreadable {
    /// Its place in [`COLUMNS`].
    column: usize,
    reason: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = COLUMNS.split(", ").nth(self.column).unwrap_or("?");
        write!(f, "column {column}: {}", self.reason)
    }
}

fn text(row: &[Field], column: usize) -> Result<Option<&str>, Unreadable> {
    let reason = match row.get(column) {
        Some(Field::Text(text)) => return Ok(Some(text)),
        Some(Field::Nothing) => return Ok(None),
        Some(Field::Unreadable { why, .. }) => why.clone(),
        Some(Field::Number(_)) | None => "is no text".to_owned(),
    };
    Err(Unreadable { column, reason })
}

fn number(row: &[Field], column: usize) -> Result<i64, Unreadable> {
    let number = row.get(column).and_then(Field::number);
    number.ok_or_else(|| Unreadable { column, reason: "is no number".to_owned() })
}

fn optional<T>(row: &[Field], column: usize) -> Result<Option<T>, Unreadable>
where
    T: FromStr<Err: Error>,
{
    let parsed = text(row, column)?.map(str::parse).transpose();
    parsed.map_err(|error: T::Err| Unreadable { column, reason: error.to_string() })
}

fn parsed<T>(row: &[Field], column: usize) -> Result<T, Unreadable>
where
    T: FromStr<Err: Error>,
{
    let parsed = optional(row, column)?;
    parsed.ok_or_else(|| Unreadable { column, reason: "is missing".to_owned() })
}
