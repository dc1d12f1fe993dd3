//! What waits for the disk, and what does not.
//!
//! While one commit is under way, what else is to be stored gathers for the next, with the answers that follow from it: so
//! the commits per second are the disk's, the leases per commit the storm's, and nobody waits for a timer. What follows
//! from nothing that is still to be stored is done at once.

use std::collections::HashSet;
use std::future::pending;
use std::time::{Duration, Instant};

use boot_common::Mac;
use tracing::error;

use super::event_loop::Daemon;
use crate::store::{Committed, StoreError};
use boot_engine::command::Command;
use boot_engine::record::Change;
use boot_engine::unstored::Promised;

/// How many commands gather before packets stay in the sockets' buffers: those of some 10,000 machines, while a disk hangs.
const MOST: usize = 32_768;
/// After how long a disk that does not answer is said to hang.
const HANGS: Duration = Duration::from_secs(5);

/// What is to be done when it is stored.
#[derive(Debug, Default)]
struct Batch {
    commands: Vec<Command>,
    promised: Promised,
    /// Whoever has something in it: what else is to be done about them has to wait for it.
    machines: HashSet<Mac>,
}

impl Batch {
    fn changes(&self) -> Vec<Change> {
        self.commands.iter().filter_map(change).cloned().collect()
    }
}

/// The commits of a daemon.
#[derive(Debug, Default)]
pub(super) struct Commits {
    gathered: Batch,
    under_way: Option<(Batch, Committed, Instant)>,
}

impl Commits {
    /// Whether any more may gather.
    pub(super) fn have_room(&self) -> bool {
        self.gathered.commands.len() < MOST
    }

    /// Waits for the end of the commit that is under way.
    pub(super) async fn end(&mut self) -> Result<(), StoreError> {
        match &mut self.under_way {
            Some((_, committed, _)) => committed.await.unwrap_or(Err(StoreError::Gone)),
            None => pending().await,
        }
    }

    /// Why leases wait, if they wait for long.
    pub(super) fn trouble(&self) -> Option<String> {
        let (.., begun) = self.under_way.as_ref()?;
        let waiting = begun.elapsed();
        (waiting > HANGS).then(|| {
            format!(
                "leases wait for the disk of state_dir, which has not answered for {} s: look at it",
                waiting.as_secs()
            )
        })
    }

    fn has(&self, mac: Mac) -> bool {
        let is_under_way = self.under_way.as_ref().is_some_and(|(batch, ..)| batch.machines.contains(&mac));
        is_under_way || self.gathered.machines.contains(&mac)
    }

    /// Whether these commands have to wait for the disk.
    fn have_to_wait(&self, commands: &[Command]) -> bool {
        let is_idle = self.under_way.is_none() && self.gathered.machines.is_empty();
        commands.iter().any(|command| {
            matches!(command, Command::Persist(_))
                || !is_idle && machine(command).is_some_and(|mac| self.has(mac))
        })
    }
}

fn change(command: &Command) -> Option<&Change> {
    if let Command::Persist(change) = command { Some(change) } else { None }
}

/// Whom a command is about.
fn machine(command: &Command) -> Option<Mac> {
    match command {
        Command::Persist(change) => change.machine(),
        Command::PutHost(key, _) | Command::DeleteHost(key) => Some(key.mac),
        Command::Send { told, .. } => Some(told.mac),
        Command::PutAnswer(..) | Command::Probe { .. } => None,
    }
}

impl Daemon {
    /// Does what the engine wants, now or when it is stored: no ACK leaves, and no promise reaches the kernel, before it
    /// is on the disk. What the engine has decided in one go belongs together.
    pub(super) fn execute(&mut self, commands: Vec<Command>) {
        let promised = self.engine.promised();
        if !self.commits.have_to_wait(&commands) {
            return self.carry_out(commands, &HashSet::new(), true);
        }
        let batch = &mut self.commits.gathered;
        batch.machines.extend(commands.iter().filter_map(machine));
        batch.promised.extend(promised);
        batch.commands.extend(commands);
    }

    /// Begins to store what has gathered, unless a commit is under way.
    pub(super) fn commit_next(&mut self) {
        if self.commits.under_way.is_none() && !self.begin_next() {
            // What has waited for a commit of others needs none of its own.
            let waited = std::mem::take(&mut self.commits.gathered);
            self.carry_out(waited.commands, &HashSet::new(), true);
        }
    }

    /// Hands what has gathered to the disk; false when there is nothing to be stored.
    fn begin_next(&mut self) -> bool {
        let changes = self.commits.gathered.changes();
        if changes.is_empty() {
            return false;
        }
        let committed = self.store.begin(self.in_wall_time(changes));
        let batch = std::mem::take(&mut self.commits.gathered);
        self.commits.under_way = Some((batch, committed, Instant::now()));
        true
    }

    /// The commit under way has ended. The disk goes on with the next one first.
    pub(super) fn committed(&mut self, ended: Result<(), StoreError>) {
        let Some((mut batch, ..)) = self.commits.under_way.take() else { return };
        self.note(&ended);
        let Err(failure) = ended else {
            self.begin_next();
            return self.carry_out(batch.commands, &HashSet::new(), true);
        };
        error!("{failure}: no lease is confirmed until this is mended");
        self.store_failures += 1;
        // What was decided meanwhile was decided as if it had been stored.
        let gathered = std::mem::take(&mut self.commits.gathered);
        batch.promised.extend(gathered.promised);
        batch.commands.extend(gathered.commands);
        let changes = batch.changes();
        self.engine.take_back(&changes, batch.promised);
        let unstored = changes.iter().filter_map(Change::machine).collect();
        self.carry_out(batch.commands, &unstored, false);
    }

    /// Waits until nothing has to be stored.
    pub(super) async fn settle(&mut self) {
        self.commit_next();
        while self.commits.under_way.is_some() {
            let ended = self.commits.end().await;
            self.committed(ended);
            self.commit_next();
        }
    }

    /// Stores changes that an operator wants, when nothing else is under way.
    pub(super) async fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let committed = self.store.wait(self.store.begin(self.in_wall_time(changes.to_vec()))).await;
        self.note(&committed);
        committed
    }

    fn note(&mut self, committed: &Result<(), StoreError>) {
        self.store_trouble = committed.as_ref().err().map(ToString::to_string);
    }

    /// The store has the wall clock's time, which the next daemon will begin with.
    fn in_wall_time(&self, changes: Vec<Change>) -> Vec<Change> {
        if self.set_by == 0 {
            return changes;
        }
        changes.into_iter().map(|change| change.later_by(self.set_by)).collect()
    }
}
