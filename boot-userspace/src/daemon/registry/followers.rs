//! Who follows changes of machines: each asks for what is newer than what it has, and waits here until there is something.

use super::Keeper;
use crate::daemon::request::{Change, MachineChanges, RegistryError, Reply, WantedChanges};
use boot_engine::registry::Newer;

/// How many changes are told at once.
const AT_ONCE: usize = 1000;

/// Those who wait, and up to what they have heard.
#[derive(Default)]
pub(super) struct Followers {
    waiting: Vec<(WantedChanges, Reply<MachineChanges>)>,
    /// How often the configuration was read anew.
    reloads: u64,
    told: (u64, u64),
}

impl Followers {
    pub(super) fn note_reload(&mut self) {
        self.reloads += 1;
    }
}

impl Keeper {
    /// Tells what is new, or has somebody wait until something is.
    pub(super) fn follow(&mut self, wanted: WantedChanges, reply: Reply<MachineChanges>) {
        let found = self.changes(&wanted);
        let is_news = |changes: &MachineChanges| {
            !changes.changes.is_empty() || wanted.waits.is_none_or(|seen| seen != changes.reloads)
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
        let now = (self.registry.last_change(), self.followers.reloads);
        if std::mem::replace(&mut self.followers.told, now) == now {
            return;
        }
        for (wanted, reply) in std::mem::take(&mut self.followers.waiting) {
            self.follow(wanted, reply);
        }
    }

    fn changes(
        &self,
        WantedChanges { query, since, .. }: &WantedChanges,
    ) -> Result<MachineChanges, RegistryError> {
        let last = self.registry.last_change();
        let mut found =
            MachineChanges { reloads: self.followers.reloads, revision: last, ..MachineChanges::default() };
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
        Ok(found)
    }
}
