//! Many changes at once: one commit of the store for all of them.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::changes::{is_only_discovered, is_readable, served};
use super::unserved::Names;
use super::{Changed, Keeper, SELF};
use crate::daemon::request::{Ask, ImportItem, Imported, RegistryError, View};
use boot_engine::config::{Machine, serial_key};
use boot_engine::lifecycle::Stepped;
use boot_engine::machines::{ChangeError, Machines};
use boot_engine::registry::{Entry, Place, Record, Spec};

/// How many changes have one commit.
const AT_ONCE: usize = 1000;

/// Changes that wait for their commit, and what they take.
#[derive(Default)]
struct Batch {
    changes: Vec<Changed>,
    /// Also of the commits before it: who is twice in what is imported is refused, wherever a commit comes between.
    records: HashSet<u64>,
    /// In lower case.
    names: HashSet<String>,
    serials: HashSet<String>,
    machines: Machines,
}

impl Batch {
    fn push(&mut self, changed: Changed) -> Result<(), RegistryError> {
        let name = changed.record.spec.name.as_ref().map(|name| name.to_lowercase());
        if self.records.contains(&changed.record.id)
            || name.as_ref().is_some_and(|name| self.names.contains(name))
        {
            return Err(twice(&changed.record.called()));
        }
        let serial = changed.record.spec.serial.as_deref().map(serial_key);
        if serial.as_ref().is_some_and(|serial| self.serials.contains(serial)) {
            return Err(twice(&format!("the serial number of {}", changed.record.called())));
        }
        let added = self.machines.add(Arc::clone(&changed.machine));
        added.map_err(|conflict| RegistryError::Conflict(conflict.to_string()))?;
        self.names.extend(name);
        self.serials.extend(serial);
        self.records.insert(changed.record.id);
        self.changes.push(changed);
        Ok(())
    }

    /// Gives what is to be committed, and begins with the next changes.
    fn take(&mut self) -> Vec<Changed> {
        let records = std::mem::take(&mut self.records);
        std::mem::replace(self, Self { records, ..Self::default() }).changes
    }
}

fn twice(what: &str) -> RegistryError {
    RegistryError::Conflict(format!("{what} is twice in what is imported"))
}

impl Keeper {
    /// Adds machines, and changes those that are there. What is refused stays as it was, and so does everything in a dry run,
    /// which also refuses what only an earlier one of them would make room for.
    pub(super) async fn import(
        &mut self,
        items: Vec<ImportItem>,
        dry_run: bool,
    ) -> Result<Imported, RegistryError> {
        let (mut done, mut batch) = (Imported::default(), Batch::default());
        for (position, item) in items.iter().enumerate() {
            let mut taken = self.take(item, &mut batch);
            let is_alone = matches!(taken, Err(_) | Ok(Taken::Over(_)));
            let is_due = batch.changes.len() >= AT_ONCE || (is_alone && !batch.changes.is_empty());
            // Without a commit nothing that is taken becomes free.
            if is_due && !dry_run {
                // What an earlier one of them gives up is free only when that is done.
                self.commit_all(batch.take()).await?;
                if is_alone {
                    taken = self.take(item, &mut batch);
                }
            }
            match taken {
                Ok(Taken::Added) => done.added += 1,
                Ok(Taken::Changed) => done.changed += 1,
                Ok(Taken::Unchanged) => done.unchanged += 1,
                Ok(Taken::Configured) => done.configured += 1,
                Ok(Taken::Over(over)) => {
                    let (entry, spec, gone) = *over;
                    let id = entry.record.id;
                    let taken_over = match dry_run {
                        true => self.over(&entry, spec, &gone).and_then(|changed| {
                            batch.records.extend(gone.iter().map(|gone| gone.record.id));
                            batch.push(changed)
                        }),
                        false => self.take_over(&entry, spec, gone).await.map(|_| {
                            batch.records.insert(id);
                        }),
                    };
                    match taken_over {
                        Ok(()) => done.changed += 1,
                        Err(error) => done.refused.push((position, error.to_string())),
                    }
                }
                Err(error) => done.refused.push((position, error.to_string())),
            }
        }
        if !dry_run {
            self.commit_all(batch.changes).await?;
            for serial in items.iter().filter_map(ImportItem::serial) {
                self.join_reported(serial).await;
            }
        }
        Ok(done)
    }

    fn take(&mut self, item: &ImportItem, batch: &mut Batch) -> Result<Taken, RegistryError> {
        let Some(which) = item.called() else {
            let nameless = || {
                let why = "it has no name, MAC, UUID or serial number: write one of them".to_owned();
                RegistryError::Invalid(vec![why])
            };
            let machine = self.configured_at_port(item).ok_or_else(nameless)?;
            let called = "the machine at its switch port";
            return self.is_as_configured(item, called, &machine).map(|()| Taken::Configured);
        };
        let before = match self.find(&which) {
            Ok(entry) => Some(entry.clone()),
            Err(RegistryError::Configured(which)) => {
                let machine = self.configured_machine(&which);
                let machine = machine.ok_or_else(|| RegistryError::Configured(which.clone()))?;
                return self.is_as_configured(item, &which, &machine).map(|()| Taken::Configured);
            }
            // It may have been discovered before somebody has named it.
            Err(RegistryError::Unknown(_)) => self.without_a_name(item.marks()).cloned(),
            Err(error) => return Err(error),
        };
        let spec = item.over(before.as_ref().map(|entry| &entry.record.spec));
        let mut spec: Spec = spec.map_err(|wrong| RegistryError::Invalid(vec![wrong]))?;
        let Some(before) = before else {
            let changed = self.newcomer(spec)?;
            return batch.push(changed).map(|()| Taken::Added);
        };
        if batch.records.contains(&before.record.id) {
            return Err(twice(&before.record.called()));
        }
        let known = &before.record.spec;
        // A list of serial numbers takes nothing away that was learnt by them.
        let serial = |spec: &Spec| spec.serial.as_deref().map(serial_key);
        if spec.mac.is_empty() && spec.serial.is_some() && serial(&spec) == serial(known) {
            spec.mac.clone_from(&known.mac);
            spec.uuid = spec.uuid.or_else(|| known.uuid.clone());
        }
        let gone = self.unwritten(before.record.id, &spec);
        let is_free = |gone: &Entry| is_only_discovered(gone) && !batch.records.contains(&gone.record.id);
        if !gone.is_empty() && gone.iter().all(is_free) {
            return Ok(Taken::Over(Box::new((before, spec, gone))));
        }
        match self.respecified(&before, spec)? {
            None => Ok(Taken::Unchanged),
            Some(changed) => batch.push(changed).map(|()| Taken::Changed),
        }
    }

    /// The machine that has one of these, and that nobody has named.
    fn without_a_name(&self, marks: impl IntoIterator<Item = String>) -> Option<&Entry> {
        let mut found = marks.into_iter().filter_map(|mark| self.find(&mark).ok());
        found.find(|entry| entry.record.spec.name.is_none())
    }

    /// Stores as many changes as there are, some at a time, and so on as [`Keeper::commit_all`] does.
    pub(super) async fn commit_in_batches(&mut self, mut changes: Vec<Changed>) -> Result<(), RegistryError> {
        while !changes.is_empty() {
            let some = changes.drain(..changes.len().min(AT_ONCE)).collect();
            self.commit_all(some).await?;
        }
        Ok(())
    }

    /// Stores changes, has them served, and tells what has become of them. All are stored, or none.
    pub(super) async fn commit_all(&mut self, changes: Vec<Changed>) -> Result<Vec<View>, RegistryError> {
        self.commit_over(changes, &[]).await
    }

    /// The same, and the records `gone` are removed in the same commit.
    pub(super) async fn commit_over(
        &mut self,
        changes: Vec<Changed>,
        gone: &[u64],
    ) -> Result<Vec<View>, RegistryError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let mut removed = Vec::new();
        for id in gone {
            let revision = self.registry.next_revision();
            self.registry.note_revision(revision);
            removed.push((*id, revision));
        }
        let (mut records, mut rest) = (Vec::new(), Vec::new());
        for Changed { mut record, machine, stepped, by } in changes {
            record.revision = self.registry.next_revision();
            // Also where storing fails: nobody knows what a database makes of a change that it did not confirm.
            self.registry.note_revision(record.revision);
            records.push(record);
            rest.push((machine, stepped, by));
        }
        self.store.change_machines(&records, &removed).await?;
        for (id, revision) in removed {
            self.forget(id, revision);
        }
        let placed = self.serve_all(&records, &rest).await;
        let mut views = Vec::new();
        for ((record, (_, stepped, by)), (machine, place)) in records.into_iter().zip(rest).zip(placed) {
            let before = self.registry.get(record.id);
            if before.and_then(|before| before.place.unserved()) != place.unserved() {
                self.tell_shadowed(machine.macs.first().copied(), &record, &place);
            }
            let entry = Entry { record: Arc::new(record), machine, place };
            views.push(self.view(&entry));
            self.tell(&entry, &stepped, &by);
            self.count_times(&entry.record, &stepped);
            if let Some(act) = stepped.power {
                self.command(&entry, act);
            }
            let id = entry.record.id;
            self.registry.put(entry, &self.rules);
            self.plan_reading(id);
        }
        self.note_unserved();
        Ok(views)
    }

    /// Has machines served as their records say. The thread of the packets need not wait for this one after each.
    async fn serve_all(
        &self,
        records: &[Record],
        rest: &[(Arc<Machine>, Stepped, String)],
    ) -> Vec<(Arc<Machine>, Place)> {
        let mut asked = Vec::new();
        for (record, (machine, ..)) in records.iter().zip(rest) {
            let entry = self.registry.get(record.id);
            let before = entry.and_then(|entry| served(&entry.place));
            // What waits is not what would be served.
            let is_known = entry.is_none_or(|entry| entry.place.unserved().is_none()) && is_readable(machine);
            let (reply, done) = oneshot::channel();
            let ask =
                Ask::PutMachine { id: before, machine: Arc::clone(machine), life: record.life(), reply };
            let is_asked = is_known && self.asks.send(ask).await.is_ok();
            asked.push((before, is_asked.then_some(done)));
        }
        let (mut placed, mut names) = (Vec::new(), None);
        for ((record, (machine, ..)), (before, done)) in records.iter().zip(rest).zip(asked) {
            let done = match done {
                Some(done) => done.await.ok(),
                None => None,
            };
            if let Some(Ok(id)) = done {
                placed.push((Arc::clone(machine), Place::Served(id)));
                continue;
            }
            let names = names.get_or_insert_with(|| Names::of(&self.config()));
            placed.push(match done {
                Some(Err(ChangeError::Conflict(why))) => {
                    self.have_wait(before, record, why.to_string(), names).await
                }
                // It is served anew, or there is a reason why it is not.
                Some(Err(ChangeError::Gone)) => self.place(None, record, names).await,
                _ => self.place(before, record, names).await,
            });
        }
        placed
    }

    /// Counts how long a machine was in the states that it leaves.
    fn count_times(&mut self, record: &Record, stepped: &Stepped) {
        let Some(before) = self.registry.get(record.id) else { return };
        let mut since = before.record.status.since;
        for past in &stepped.changes {
            self.times.add(past.from, past.at.saturating_sub(since));
            since = past.at;
        }
    }

    /// Takes down that time has passed for these records. Those for which that changes nothing cost nothing.
    pub(super) async fn pass_time(
        &mut self,
        ids: impl IntoIterator<Item = u64>,
    ) -> Result<(), RegistryError> {
        let mut changes = Vec::new();
        for id in ids {
            changes.extend(self.aged(id));
            if changes.len() >= AT_ONCE {
                self.commit_all(std::mem::take(&mut changes)).await?;
            }
        }
        self.commit_all(changes).await.map(drop)
    }

    fn aged(&self, id: u64) -> Option<Changed> {
        let entry = self.registry.get(id)?;
        let now = super::changes::now();
        let (record, stepped) =
            entry.record.observe(&self.rules, boot_engine::lifecycle::Observed::Time, SELF, now)?;
        Some(Changed { record, machine: Arc::clone(&entry.machine), stepped, by: SELF.to_owned() })
    }
}

/// What is done with one of the machines that are imported.
enum Taken {
    Added,
    Changed,
    Unchanged,
    /// It is the configuration's, and as it stands there.
    Configured,
    /// It turns out to be machines that are only discovered, whose records go.
    Over(Box<(Entry, Spec, Vec<Entry>)>),
}
