//! Who follows changes of machines: each asks for what is newer than what it has, and waits here until there is something.

use std::collections::{BTreeMap, HashMap};

use super::Keeper;
use crate::daemon::request::{Advance, Change, MachineChanges, RegistryError, Reply, WantedChanges};
use boot_engine::registry::Newer;

/// How many changes are told at once.
const AT_ONCE: usize = 1000;

/// Those who wait, and up to what they have heard.
#[derive(Default)]
pub(super) struct Followers {
    waiting: Vec<(WantedChanges, Reply<MachineChanges>)>,
    /// How often the configuration was read anew.
    reloads: u64,
    advances: Advances,
    told: (u64, u64, u64),
}

impl Followers {
    pub(super) fn note_reload(&mut self) {
        self.reloads += 1;
    }

    /// The agent of a machine is further.
    pub(super) fn note_progress(&mut self, id: u64) {
        self.advances.note(id);
    }

    /// A machine is gone.
    pub(super) fn forget_progress(&mut self, id: u64) {
        self.advances.forget(id);
    }

    /// Has those who wait hear how far agents are. Agents say it more often than anybody wants to hear it of thousands of machines.
    pub(super) fn tell_progress(&mut self) {
        self.advances.told = self.advances.last;
    }
}

/// Which agents are further, by numbers in the order in which they have said so.
#[derive(Default)]
struct Advances {
    machines: BTreeMap<u64, u64>,
    numbers: HashMap<u64, u64>,
    last: u64,
    /// What is behind this number is told later.
    told: u64,
}

impl Advances {
    fn note(&mut self, id: u64) {
        self.forget(id);
        self.last += 1;
        self.machines.insert(self.last, id);
        self.numbers.insert(id, self.last);
    }

    fn forget(&mut self, id: u64) {
        if let Some(number) = self.numbers.remove(&id) {
            self.machines.remove(&number);
        }
    }

    /// Each with its number.
    fn behind(&self, number: u64) -> impl Iterator<Item = (u64, u64)> {
        let told = self.told;
        let newer = self.machines.range(number.saturating_add(1)..).map(|(number, id)| (*number, *id));
        newer.take_while(move |(number, _)| *number <= told)
    }
}

impl Keeper {
    /// Tells what is new, or has somebody wait until something is.
    pub(super) fn follow(&mut self, wanted: WantedChanges, reply: Reply<MachineChanges>) {
        let found = self.changes(&wanted);
        let is_news = |changes: &MachineChanges| {
            let has_any = !changes.changes.is_empty() || !changes.advances.is_empty();
            has_any || wanted.waits.is_none_or(|seen| seen != changes.reloads)
        };
        if found.as_ref().is_ok_and(|changes| !is_news(changes)) {
            // Who has left waits no more.
            self.followers.waiting.retain(|(_, reply)| !reply.is_closed());
            self.followers.waiting.push((wanted, reply));
            return;
        }
        drop(reply.send(found));
    }

    /// Tells those who wait, if there is something to tell.
    pub(super) fn tell_followers(&mut self) {
        let Followers { reloads, advances, .. } = &self.followers;
        let now = (self.registry.last_change(), *reloads, advances.told);
        if std::mem::replace(&mut self.followers.told, now) == now {
            return;
        }
        for (wanted, reply) in std::mem::take(&mut self.followers.waiting) {
            self.follow(wanted, reply);
        }
    }

    fn changes(&self, wanted: &WantedChanges) -> Result<MachineChanges, RegistryError> {
        let WantedChanges { query, since, .. } = wanted;
        let Followers { reloads, advances, .. } = &self.followers;
        let mut found = MachineChanges {
            reloads: *reloads,
            revision: self.registry.last_change(),
            progress: wanted.progress.unwrap_or(advances.told),
            ..MachineChanges::default()
        };
        let Some(since) = *since else { return Ok(found) };
        for (revision, newer) in self.registry.newer(since)? {
            if found.changes.len() == AT_ONCE {
                found.is_cut = true;
                found.revision = found.changes.last().map_or(since, |change| change.revision);
                break;
            }
            found.changes.push(match newer {
                Newer::Record(entry) => Change {
                    revision,
                    id: entry.record.id,
                    machine: query.fits(&entry.record).then(|| self.view(entry)),
                    is_deleted: false,
                    called: Some(entry.record.called()),
                },
                Newer::Deleted(deleted) => Change {
                    revision,
                    id: deleted.id,
                    machine: None,
                    is_deleted: true,
                    called: deleted.called.clone(),
                },
            });
        }
        // Who has yet to hear of changes hears how far agents are when that is done.
        if !found.is_cut {
            self.add_advances(wanted, &mut found);
        }
        Ok(found)
    }

    fn add_advances(&self, wanted: &WantedChanges, found: &mut MachineChanges) {
        for (number, id) in self.followers.advances.behind(found.progress) {
            if found.advances.len() == AT_ONCE {
                return;
            }
            found.progress = number;
            let entry = self.registry.get(id).filter(|entry| wanted.query.fits(&entry.record));
            let progress = entry.and_then(|entry| self.progress_of(&entry.record));
            if let (Some(entry), Some(progress)) = (entry, progress) {
                found.advances.push(Advance { id, called: entry.record.called(), progress });
            }
        }
    }
}
