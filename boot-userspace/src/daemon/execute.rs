//! What the engine wants is done, at once or when it is stored.

use std::collections::HashSet;
use std::time::Instant;

use tracing::error;

use super::event_loop::Daemon;
use crate::store::StoreError;
use boot_engine::command::Command;
use boot_engine::leases::Change;

impl Daemon {
    /// Does what the engine wants, now or when it is stored: no ACK leaves, and no promise reaches the kernel, before it
    /// is on the disk. What the engine has decided in one go belongs together.
    pub(super) fn execute(&mut self, commands: Vec<Command>) {
        let at_once = self.gather(commands);
        self.carry_out(at_once, &HashSet::new(), true);
    }

    /// Has commands wait for the next commit if they have to, and gives them back if they need not.
    pub(super) fn gather(&mut self, commands: Vec<Command>) -> Vec<Command> {
        let promised = self.engine.promised();
        if !self.commits.have_to_wait(&commands) {
            return commands;
        }
        self.commits.gather(commands, promised);
        Vec::new()
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
            if let Some(since) = &mut self.stored_since {
                since.extend(batch.changes());
            }
            self.begin_next();
            return self.carry_out(batch.commands, &HashSet::new(), true);
        };
        error!(
            "{failure}: until the store recovers, no new lease is acknowledged, except those of reserved addresses that the kernel half answers"
        );
        self.store_failures += 1;
        // What was decided meanwhile was decided as if it had been stored.
        let gathered = std::mem::take(&mut self.commits.gathered);
        batch.extend(gathered.commands, gathered.promised);
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
        if committed.is_ok()
            && let Some(since) = &mut self.stored_since
        {
            since.extend_from_slice(changes);
        }
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
