//! What `/readyz` says of the store and of the daemon's loop.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::request::Ask;
use crate::http::Readiness;
use crate::store::Store;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);
/// Who does not answer for so long answers machines no more: a disk hangs, for example.
const PATIENCE: Duration = Duration::from_secs(5);
/// A round of leases, and SQLite's log of it, may need so many bytes.
const LEAST_ROOM: u64 = 256 * 1024;

/// Looks for ever.
pub(super) async fn watch(
    readiness: Readiness,
    asks: mpsc::Sender<Ask>,
    state_dir: PathBuf,
    database: Store,
) {
    let mut next = interval(EVERY);
    next.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut looking: Option<JoinHandle<Option<String>>> = None;
    loop {
        next.tick().await;
        // A disk that hangs holds up nobody but the one thread that asks it.
        let mut look = looking.take().unwrap_or_else(|| {
            let dir = state_dir.clone();
            tokio::task::spawn_blocking(move || trouble_with(&dir))
        });
        let disk = match timeout(PATIENCE, &mut look).await {
            Ok(found) => found.unwrap_or_default(),
            Err(_) => {
                looking = Some(look);
                Some(format!("the disk of {} does not answer: check that disk (dmesg)", state_dir.display()))
            }
        };
        readiness.tell_trouble("the disk", disk);
        let silent = "the DHCP server does not answer: check whether the disk of state_dir hangs (dmesg); if it does not, restart xpxe";
        let (loops, store) = match timeout(PATIENCE, ask(&asks)).await {
            Ok(Some(store)) => (None, store),
            Ok(None) | Err(_) => (Some(silent.to_owned()), None),
        };
        readiness.tell_trouble("the DHCP server", loops);
        readiness.tell_trouble("the store", store);
        // Machines are served all the same.
        readiness.set_note("PostgreSQL", database.away().map(|trouble| trouble.to_string()));
    }
}

/// What is wrong with the store, if anything is; none if nobody answers.
async fn ask(asks: &mpsc::Sender<Ask>) -> Option<Option<String>> {
    let (reply, answer) = oneshot::channel();
    asks.send(Ask::Trouble(reply)).await.ok()?;
    answer.await.ok()
}

fn trouble_with(state_dir: &Path) -> Option<String> {
    let place = state_dir.display();
    let facts = match rustix::fs::statvfs(state_dir) {
        Ok(facts) => facts,
        Err(error) => return Some(format!("{place} cannot be looked at: {error}; check state_dir")),
    };
    // Root may use what is reserved for it.
    let blocks = if nix::unistd::geteuid().is_root() { facts.f_bfree } else { facts.f_bavail };
    // Those that have no limit say that nothing is free of nothing.
    let is_limited = facts.f_blocks > 0;
    (is_limited && blocks.saturating_mul(facts.f_frsize) < LEAST_ROOM)
        .then(|| format!("the disk is full: free some space for {place}"))
}
