//! Leases' rows.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use super::{HoldCause, Lease, LeaseState};

/// How many rows are read at once: a row takes several times what its lease does.
pub(super) const PAGE: usize = 10_000;

/// The first rows, or those behind a key, in the order of the keys, which are compared as they are stored.
pub(super) async fn page(
    connection: &mut SqliteConnection,
    after: Option<&str>,
) -> sqlx::Result<Vec<SqliteRow>> {
    const COLUMNS: &str = "SELECT address, mac, subnet, state, hold_cause, expires, hostname, recognised_by, updated FROM leases";
    let mut select = QueryBuilder::<Sqlite>::new(COLUMNS);
    if let Some(after) = after {
        select.push(" WHERE address > ").push_bind(after);
    }
    select.push(" ORDER BY address LIMIT ").push_bind(i64::try_from(PAGE).unwrap_or(i64::MAX));
    select.build().fetch_all(connection).await
}

/// A row's key, if it is a text.
pub(super) fn key(row: &SqliteRow) -> Option<String> {
    row.try_get("address").ok()
}

/// One unreadable row must not keep the server from starting.
pub(super) fn read_or_report(row: &SqliteRow) -> Option<Lease> {
    match read(row) {
        Ok(lease) => Some(lease),
        Err(reason) => {
            let name = |column| row.try_get_unchecked::<String, _>(column).unwrap_or_else(|_| "?".to_owned());
            let (mac, address) = (name("mac"), name("address"));
            tracing::error!(
                mac,
                address,
                "the lease of {mac:?} for {address:?} cannot be read and is left out: {reason}"
            );
            None
        }
    }
}

fn read(row: &SqliteRow) -> Result<Lease, Unreadable> {
    Ok(Lease {
        mac: parsed(row, "mac")?,
        address: parsed(row, "address")?,
        subnet: parsed(row, "subnet")?,
        state: state(row)?,
        expires: column(row, "expires")?,
        hostname: column(row, "hostname")?,
        recognised_by: optional(row, "recognised_by")?,
        updated: column(row, "updated")?,
    })
}

fn state(row: &SqliteRow) -> Result<LeaseState, Unreadable> {
    let state: LeaseState = parsed(row, "state")?;
    let cause: Option<HoldCause> = optional(row, "hold_cause")?;
    // Rows of earlier versions have none.
    Ok(cause.filter(|_| state.is_on_hold()).map_or(state, LeaseState::OnHold))
}

struct Unreadable {
    column: &'static str,
    reason: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.reason)
    }
}

fn column<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T, Unreadable>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column).map_err(|error| Unreadable { column, reason: error.into() })
}

fn optional<T>(row: &SqliteRow, name: &'static str) -> Result<Option<T>, Unreadable>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    let text: Option<&str> = column(row, name)?;
    let parsed = text.map(str::parse).transpose();
    parsed.map_err(|error: T::Err| Unreadable { column: name, reason: error.into() })
}

fn parsed<T>(row: &SqliteRow, name: &'static str) -> Result<T, Unreadable>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    let text: &str = column(row, name)?;
    text.parse().map_err(|error: T::Err| Unreadable { column: name, reason: error.into() })
}
