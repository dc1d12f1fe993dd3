//! The registry as the store has it, at a start and after a reload.

use std::collections::HashMap;

use tokio::sync::mpsc;
use tracing::warn;

use super::conflicts;
use super::followers::Followers;
use super::power::Readings;
use super::unreadable::stand_in;
use super::unserved::{Names, serve_at_start, wait_at_start};
use super::{Keeper, MOST_HEARD, OPERATOR};
use crate::daemon::request::{Ask, EventStream};
use crate::host::link;
use crate::host::live::Live;
use crate::http::Readiness;
use crate::power::Switch;
use crate::store::{Store, StoreError, machine_number};
use boot_engine::boot::script::ScriptWriter;
use boot_engine::config::Config;
use boot_engine::lifecycle::{Rules, TimesInState};
use boot_engine::machines::Machines;
use boot_engine::registry::{Deleted, Entry, MOST_DELETED, Registry};

/// What was read at a start.
pub(in crate::daemon) struct Records {
    registry: Registry,
    unreadable: Registry,
}

/// Reads the registry, and adds its machines to those of the configuration. What is in both is the configuration's; a machine
/// whose record is not served waits.
///
/// # Errors
/// The store cannot be read.
pub(in crate::daemon) async fn load(
    store: &Store,
    machines: &Machines,
    config: &Config,
) -> Result<Records, StoreError> {
    let rules = Rules::from(config);
    let (mut registry, names) = (Registry::default(), Names::of(config));
    let (mut unserved, mut unreadable) = (Vec::new(), Vec::new());
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
            Err(row) => {
                let number = machine_number(id);
                // Behind one that no row has, no number would be left.
                if id > 0 {
                    registry.note_id(number);
                }
                unreadable.push((number, row));
                continue;
            }
        };
        match serve_at_start(&record, &registry, machines, config, &names) {
            Ok((machine, place)) => {
                registry.put(Entry { record: record.into(), machine, place }, &rules);
            }
            Err(why) => unserved.push((record, why)),
        }
    }
    // Whatever of theirs is another machine's by now is that one's.
    for (record, why) in unserved {
        warn!("{} of the registry is not served: {why}", record.called());
        let (machine, place) = wait_at_start(&record, why, machines, config, &names);
        registry.put(Entry { record: record.into(), machine, place }, &rules);
    }
    let mut stands_in = Registry::default();
    for (id, row) in unreadable {
        stands_in.put(stand_in(id, row, machines, config, &names), &rules);
    }
    Ok(Records { registry, unreadable: stands_in })
}

impl Keeper {
    /// Keeps what was read.
    pub(in crate::daemon) fn new(
        Records { registry, unreadable }: Records,
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
            unreadable,
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
            readiness: Readiness::default(),
            own: link::addresses().unwrap_or_default(),
        }
    }

    /// Has `/readyz` say that machines are not served.
    pub(in crate::daemon) fn with_readiness(self, readiness: Readiness) -> Self {
        Self { readiness, ..self }
    }

    /// Another configuration: what it has goes before the registry, and what it has no longer is the registry's again. Gives
    /// the machines that are not served any more.
    pub(super) async fn follow_configuration(&mut self) -> Vec<String> {
        let config = self.config();
        self.rules = Rules::from(&*config);
        self.switch.follow(&config.bmc);
        let not_served = self.place_all().await;
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
        self.note_unserved();
        not_served
    }
}
