//! What the agent says of machines: what they consist of, and how far it is.

use std::sync::Arc;

use boot_agent_protocol::{Inventory, Progress};

use super::changes::event_of;
use super::{Asking, Keeper, SELF};
use crate::daemon::request::RegistryError;
use boot_engine::config::Machine;
use boot_engine::events::{Meanwhile, Sink as _, Step};
use boot_engine::lifecycle::Stepped;
use boot_engine::registry::Record;

impl Keeper {
    /// Stores what a machine consists of, and tells what has changed. Groups by inventory follow at once, and so does a rule
    /// that accepts the machines of such a group.
    pub(super) async fn take_inventory(
        &mut self,
        id: u64,
        inventory: Inventory,
    ) -> Result<(), RegistryError> {
        let mut id = id;
        if let Some(expected) = self.expected_by(id, &inventory) {
            self.join(expected, id).await?;
            id = expected;
        }
        let entry = self.registry.get(id).ok_or_else(|| self.not_taken_down(id))?;
        let mac = entry.machine.macs.first().copied();
        let conflicts = self.conflicts(entry, &inventory);
        for (conflict, other) in &conflicts {
            if let Some(mac) = mac {
                self.tell_conflict(mac, conflict.clone());
            }
            if let (Meanwhile::Followed, Some(other)) = (conflict.meanwhile, other) {
                id = self.follow_board(id, *other).await?;
            }
        }
        let entry = self.registry.get(id).ok_or_else(|| self.not_taken_down(id))?;
        let (mut record, differences) = entry.record.with_inventory(inventory);
        let machine = Arc::new(Machine { inventory: record.inventory.clone(), ..(*entry.machine).clone() });
        let (mut stepped, mut by) = (Stepped::default(), SELF.to_owned());
        let is_alone = conflicts.iter().all(|(conflict, _)| conflict.meanwhile != Meanwhile::Waits);
        if is_alone && let Some(accepted) = self.acceptance(&record, &machine, Asking::default()) {
            (record, stepped, by) = (accepted.record, accepted.stepped, accepted.by);
        }
        let stepped = Stepped { differences, ..stepped };
        self.commit(record, machine, &stepped, &by).await?;
        for (conflict, _) in &conflicts {
            self.hold(id, conflict).await;
        }
        Ok(())
    }

    /// Keeps how far the agent is. It is in memory only: the agent says it every few seconds.
    pub(super) fn note_progress(&mut self, id: u64, progress: Progress) {
        let Some(entry) = self.registry.get(id) else { return };
        let status = &entry.record.status;
        let says = |progress: &Progress| (progress.text.clone(), progress.percent());
        let before = self.progress.get(&id).map(|(_, before)| says(before));
        let (does, percent) = says(&progress);
        if before.is_none_or(|before| before != (does.clone(), percent)) {
            let percent = percent.and_then(|percent| u8::try_from(percent).ok());
            let step = Step::Progress { does: does.into(), percent };
            self.events.emit(event_of(entry, step));
            self.followers.note_progress(id);
        }
        self.progress.insert(id, ((status.state, status.since), progress));
    }

    /// How far the agent is, if that is of the state that the machine is in.
    pub(super) fn progress_of(&self, record: &Record) -> Option<Progress> {
        let (of, progress) = self.progress.get(&record.id)?;
        (*of == (record.status.state, record.status.since)).then(|| progress.clone())
    }
}
