//! The registry as the store has it, at a start and after a reload.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::{error, warn};

use super::changes::served;
use super::conflicts;
use super::followers::Followers;
use super::power::Readings;
use super::{Keeper, MOST_HEARD, OPERATOR};
use crate::daemon::request::{Ask, EventStream};
use crate::host::live::Live;
use crate::power::Switch;
use crate::store::{Store, StoreError};
use boot_engine::boot::script::ScriptWriter;
use boot_engine::config::{Config, Machine};
use boot_engine::lifecycle::{Rules, TimesInState};
use boot_engine::machines::Machines;
use boot_engine::registry::{Deleted, Entry, MOST_DELETED, Place, Registry};

/// Reads the registry, and adds its machines to those of the configuration. What is in both is the configuration's.
///
/// # Errors
/// The store cannot be read.
pub(in crate::daemon) async fn load(
    store: &Store,
    machines: &Machines,
    config: &Config,
) -> Result<Registry, StoreError> {
    let rules = Rules::from(config);
    let (mut registry, names) = (Registry::default(), Names::of(config));
    let (id, revision) = store.last_numbers().await?;
    registry.note_id(id);
    registry.note_revision(revision);
    // One more than are remembered: so it is known whether there were more.
    for (id, revision) in store.deleted_machines(MOST_DELETED + 1).await? {
        registry.note_deleted(revision, Deleted { id, called: None });
    }
    for (id, record) in store.machines().await? {
        let record = match record {
            Ok(record) => record,
            Err(why) => {
                error!("the machine {id} of the registry cannot be read and is left out: {why}");
                registry.note_id(u64::try_from(id).unwrap_or(0));
                continue;
            }
        };
        let (machine, place) = match record.machine(config) {
            Ok(machine) => {
                let machine = Arc::new(machine);
                let place = match names.taken(&machine) {
                    Some(why) => Place::Shadowed(why),
                    None => match machines.put_alive(None, Arc::clone(&machine), record.life()) {
                        Ok((id, _)) => Place::Served(id),
                        Err(why) => Place::Shadowed(why.to_string()),
                    },
                };
                (machine, place)
            }
            Err(wrong) => (Arc::default(), Place::Shadowed(wrong.join("; "))),
        };
        if let Place::Shadowed(why) = &place {
            warn!("{} of the registry is not served: {why}", record.called());
        }
        registry.put(Entry { record: record.into(), machine, place }, &rules);
    }
    Ok(registry)
}

/// The names of the configuration's machines, which go before those of the registry.
struct Names(HashSet<String>);

impl Names {
    fn of(config: &Config) -> Self {
        let names = config.machines.iter().filter_map(|machine| machine.name.as_ref());
        Self(names.map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Why a machine of the registry is not served, if the configuration has its name.
    fn taken(&self, machine: &Machine) -> Option<String> {
        let name = machine.name.as_ref().filter(|name| self.0.contains(&name.to_ascii_lowercase()))?;
        Some(format!("a machine of the configuration has its name {name}: rename one of them"))
    }
}

impl Keeper {
    /// Keeps what was read.
    pub(in crate::daemon) fn new(
        registry: Registry,
        store: Store,
        machines: Machines,
        scripts: Live<ScriptWriter>,
        events: EventStream,
        asks: mpsc::Sender<Ask>,
        switch: Switch,
    ) -> Self {
        let rules = Rules::from(&**scripts.get().planner().config());
        let (heard, hears) = mpsc::channel(MOST_HEARD);
        Self {
            registry,
            store,
            machines,
            scripts,
            rules,
            events,
            asks,
            turned_away: 0,
            asker: OPERATOR.into(),
            times: TimesInState::default(),
            switch,
            readings: Readings::default(),
            heard,
            hears,
            progress: HashMap::new(),
            told: conflicts::Told::default(),
            followers: Followers::default(),
        }
    }

    /// Another configuration: what it has goes before the registry, and what it has no longer is the registry's again.
    pub(super) async fn follow_configuration(&mut self) {
        let config = self.config();
        self.rules = Rules::from(&*config);
        self.switch.follow(&config.bmc);
        let names = Names::of(&config);
        let ids: Vec<u64> = self.registry.after(0).map(|entry| entry.record.id).collect();
        for id in ids {
            let Some(entry) = self.registry.get(id).cloned() else { continue };
            let is_served = served(&entry.place).is_some_and(|id| self.machines.get(id).is_some());
            let mut entry = entry;
            let checked = entry.record.machine(&config);
            if let Ok(machine) = &checked
                && let Some(why) = names.taken(machine)
            {
                self.serve_no_longer(&entry.place).await;
                entry.place = Place::Shadowed(why);
                self.tell_shadowed(entry.machine.macs.first().copied(), &entry.record, &entry.place);
                self.registry.put(entry, &self.rules);
                continue;
            }
            match checked {
                Ok(machine) if !is_served || machine != *entry.machine => {
                    entry.machine = Arc::new(machine);
                    let before = served(&entry.place).filter(|_| is_served);
                    entry.place = self.serve(before, &entry.machine, &entry.record).await;
                    self.tell_shadowed(entry.machine.macs.first().copied(), &entry.record, &entry.place);
                }
                Ok(_) => {}
                // It is served as it was.
                Err(wrong) if is_served => {
                    warn!(
                        "{} of the registry does not fit the configuration: {}",
                        entry.record.called(),
                        wrong.join("; ")
                    );
                }
                Err(wrong) => entry.place = Place::Shadowed(wrong.join("; ")),
            }
            self.registry.put(entry, &self.rules);
        }
        if let Err(error) = self.accept_all_by_rule().await {
            self.complain(&format!("{error}: machines are accepted by their rules when they ask again"));
        }
        // What waits for something else now is stored a thousand at a time.
        let ids: Vec<u64> = self.registry.after(0).map(|entry| entry.record.id).collect();
        if let Err(error) = self.pass_time(ids).await {
            self.complain(&format!("{error}: the states of machines are looked at again in a second"));
        }
        self.plan_readings();
        self.followers.note_reload();
    }
}
