//! Who keeps the registry of machines: what is asked of it, what is seen of machines, and time.
//!
//! It works beside the thread of the packets. A change is stored first, then handed to that thread, which changes its
//! tables in microseconds, and only then it is answered: what somebody was told is there after a crash.

mod agent;
mod bulk;
mod changes;
mod configured;
mod conflicts;
mod expected;
mod followers;
mod load;
mod power;
mod seen;
mod take_over;
#[cfg(test)]
mod tests;
mod unreadable;
mod unserved;

pub(super) use load::load;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use boot_agent_protocol::Progress;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use self::power::{Heard, Readings};
use super::request::{Ask, Census, EventStream, Page, Reader, RegistryAsk, RegistryError, View};
use crate::host::clock;
use crate::host::link;
use crate::host::live::Live;
use crate::http::Readiness;
use crate::power::Switch;
use crate::store::Store;
use boot_engine::boot::script::ScriptWriter;
use boot_engine::config::{Arch, Config, Machine, Unknown};
use boot_engine::lifecycle::{Rules, State, Stepped, TimesInState};
use boot_engine::machines::Machines;
use boot_engine::registry::{Entry, Place, Query, Record, Registry};
use ipnet::Ipv4Net;

/// How many records are looked at in a second because it is time.
const MOST_DUE: usize = 1000;
/// How many machines a page has at most.
const LONGEST_PAGE: usize = 1000;
/// Behind the machines of the configuration come those of the registry.
const BEHIND_FILES: u64 = 1 << 52;
/// Who changes a machine that nobody has ordered anything of.
const SELF: &str = "xpxe";
/// Who is behind an order through the socket; through the API the token's name follows.
const OPERATOR: &str = "operator";
/// How much of what BMCs have said may wait.
const MOST_HEARD: usize = 1024;

/// Keeps the registry.
pub(super) struct Keeper {
    registry: Registry,
    /// What stands for the records that cannot be read.
    unreadable: Registry,
    store: Store,
    machines: Machines,
    /// The configuration that is served.
    scripts: Live<ScriptWriter>,
    rules: Rules,
    events: EventStream,
    /// Who has the tables.
    asks: mpsc::Sender<Ask>,
    turned_away: u64,
    /// In whose name the change is made that is under way.
    asker: Arc<str>,
    /// How long machines were in the states that they have left since the start.
    times: TimesInState,
    /// Who switches machines.
    switch: Switch,
    /// When which BMC is asked next.
    readings: Readings,
    /// Where it goes what BMCs say.
    heard: mpsc::Sender<Heard>,
    hears: mpsc::Receiver<Heard>,
    /// How far the agent is on which machine, and in which state the machine was then, since when.
    progress: HashMap<u64, ((State, u64), Progress)>,
    /// What was told of machines that have something in common.
    told: conflicts::Told,
    /// Who waits for changes.
    followers: followers::Followers,
    /// Where it stands that machines are not served.
    readiness: Readiness,
    /// The addresses of this host, each with its interface, as of the last second.
    own: Vec<(String, Ipv4Net)>,
}

impl Keeper {
    /// Keeps until nobody can ask any more.
    pub(super) async fn run(mut self, mut asks: mpsc::Receiver<RegistryAsk>) {
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // Who reads events has each of them looked up: only where there is something to look for.
        let mut reader = None;
        self.end_old_commands().await;
        self.plan_readings();
        loop {
            if reader.is_none() && self.has_to_look() {
                reader = Some(self.events.read());
            }
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(RegistryAsk::By(by, ask)) => {
                        self.asker = by;
                        self.answer(*ask).await;
                    }
                    Some(ask) => {
                        let is_seen = matches!(ask, RegistryAsk::Inventory(..) | RegistryAsk::Observed(..));
                        self.asker = if is_seen { SELF } else { OPERATOR }.into();
                        self.answer(ask).await;
                    }
                    None => return,
                },
                Some(event) = next(&mut reader) => self.see(&event).await,
                Some(heard) = self.hears.recv() => self.hear(heard).await,
                _ = second.tick() => {
                    self.own = link::addresses().unwrap_or_default();
                    self.look_at_due().await;
                    self.ask_due();
                    self.note_unserved();
                    self.followers.tell_progress();
                }
            }
            self.tell_followers();
        }
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(self.scripts.get().planner().config())
    }

    fn discovers(&self) -> bool {
        self.config().default.unknown == Unknown::Discover
    }

    fn has_to_look(&self) -> bool {
        !self.registry.is_empty() || self.discovers()
    }

    async fn answer(&mut self, ask: RegistryAsk) {
        // Who has hung up wants no answer; what was asked for is done all the same.
        match ask {
            RegistryAsk::List(query, reply) => drop(reply.send(Ok(self.list(&query)))),
            RegistryAsk::Changes(wanted, reply) => self.follow(wanted, reply),
            RegistryAsk::Show(which, reply) => drop(reply.send(self.show(&which))),
            RegistryAsk::Create(spec, reply) => drop(reply.send(self.create(spec).await)),
            RegistryAsk::Import(items, dry_run, reply) => drop(reply.send(self.import(items, dry_run).await)),
            RegistryAsk::Put(which, version, spec, reply) => {
                drop(reply.send(self.put_spec(&which, version, spec).await));
            }
            RegistryAsk::Delete(which, version, reply) => {
                drop(reply.send(self.delete(&which, version).await));
            }
            RegistryAsk::Order(which, version, order, reply) => {
                drop(reply.send(self.order(&which, version, &order).await));
            }
            RegistryAsk::Power(which, asked, reply) => self.power(&which, asked, reply).await,
            RegistryAsk::Password(which, version, password, reply) => {
                drop(reply.send(self.put_password(&which, version, password).await));
            }
            RegistryAsk::Observed(id, observed, reply) => {
                drop(reply.send(self.observe(id, observed, SELF).await));
            }
            RegistryAsk::Inventory(id, inventory, reply) => {
                drop(reply.send(self.take_inventory(id, *inventory).await));
            }
            RegistryAsk::Progress(id, progress) => self.note_progress(id, progress),
            RegistryAsk::Serial(mac, serial, reply) => {
                self.hear_serial(mac, &serial).await;
                reply.send(()).ok();
            }
            RegistryAsk::Sighted(mac, uuid) => self.sight(mac, uuid, Asking::default()).await,
            RegistryAsk::Reloaded(reply) => {
                let not_served = self.follow_configuration().await;
                reply.send(not_served).ok();
            }
            RegistryAsk::Count(reply) => drop(reply.send(Ok(self.count()))),
            // There is one name for one question.
            RegistryAsk::By(..) => {}
        }
    }

    fn list(&self, query: &Query) -> Page {
        let most = if query.limit == 0 { LONGEST_PAGE } else { query.limit.min(LONGEST_PAGE) };
        let mut page = Page { revision: self.registry.last_change(), ..Page::default() };
        let config = self.config();
        let of_files = if query.states.is_empty() { &config.machines[..] } else { &[] };
        let first = usize::try_from(query.after).unwrap_or(usize::MAX);
        for (position, machine) in (1..).zip(of_files).skip(first) {
            if !query.fits_labels(&machine.labels) {
                continue;
            }
            page.machines.push(View::Configured(Arc::clone(machine)));
            if page.machines.len() == most {
                page.next = Some(position);
                return page;
            }
        }
        let behind = query.after.saturating_sub(BEHIND_FILES);
        let mut entries: Vec<&Entry> = Vec::new();
        for registry in [&self.registry, &self.unreadable] {
            entries.extend(registry.after(behind).filter(|entry| query.fits(&entry.record)).take(most + 1));
        }
        entries.sort_by_key(|entry| entry.record.id);
        for entry in entries {
            if page.machines.len() == most {
                return page;
            }
            page.next = Some(BEHIND_FILES.saturating_add(entry.record.id));
            page.machines.push(self.view(entry));
        }
        page.next = None;
        page
    }

    fn show(&self, which: &str) -> Result<View, RegistryError> {
        match self.find(which) {
            Ok(entry) => Ok(self.view(entry)),
            Err(RegistryError::Configured(_)) => {
                let found = self.configured_machine(which);
                found.map(View::Configured).ok_or_else(|| RegistryError::Unknown(which.to_owned()))
            }
            Err(error) => self.find_unreadable(which).map(|entry| self.view(entry)).ok_or(error),
        }
    }

    fn view(&self, entry: &Entry) -> View {
        let shadowed = entry.place.unserved().map(str::to_owned);
        let limit = self.rules.limits.get(&entry.record.status.state).copied();
        let progress = self.progress_of(&entry.record);
        let (record, machine) = (Arc::clone(&entry.record), Arc::clone(&entry.machine));
        View::Registered { record, machine, shadowed, limit, progress }
    }

    fn count(&self) -> Census {
        Census {
            states: self.registry.counts(),
            overdue: self.registry.count_overdue(),
            shadowed: self.count_unserved(),
            nowhere: self.registry.unserved().chain(self.unreadable.all()).filter_map(of_nowhere).collect(),
            configured: self.config().machines.len(),
            turned_away: self.turned_away,
            database: self.store.remote(),
            power: self.switch.counts(),
            times: self.times.clone(),
        }
    }

    /// Says what could not be stored. While PostgreSQL is away, that it is was said once.
    fn complain(&self, what: &str) {
        match self.store.away() {
            None => warn!("{what}"),
            Some(_) => debug!("{what}"),
        }
    }

    /// Looks at machines whose time has come.
    async fn look_at_due(&mut self) {
        let due = self.registry.due(clock::wall().as_secs(), MOST_DUE);
        if let Err(error) = self.pass_time(due).await {
            self.complain(&format!("{error}: the states of machines are looked at again in a second"));
        }
    }
}

/// The next event; never, where nobody reads them.
async fn next(reader: &mut Option<Reader>) -> Option<Arc<boot_engine::events::BootEvent>> {
    match reader {
        Some(reader) => reader.next().await,
        None => std::future::pending().await,
    }
}

/// The machine of a record of which nothing is left among the machines.
fn of_nowhere(entry: &Entry) -> Option<Arc<Machine>> {
    matches!(entry.place, Place::Shadowed(_)).then(|| Arc::clone(&entry.machine))
}

/// Where and as what a machine has asked, as far as it was heard.
#[derive(Clone, Copy, Debug, Default)]
struct Asking {
    address: Option<Ipv4Addr>,
    arch: Option<Arch>,
}

/// A change that is to be stored.
#[derive(Debug)]
struct Changed {
    record: Record,
    /// What the record is served as.
    machine: Arc<Machine>,
    stepped: Stepped,
    /// Who changes it.
    by: String,
}

/// Whether a person has done it, and neither xpxe nor a rule.
fn is_person(by: &str) -> bool {
    by.strip_prefix(OPERATOR).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// A record that was changed by people, or by a rule.
fn changed_by_people(record: &Record) -> Record {
    Record { version: record.version + 1, ..record.clone() }
}
