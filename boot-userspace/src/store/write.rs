//! Turns a batch of changes into few statements, because each statement costs a round trip to SQLite's thread.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use boot_common::Mac;
use boot_engine::machines::Identity;
use ipnet::Ipv4Net;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::{Change, HoldCause, Lease};

/// SQLite takes at most 32,766 parameters and a lease has nine.
const ROWS_PER_STATEMENT: usize = 500;

/// Makes the changes inside the caller's transaction.
pub(super) async fn changes(connection: &mut SqliteConnection, changes: &[Change]) -> sqlx::Result<()> {
    let outcome = Outcome::of(changes);
    let text = |address: &Ipv4Addr| address.to_string();
    let places = outcome.places_left().map(|(mac, subnet)| [mac.to_string(), subnet.to_string()]).collect();
    let deleted = outcome.deleted.iter().map(|(address, mac)| [text(address), mac.to_string()]).collect();
    let lifted: Vec<String> = outcome.lifted.iter().map(text).collect();
    let emptied = outcome.rows.iter().filter(|(_, row)| row.is_none());
    let emptied: Vec<String> = emptied.map(|(address, _)| text(address)).collect();
    delete_pairs(connection, ["mac", "subnet"], places).await?;
    delete_pairs(connection, ["address", "mac"], deleted).await?;
    delete(connection, "state = 'resting' AND address", &lifted).await?;
    delete(connection, "address", &emptied).await?;
    let leases: Vec<&Lease> = outcome.rows.into_values().flatten().collect();
    for some in leases.chunks(ROWS_PER_STATEMENT) {
        replace(connection, some).await?;
    }
    Ok(())
}

/// What a batch comes to when its changes are made in their order.
#[derive(Default)]
struct Outcome<'a> {
    /// What each address that was given is in the end.
    rows: BTreeMap<Ipv4Addr, Option<&'a Lease>>,
    /// The machines that were given an address, by subnet: what each had there is gone. With the address it was last given.
    places: BTreeMap<(Mac, Ipv4Net), Ipv4Addr>,
    /// Addresses that a machine has no longer, if it had them.
    deleted: BTreeSet<(Ipv4Addr, Mac)>,
    /// Addresses that are on hold no longer, if they were.
    lifted: BTreeSet<Ipv4Addr>,
}

impl<'a> Outcome<'a> {
    fn of(changes: &'a [Change]) -> Self {
        let mut outcome = Self::default();
        for change in changes {
            match change {
                Change::Put(lease) => {
                    if !lease.state.is_on_hold()
                        && let Some(before) = outcome.places.insert((lease.mac, lease.subnet), lease.address)
                    {
                        outcome.take(before, |row| is_of(row, lease.mac) && row.subnet == lease.subnet);
                    }
                    outcome.rows.insert(lease.address, Some(lease));
                }
                Change::Delete(mac, address) => {
                    outcome.deleted.insert((*address, *mac));
                    outcome.take(*address, |row| is_of(row, *mac));
                }
                Change::Lift(address) => {
                    outcome.lifted.insert(*address);
                    outcome.take(*address, |row| row.state.is_on_hold());
                }
            }
        }
        outcome
    }

    /// Those of the places whose machine has no row there in the end.
    fn places_left(&self) -> impl Iterator<Item = (Mac, Ipv4Net)> {
        let has_row = |(mac, subnet): (Mac, Ipv4Net), address: &Ipv4Addr| {
            let row = self.rows.get(address).copied().flatten();
            row.is_some_and(|lease| is_of(lease, mac) && lease.subnet == subnet)
        };
        self.places.iter().filter(move |(place, address)| !has_row(**place, address)).map(|(place, _)| *place)
    }

    /// Takes an address's row back where this batch has one like that.
    fn take(&mut self, address: Ipv4Addr, is_it: impl Fn(&Lease) -> bool) {
        if let Some(row) = self.rows.get_mut(&address) {
            row.take_if(|lease| is_it(lease));
        }
    }
}

/// Whether it is the machine's lease, and not a hold because of it.
fn is_of(lease: &Lease, mac: Mac) -> bool {
    lease.mac == mac && !lease.state.is_on_hold()
}

/// `which` ends with the column that the values are of.
async fn delete(connection: &mut SqliteConnection, which: &str, values: &[String]) -> sqlx::Result<()> {
    for some in values.chunks(ROWS_PER_STATEMENT) {
        let mut statement = QueryBuilder::<Sqlite>::new("DELETE FROM leases WHERE ");
        statement.push(which).push(" IN (");
        let mut list = statement.separated(", ");
        for value in some {
            list.push_bind(value);
        }
        statement.push(")");
        statement.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// The leases with these values in both columns. The first one has an index, which a list of pairs would not use.
async fn delete_pairs(
    connection: &mut SqliteConnection,
    [first, second]: [&str; 2],
    pairs: Vec<[String; 2]>,
) -> sqlx::Result<()> {
    for some in pairs.chunks(ROWS_PER_STATEMENT) {
        let mut statement = QueryBuilder::<Sqlite>::new("DELETE FROM leases WHERE state <> 'resting' AND ");
        statement.push(first).push(" IN (");
        let mut list = statement.separated(", ");
        for [value, _] in some {
            list.push_bind(value);
        }
        statement.push(") AND ").push(first).push(" || ' ' || ").push(second).push(" IN (");
        let mut list = statement.separated(", ");
        for pair in some {
            list.push_bind(pair.join(" "));
        }
        statement.push(")");
        statement.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Inserts rows. What is in the way of one, by its address or as its machine's row in its subnet, goes; of those that are
/// inserted, none is in the way of another.
async fn replace(connection: &mut SqliteConnection, leases: &[&Lease]) -> sqlx::Result<()> {
    let into = "INSERT OR REPLACE INTO leases (mac, address, subnet, state, hold_cause, expires, hostname, recognised_by, updated) ";
    let mut statement = QueryBuilder::<Sqlite>::new(into);
    statement.push_values(leases, |mut row, lease| {
        row.push_bind(lease.mac.to_string())
            .push_bind(lease.address.to_string())
            .push_bind(lease.subnet.to_string())
            .push_bind(lease.state.as_str())
            .push_bind(lease.state.hold().map(HoldCause::as_str))
            .push_bind(lease.expires)
            .push_bind(lease.hostname.as_deref())
            .push_bind(lease.recognised_by.as_ref().map(Identity::to_text))
            .push_bind(lease.updated);
    });
    statement.build().execute(connection).await.map(drop)
}
