//! Turns a batch of changes into few statements, because each statement costs a round trip to the database.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use boot_common::Mac;
use ipnet::Ipv4Net;

use super::lease::{self, COLUMNS};
use super::sql::{Field, ROWS_PER_STATEMENT, Row, Sql, Statement};
use super::{Change, Lease};

/// Makes the changes inside the caller's transaction. Gives the addresses whose rows are others now, or none, if somebody
/// wants to know them.
pub(super) async fn changes<C: Sql>(
    connection: &mut C,
    changes: &[Change],
    wants_touched: bool,
) -> sqlx::Result<BTreeSet<String>> {
    let outcome = Outcome::of(changes);
    let text = |address: &Ipv4Addr| address.to_string();
    let deleted: Vec<_> =
        outcome.deleted.iter().map(|(address, mac)| [text(address), mac.to_string()]).collect();
    let lifted: Vec<String> = outcome.lifted.iter().map(text).collect();
    let mut touched = delete_pairs(connection, ["address", "mac"], deleted).await?;
    touched.extend(delete(connection, "state = 'resting' AND address", &lifted).await?);
    let leases: Vec<&Lease> = outcome.rows.values().copied().flatten().collect();
    // A row that is replaced needs no statement to remove it, and does not say that it was there.
    let replaces = C::REPLACE.filter(|_| !wants_touched);
    let goes = |is_replaced: bool| replaces.is_none() || !is_replaced;
    let emptied = outcome.rows.iter().filter(|(_, row)| goes(row.is_some()));
    let addresses: Vec<String> = emptied.map(|(address, _)| text(address)).collect();
    let left = outcome.places.iter().filter(|(place, address)| goes(outcome.has_row(**place, address)));
    let places = left.map(|((mac, subnet), _)| [mac.to_string(), subnet.to_string()]).collect();
    let insert = replaces.unwrap_or("INSERT");
    touched.extend(replace(connection, insert, (&addresses, places), &leases).await?);
    Ok(touched.into_iter().collect())
}

/// Puts rows in the place of what these addresses had. What machines have in the same subnets goes, too.
pub(super) async fn put(
    connection: &mut impl Sql,
    addresses: &[String],
    leases: &[&Lease],
) -> sqlx::Result<()> {
    let moved = leases.iter().filter(|lease| !lease.state.is_on_hold());
    let places = moved.map(|lease| [lease.mac.to_string(), lease.subnet.to_string()]).collect();
    replace(connection, "INSERT", (addresses, places), leases).await.map(drop)
}

/// Gives the addresses whose rows are others now, or none. Of the rows that are inserted, none is in the way of another.
async fn replace(
    connection: &mut impl Sql,
    insert: &str,
    (addresses, places): (&[String], Vec<[String; 2]>),
    leases: &[&Lease],
) -> sqlx::Result<Vec<String>> {
    let mut touched = delete_pairs(connection, ["mac", "subnet"], places).await?;
    touched.extend(delete(connection, "address", addresses).await?);
    for some in leases.chunks(ROWS_PER_STATEMENT) {
        let insert = Statement::new(insert).then(" INTO leases (").then(COLUMNS).then(")");
        insert.rows(some.iter().map(|lease| lease::values(lease))).run(connection).await?;
        touched.extend(some.iter().map(|lease| lease.address.to_string()));
    }
    Ok(touched)
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

    /// Whether a machine has a row in a subnet in the end, at the address that it was last given there.
    fn has_row(&self, (mac, subnet): (Mac, Ipv4Net), address: &Ipv4Addr) -> bool {
        let row = self.rows.get(address).copied().flatten();
        row.is_some_and(|lease| is_of(lease, mac) && lease.subnet == subnet)
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

/// Gives the addresses of the rows. `which` ends with the column that the values are of.
async fn delete(connection: &mut impl Sql, which: &str, values: &[String]) -> sqlx::Result<Vec<String>> {
    let mut deleted = Vec::new();
    for some in values.chunks(ROWS_PER_STATEMENT) {
        let delete = Statement::new("DELETE FROM leases WHERE ").then(which).then(" IN ");
        let rows = delete.list(some.iter().cloned()).then(" RETURNING address").run(connection).await?;
        deleted.extend(addresses(&rows));
    }
    Ok(deleted)
}

/// The leases with these values in both columns. The first one has an index, which a list of pairs would not use.
async fn delete_pairs(
    connection: &mut impl Sql,
    [first, second]: [&str; 2],
    pairs: Vec<[String; 2]>,
) -> sqlx::Result<Vec<String>> {
    let mut deleted = Vec::new();
    for some in pairs.chunks(ROWS_PER_STATEMENT) {
        let delete =
            Statement::new("DELETE FROM leases WHERE state <> 'resting' AND ").then(first).then(" IN ");
        let delete = delete.list(some.iter().map(|[value, _]| value.clone()));
        let delete = delete.then(" AND ").then(first).then(" || ' ' || ").then(second).then(" IN ");
        let delete = delete.list(some.iter().map(|pair| pair.join(" ")));
        deleted.extend(addresses(&delete.then(" RETURNING address").run(connection).await?));
    }
    Ok(deleted)
}

fn addresses(rows: &[Row]) -> impl Iterator<Item = String> {
    rows.iter().filter_map(|row| row.first().and_then(Field::text).map(str::to_owned))
}
