//! What the database and the file say to each other when they meet: which of them is right, and what the other one lacks.

use std::collections::{HashMap, HashSet};

use tracing::{info, warn};

use super::link::{Link, Server};
use super::trouble::Trouble;
use crate::store::copied::{self, Origin};
use crate::store::database::Database;
use crate::store::{Lease, StoreError, lease, machines, write};

/// What the file may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Nobody has read it yet: it may become what the database has.
    Unread,
    /// It is what is served.
    Served,
}

/// Brings the database and the file together; gives what the database is from now on. `taken` is what this process has
/// made of it before.
///
/// # Errors
/// The database is not for this file, or one of them does not answer.
pub(super) async fn meet(
    (link, server): (&mut Link, &Server),
    local: &Database,
    role: Role,
    taken: Option<&Origin>,
) -> Result<Origin, StoreError> {
    let explain = |error| StoreError::from(Trouble::of(server, &error));
    let there = copied::origin(link).await.map_err(explain)?;
    let here = local.with(async |connection| copied::origin(connection).await).await?;
    let origin = match (there, here) {
        (None, here) => fill((link, server), local, here).await?,
        (Some(there), None) if role == Role::Unread && local.is_empty().await? => {
            fetch((link, server), local, &there).await?;
            there
        }
        (Some(_), None) => return Err(Trouble::both(server).into()),
        (Some(there), Some(here)) if there.id != here.id => return Err(Trouble::another(server).into()),
        (Some(there), Some(here)) if there.starts < here.starts => return Err(Trouble::older(server).into()),
        (Some(there), Some(here)) if there == here => {
            match (role, is_older((link, server), local).await?) {
                (Role::Unread, true) => return Err(Trouble::older(server).into()),
                (Role::Unread, false) => take_later((link, server), local, &there).await?,
                (Role::Served, is_older) => {
                    if is_older {
                        warn!("{server} has lost its latest changes: it gets again what state_dir has");
                        // Nobody knows which leases are lost, too.
                        local.transact(async |connection| copied::note_all(connection).await).await?;
                    }
                    send_machines((link, server), local).await?;
                }
            }
            there
        }
        (Some(there), Some(_)) if role == Role::Unread => {
            warn!("another xpxe has used {server} since this one last did: xpxe begins with what is there");
            fetch((link, server), local, &there).await?;
            there
        }
        (Some(_), Some(_)) => return Err(Trouble::changed(server).into()),
    };
    if taken.is_some() {
        return Ok(origin);
    }
    let origin = Origin { starts: origin.starts + 1, ..origin };
    let mine = Some(&origin);
    link.transact(async |link| copied::set_origin(link, mine).await).await.map_err(explain)?;
    local.transact(async |connection| copied::set_origin(connection, mine).await).await?;
    Ok(origin)
}

/// Whether the database lacks changes of machines that are in the file, which were in the database first.
async fn is_older((link, server): (&mut Link, &Server), local: &Database) -> Result<bool, StoreError> {
    let (_, there) = machines::last(link).await.map_err(|error| Trouble::of(server, &error))?;
    let (_, here) = local.with(async |connection| machines::last(connection).await).await?;
    Ok(there < here)
}

/// What is later counts, of machines and of leases. Neither side has anything that the other one lacks, but for what is still to
/// be sent, unless somebody has put an older file or an older database in its place.
async fn take_later(
    (link, server): (&mut Link, &Server),
    local: &Database,
    there: &Origin,
) -> Result<(), StoreError> {
    let explain = |error| StoreError::from(Trouble::of(server, &error));
    let of_database = times(&lease::all(link).await.map_err(explain)?);
    let of_file = times(&local.leases().await?);
    let (_, unsent) = local.with(async |connection| copied::all(connection).await).await?;
    let unsent: HashSet<String> = unsent.into_iter().collect();
    let behind = later(&of_database, &of_file, &unsent).len();
    if behind > 0 {
        warn!(
            "state_dir is older than {server}, as if a snapshot had been put back: {behind} leases are later there, and count"
        );
        return fetch((link, server), local, there).await;
    }
    let ahead = later(&of_file, &of_database, &unsent);
    if !ahead.is_empty() {
        warn!("{server} has lost {} leases that state_dir has: it gets them again", ahead.len());
        local.transact(async |connection| copied::note(connection, &ahead).await).await?;
    }
    fetch_machines((link, server), local).await
}

/// When the lease of each address was stored.
fn times(leases: &[Lease]) -> HashMap<String, i64> {
    leases.iter().map(|lease| (lease.address.to_string(), lease.updated)).collect()
}

/// The addresses that are later on one side than on the other, or are not there, but for those that are still to be sent.
fn later(one: &HashMap<String, i64>, other: &HashMap<String, i64>, unsent: &HashSet<String>) -> Vec<String> {
    let is_later = |(address, updated): &(&String, &i64)| {
        !unsent.contains(*address) && other.get(*address).is_none_or(|before| before < *updated)
    };
    one.iter().filter(is_later).map(|(address, _)| address.clone()).collect()
}

/// A database that nobody has used gets everything that the file has.
async fn fill(
    (link, server): (&mut Link, &Server),
    local: &Database,
    here: Option<Origin>,
) -> Result<Origin, StoreError> {
    let origin = match here {
        Some(origin) => origin,
        None => Origin { id: new_id()?, starts: 0 },
    };
    let mine = Some(&origin);
    // First: a file that says nothing of a database that has its rows would be taken for another one's.
    local
        .transact(async |connection| {
            copied::set_origin(connection, mine).await?;
            copied::note_all(connection).await
        })
        .await?;
    local.copy.set(true);
    let rows = local.with(async |connection| machines::every_row(connection).await).await?;
    let filled = link.transact(async |link| {
        machines::put_rows(link, &rows).await?;
        copied::set_origin(link, mine).await
    });
    filled.await.map_err(|error| Trouble::of(server, &error))?;
    let (machines, leases) = (rows.len(), local.unsent_count().await?);
    if machines > 0 || leases > 0 {
        info!(
            machines,
            leases, "{server} is new: it gets the {machines} machines and {leases} leases that state_dir has"
        );
    }
    Ok(origin)
}

/// The file becomes what the database has, but for leases that the database does not have yet.
async fn fetch(
    (link, server): (&mut Link, &Server),
    local: &Database,
    there: &Origin,
) -> Result<(), StoreError> {
    let explain = |error| StoreError::from(Trouble::of(server, &error));
    let leases = lease::all(link).await.map_err(explain)?;
    let rows = machines::every_row(link).await.map_err(explain)?;
    let unsent = local.with(async |connection| copied::some(connection, usize::MAX).await).await?;
    let kept = newer(unsent.leases, &leases);
    let addresses: Vec<String> = kept.iter().map(|lease| lease.address.to_string()).collect();
    local
        .transact(async |connection| {
            copied::empty(connection).await?;
            copied::set_origin(connection, Some(there)).await?;
            write::put(connection, &[], &leases.iter().collect::<Vec<_>>()).await?;
            write::put(connection, &addresses, &kept.iter().collect::<Vec<_>>()).await?;
            copied::note(connection, &addresses).await?;
            machines::put_rows(connection, &rows).await
        })
        .await?;
    local.copy.set(true);
    let (machines, leases) = (rows.len(), leases.len());
    info!(machines, leases, "state_dir has a copy of {server} now: {machines} machines and {leases} leases");
    Ok(())
}

/// Those that are later than what somebody else has made of their addresses, and of their machines' places, meanwhile.
fn newer(unsent: Vec<Lease>, there: &[Lease]) -> Vec<Lease> {
    let addresses: HashMap<_, _> = there.iter().map(|lease| (lease.address, lease.updated)).collect();
    let place = |lease: &Lease| (lease.mac, lease.subnet);
    let leases = there.iter().filter(|lease| !lease.state.is_on_hold());
    let places: HashMap<_, _> = leases.map(|lease| (place(lease), lease.updated)).collect();
    let is_newer = |lease: &Lease| {
        let rivals = [addresses.get(&lease.address), places.get(&place(lease))];
        rivals.into_iter().flatten().all(|updated| *updated <= lease.updated)
    };
    unsent.into_iter().filter(is_newer).collect()
}

/// The file's machines become those of the database: what it has was stored there before it was stored here.
async fn fetch_machines((link, server): (&mut Link, &Server), local: &Database) -> Result<(), StoreError> {
    let explain = |error| StoreError::from(Trouble::of(server, &error));
    let there = machines::revisions(link).await.map_err(explain)?;
    let here = local.with(async |connection| machines::revisions(connection).await).await?;
    let (changed, gone) = difference(&there, &here);
    let rows = machines::rows(link, &changed).await.map_err(explain)?;
    local
        .transact(async |connection| {
            machines::delete(connection, &gone).await?;
            machines::put_rows(connection, &rows).await
        })
        .await
}

/// The database's machines become those of the file: what it has beyond them was never confirmed to anybody.
async fn send_machines((link, server): (&mut Link, &Server), local: &Database) -> Result<(), StoreError> {
    let explain = |error| StoreError::from(Trouble::of(server, &error));
    let there = machines::revisions(link).await.map_err(explain)?;
    let here = local.with(async |connection| machines::revisions(connection).await).await?;
    let (changed, gone) = difference(&here, &there);
    if changed.is_empty() && gone.is_empty() {
        return Ok(());
    }
    let rows = local.with(async |connection| machines::rows(connection, &changed).await).await?;
    let sent = link.transact(async |link| {
        machines::delete(link, &gone).await?;
        machines::put_rows(link, &rows).await
    });
    sent.await.map_err(explain)
}

/// The numbers of those that are others on the right side, and of those that are on the wrong side only.
fn difference(right: &HashMap<i64, i64>, wrong: &HashMap<i64, i64>) -> (Vec<i64>, Vec<i64>) {
    let changed = right.iter().filter(|(id, revision)| wrong.get(id) != Some(revision));
    let gone = wrong.keys().filter(|id| !right.contains_key(id));
    (changed.map(|(id, _)| *id).collect(), gone.copied().collect())
}

/// A number that no other database has.
fn new_id() -> Result<String, StoreError> {
    use std::fmt::Write as _;

    use ring::rand::{SecureRandom as _, SystemRandom};

    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Trouble::lasting("the kernel gives no random numbers".to_owned()))?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    }))
}
