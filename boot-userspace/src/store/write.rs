//! Turns a batch of changes into few statements, because each statement costs a round trip to SQLite's thread.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use boot_common::Mac;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::{Change, Lease, LeaseState};

/// SQLite takes at most 32,766 parameters and a lease has seven.
const ROWS_PER_STATEMENT: usize = 500;

/// Makes the changes inside the caller's transaction.
pub(super) async fn changes(connection: &mut SqliteConnection, changes: &[Change]) -> sqlx::Result<()> {
    let Outcome { rows, machines, lifted } = Outcome::of(changes);
    let macs: Vec<String> = machines.keys().map(Mac::to_string).collect();
    let addresses: Vec<String> = rows.keys().map(Ipv4Addr::to_string).collect();
    let lifted: Vec<String> = lifted.iter().map(Ipv4Addr::to_string).collect();
    // All rows that are in the way go first, so that two machines can swap their addresses.
    delete(connection, "state <> 'resting' AND mac", &macs).await?;
    delete(connection, "state = 'resting' AND address", &lifted).await?;
    delete(connection, "address", &addresses).await?;
    let leases: Vec<&Lease> = rows.into_values().flatten().collect();
    for some in leases.chunks(ROWS_PER_STATEMENT) {
        insert(connection, some).await?;
    }
    Ok(())
}

/// What a batch comes to when its changes are made in their order.
#[derive(Default)]
struct Outcome<'a> {
    /// What each address that was given is in the end.
    rows: BTreeMap<Ipv4Addr, Option<&'a Lease>>,
    /// The machines that are named, whose leases from before are gone, with the address that each was last given.
    machines: BTreeMap<Mac, Option<Ipv4Addr>>,
    /// Addresses that rest no longer, if they did.
    lifted: BTreeSet<Ipv4Addr>,
}

impl<'a> Outcome<'a> {
    fn of(changes: &'a [Change]) -> Self {
        let mut outcome = Self::default();
        for change in changes {
            match change {
                Change::Put(lease) => {
                    if lease.state != LeaseState::Resting {
                        outcome.leave(lease.mac, Some(lease.address));
                    }
                    outcome.rows.insert(lease.address, Some(lease));
                }
                Change::Delete(mac) => outcome.leave(*mac, None),
                Change::Lift(address) => {
                    outcome.lifted.insert(*address);
                    if let Some(row) = outcome.rows.get_mut(address) {
                        row.take_if(|lease| lease.state == LeaseState::Resting);
                    }
                }
            }
        }
        outcome
    }

    /// A machine has the other address instead of what it had in this batch.
    fn leave(&mut self, mac: Mac, now: Option<Ipv4Addr>) {
        if let Some(before) = self.machines.insert(mac, now).flatten()
            && let Some(row) = self.rows.get_mut(&before)
        {
            row.take_if(|lease| lease.mac == mac && lease.state != LeaseState::Resting);
        }
    }
}

// The statements are valid for SQLite and for PostgreSQL.

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

async fn insert(connection: &mut SqliteConnection, leases: &[&Lease]) -> sqlx::Result<()> {
    let into = "INSERT INTO leases (mac, address, subnet, state, expires, hostname, updated) ";
    let mut statement = QueryBuilder::<Sqlite>::new(into);
    statement.push_values(leases, |mut row, lease| {
        row.push_bind(lease.mac.to_string())
            .push_bind(lease.address.to_string())
            .push_bind(lease.subnet.to_string())
            .push_bind(lease.state.as_str())
            .push_bind(lease.expires)
            .push_bind(lease.hostname.as_deref())
            .push_bind(lease.updated);
    });
    statement.build().execute(connection).await.map(drop)
}
