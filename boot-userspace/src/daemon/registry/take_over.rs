//! A machine of the registry that turns out to be others, too, which were only discovered: their records go.

use std::sync::Arc;

use boot_common::Mac;

use super::changes::{rewritten, served};
use super::{Changed, Keeper};
use crate::daemon::request::{RegistryError, View};
use boot_engine::config::Machine;
use boot_engine::registry::{Entry, Record, Spec};

impl Keeper {
    /// Other machines with MACs of this spec, of which nobody has said anything.
    pub(super) fn unwritten(&self, own: u64, spec: &Spec) -> Vec<Entry> {
        let mut found: Vec<Entry> = Vec::new();
        for other in spec.mac.iter().filter_map(|mac| self.find(mac).ok()) {
            let id = other.record.id;
            let is_another = id != own && found.iter().all(|earlier| earlier.record.id != id);
            if is_another && other.record.is_unwritten() {
                found.push(other.clone());
            }
        }
        found
    }

    /// What [`Keeper::take_over`] stores.
    pub(super) fn over(&self, entry: &Entry, spec: Spec, gone: &[Entry]) -> Result<Changed, RegistryError> {
        let mut record = rewritten(&entry.record, spec);
        for gone in gone {
            record.inventory = gone.record.inventory.clone().or(record.inventory);
            record.status.heard = record.status.heard.max(gone.record.status.heard);
        }
        let machine = self.check_over(&record, entry, gone)?;
        Ok(self.changed_by_asker(record, machine))
    }

    /// A record with another spec, by which it is the machine of the records `gone`, too: those go.
    pub(super) async fn take_over(
        &mut self,
        entry: &Entry,
        spec: Spec,
        gone: Vec<Entry>,
    ) -> Result<View, RegistryError> {
        let changed = self.over(entry, spec, &gone)?;
        for gone in &gone {
            self.serve_no_longer(&gone.place).await;
        }
        let ids: Vec<u64> = gone.iter().map(|gone| gone.record.id).collect();
        match self.commit_over(vec![changed], &ids).await {
            Ok(mut views) => views.pop().ok_or(RegistryError::Stopping),
            Err(error) => {
                for gone in gone {
                    self.serve_again(gone).await;
                }
                Err(error)
            }
        }
    }

    /// The machine of a record, if it may be there in the place of others, which are to be removed: their MACs and UUIDs are free.
    pub(super) fn check_over(
        &self,
        record: &Record,
        own: &Entry,
        gone: &[Entry],
    ) -> Result<Arc<Machine>, RegistryError> {
        let ids: Vec<u64> = gone.iter().map(|gone| gone.record.id).collect();
        let machine = self.checked(record, &ids)?;
        let mut kept = machine.clone();
        for gone in gone {
            let is_taken = |mac: &Mac| gone.machine.macs.contains(mac);
            let (macs, others): (Vec<Mac>, Vec<Mac>) = kept.macs.iter().copied().partition(is_taken);
            let uuid = kept.uuid.take_if(|uuid| gone.machine.uuid == Some(*uuid));
            kept.macs = others;
            self.is_free(&Machine { macs, uuid, ..Machine::default() }, served(&gone.place))?;
        }
        self.is_free(&kept, served(&own.place))?;
        Ok(Arc::new(machine))
    }
}
