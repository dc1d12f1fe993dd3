//! Turns a batch of changes into few statements, because each statement costs a round trip to SQLite's thread.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use boot_common::Mac;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::{Change, Lease};

/// SQLite takes at most 32,766 parameters and a lease has seven.
const ROWS_PER_STATEMENT: usize = 500;

/// Makes the changes inside the caller's transaction.
pub(super) async fn changes(connection: &mut SqliteConnection, changes: &[Change]) -> sqlx::Result<()> {
    let Outcome { machines, addresses } = outcome(changes);
    let macs: Vec<String> = machines.keys().map(Mac::to_string).collect();
    let addresses: Vec<String> = addresses.keys().map(Ipv4Addr::to_string).collect();
    // All rows that are in the way go first, so that two machines can swap their addresses.
    for some in macs.chunks(ROWS_PER_STATEMENT) {
        delete(connection, "mac", some).await?;
    }
    for some in addresses.chunks(ROWS_PER_STATEMENT) {
        delete(connection, "address", some).await?;
    }
    let leases: Vec<&Lease> = machines.into_values().flatten().collect();
    for some in leases.chunks(ROWS_PER_STATEMENT) {
        insert(connection, some).await?;
    }
    Ok(())
}

/// What a batch comes to when its changes are made in their order.
struct Outcome<'a> {
    /// What each machine that is named has in the end.
    machines: BTreeMap<Mac, Option<&'a Lease>>,
    /// The machine that each address was last given to, and so taken from all others.
    addresses: HashMap<Ipv4Addr, Mac>,
}

fn outcome(changes: &[Change]) -> Outcome<'_> {
    let mut machines: BTreeMap<Mac, Option<&Lease>> = BTreeMap::new();
    let mut addresses: HashMap<Ipv4Addr, Mac> = HashMap::new();
    for change in changes {
        match change {
            Change::Put(lease) => {
                if let Some(holder) = addresses.insert(lease.address, lease.mac)
                    && let Some(theirs) = machines.get_mut(&holder)
                {
                    theirs.take_if(|theirs| theirs.address == lease.address);
                }
                machines.insert(lease.mac, Some(lease));
            }
            Change::Delete(mac) => {
                machines.insert(*mac, None);
            }
        }
    }
    Outcome { machines, addresses }
}

// The statements are valid for SQLite and for PostgreSQL.

async fn delete(connection: &mut SqliteConnection, column: &str, values: &[String]) -> sqlx::Result<()> {
    let mut statement = QueryBuilder::<Sqlite>::new("DELETE FROM leases WHERE ");
    statement.push(column).push(" IN (");
    let mut list = statement.separated(", ");
    for value in values {
        list.push_bind(value);
    }
    statement.push(")");
    statement.build().execute(connection).await.map(drop)
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
