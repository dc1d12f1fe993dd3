//! What changes a record: it is stored first, then served, then answered.

use std::sync::Arc;

use boot_common::Mac;
use tokio::sync::oneshot;

use super::{Asking, Changed, Keeper, SELF, changed_by_people, is_person};
use crate::daemon::misfits::own_address;
use crate::daemon::request::{Ask, RegistryError, View};
use crate::host::clock;
use boot_engine::config::{Machine, parse_uuid};
use boot_engine::events::{self, BootEvent, By, Sink as _, Step};
use boot_engine::lifecycle::{Intent, Observed, Order, Power, State, Status, Stepped};
use boot_engine::machines::{ChangeError, Known, Life, MachineId};
use boot_engine::registry::{Deleted, Entry, Place, Record, Spec};

/// How many differences between two inventories are told.
const MOST_DIFFERENCES: usize = 16;

impl Keeper {
    /// See [`Keeper::find`].
    pub(super) fn find_readable(&self, which: &str) -> Result<&Entry, RegistryError> {
        let unknown = || RegistryError::Unknown(which.to_owned());
        // A number alone may be another machine's name; no name has a colon.
        if let Some(id) = which.strip_prefix("id:") {
            return id.parse().ok().and_then(|id| self.registry.get(id)).ok_or_else(unknown);
        }
        if let Some(serial) = which.strip_prefix("serial:") {
            return self.registry.with_serial(serial).ok_or_else(unknown);
        }
        if let Some(entry) = self.registry.named(which) {
            return Ok(entry);
        }
        match self.known(which) {
            Some(Known { life: Some(life), .. }) => self.registry.get(life.record).ok_or_else(unknown),
            Some(_) => Err(RegistryError::Configured(which.to_owned())),
            None if self.configured_machine(which).is_some() => {
                Err(RegistryError::Configured(which.to_owned()))
            }
            None => which.parse().ok().and_then(|id| self.registry.get(id)).ok_or_else(unknown),
        }
    }

    pub(super) fn known(&self, which: &str) -> Option<Known> {
        if let Ok(mac) = which.parse::<Mac>() {
            return self.machines.by_mac(mac);
        }
        let uuid = parse_uuid(which).ok()?;
        self.machines.asker([0, 0, 0, 0].into(), None, Some(uuid)).known
    }

    /// A machine of the configuration.
    pub(super) fn configured_machine(&self, which: &str) -> Option<Arc<Machine>> {
        if let Some(known) = self.known(which) {
            return known.life.is_none().then_some(known.machine);
        }
        let is_named = |machine: &&Arc<Machine>| {
            machine.name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(which))
        };
        self.config().machines.iter().find(is_named).cloned()
    }

    pub(super) async fn create(&mut self, spec: Spec) -> Result<View, RegistryError> {
        let changed = self.newcomer(spec)?;
        let id = changed.record.id;
        let view = self.commit_one(changed).await?;
        let Some(serial) = self.serial_of(id) else { return Ok(view) };
        self.join_reported(&serial).await;
        Ok(self.registry.get(id).map_or(view, |entry| self.view(entry)))
    }

    fn serial_of(&self, id: u64) -> Option<String> {
        self.registry.get(id)?.record.spec.serial.clone()
    }

    /// A machine that somebody adds.
    pub(super) fn newcomer(&mut self, spec: Spec) -> Result<Changed, RegistryError> {
        let another_name = self.another_name(&spec);
        let status = Status::new(State::Discovered, "somebody has added it".to_owned(), now());
        let record = Record {
            id: self.registry.take_id(clock::wall()),
            version: 1,
            revision: 0,
            spec,
            intent: Intent::default(),
            status,
            bmc_password: None,
            inventory: None,
        };
        let added = self.accepted_by_rule(record, Asking::default());
        added.map_err(|error| match (error, another_name) {
            (RegistryError::Conflict(why), Some(another)) => {
                RegistryError::Conflict(format!("{why}; if it is that machine, {another}"))
            }
            (error, _) => error,
        })
    }

    /// How a machine gets its name that is there by another one, or by none.
    fn another_name(&self, spec: &Spec) -> Option<String> {
        let name = spec.name.as_ref()?;
        if !matches!(self.find(name), Err(RegistryError::Unknown(_))) {
            return None;
        }
        let serial = spec.serial.iter().map(|serial| format!("serial:{serial}"));
        let mut marks = spec.mac.iter().chain(&spec.uuid).cloned().chain(serial);
        let known = marks.find_map(|mark| self.find(&mark).ok())?.record.called();
        Some(format!("give it that name: xpxe machines set {known} --name {name}"))
    }

    /// Adds the record of a machine that was heard, and accepts it if a rule says so.
    pub(super) async fn register(
        &mut self,
        mut record: Record,
        asking: Asking,
    ) -> Result<View, RegistryError> {
        record.status.heard = now();
        let changed = self.accepted_by_rule(record, asking)?;
        self.commit_one(changed).await
    }

    fn accepted_by_rule(&self, mut record: Record, asking: Asking) -> Result<Changed, RegistryError> {
        let machine = self.check(&record, None)?;
        let mut by = SELF.to_owned();
        if let Some(rule) = self.accepting_rule(&machine, asking) {
            record.intent = record.intent.after(&Order::Accept, &record.status)?;
            by = rule;
        }
        let (record, stepped) = self.stepped(record, &by);
        Ok(Changed { record, machine, stepped, by })
    }

    pub(super) async fn put_spec(
        &mut self,
        which: &str,
        version: Option<u64>,
        spec: Spec,
    ) -> Result<View, RegistryError> {
        let entry = self.current(which, version)?.clone();
        let id = entry.record.id;
        let others = self.unwritten(id, &spec);
        let in_use =
            others.iter().find(|other| !is_only_discovered(other)).map(|other| other.record.called());
        let view = if others.is_empty() || in_use.is_some() {
            let changed = self.respecified(&entry, spec).map_err(|error| match (error, in_use) {
                (RegistryError::Conflict(why), Some(other)) => {
                    let how = format!("if that is this machine, first run xpxe machines delete {other}");
                    RegistryError::Conflict(format!("{why}; {how}"))
                }
                (error, _) => error,
            });
            let Some(changed) = changed? else { return Ok(self.view(&entry)) };
            self.commit_one(changed).await?
        } else {
            self.take_over(&entry, spec, others).await?
        };
        if let Some(serial) = self.serial_of(id) {
            self.join_reported(&serial).await;
        }
        self.accept_by_rule(id, Asking::default()).await;
        Ok(self.registry.get(id).map_or(view, |entry| self.view(entry)))
    }

    /// A record with another spec; nothing if it has that.
    pub(super) fn respecified(&self, entry: &Entry, spec: Spec) -> Result<Option<Changed>, RegistryError> {
        if entry.record.spec == spec {
            return Ok(None);
        }
        let record = rewritten(&entry.record, spec);
        let machine = self.check(&record, served(&entry.place))?;
        Ok(Some(self.changed_by_asker(record, machine)))
    }

    pub(super) fn changed_by_asker(&self, record: Record, machine: Arc<Machine>) -> Changed {
        Changed { record, machine, stepped: Stepped::default(), by: self.asker.to_string() }
    }

    pub(super) async fn order(
        &mut self,
        which: &str,
        version: Option<u64>,
        order: &Order,
    ) -> Result<View, RegistryError> {
        let by = Arc::clone(&self.asker);
        self.order_by(which, version, order, &by).await
    }

    /// The same in the name of a rule.
    pub(super) async fn order_by(
        &mut self,
        which: &str,
        version: Option<u64>,
        order: &Order,
        by: &str,
    ) -> Result<View, RegistryError> {
        let entry = self.current(which, version)?;
        let intent = entry.record.intent.after(order, &entry.record.status)?;
        if intent == entry.record.intent {
            return Ok(self.view(entry));
        }
        let machine = Arc::clone(&entry.machine);
        let record = Record { intent, ..changed_by_people(&entry.record) };
        let (record, stepped) = self.stepped(record, by);
        self.commit(record, machine, &stepped, by).await
    }

    pub(super) async fn delete(&mut self, which: &str, version: Option<u64>) -> Result<View, RegistryError> {
        let entry = match self.current(which, version).cloned() {
            Err(error @ RegistryError::Unreadable { .. }) => {
                self.find_unreadable(which).cloned().ok_or(error)?
            }
            found => found?,
        };
        self.remove(entry.record.id).await?;
        self.serve_no_longer(&entry.place).await;
        Ok(self.view(&entry))
    }

    /// Removes a record. What it was served as is still there.
    pub(super) async fn remove(&mut self, id: u64) -> Result<(), RegistryError> {
        let revision = self.registry.next_revision();
        self.registry.note_revision(revision);
        self.store.change_machines(&[], &[(id, revision)]).await?;
        self.forget(id, revision);
        self.note_unserved();
        Ok(())
    }

    /// A record was removed from the store.
    pub(super) fn forget(&mut self, id: u64, revision: u64) {
        let removed = self.registry.remove(id).or_else(|| self.unreadable.remove(id));
        let called = removed.map(|entry| entry.record.called());
        self.registry.note_deleted(revision, Deleted { id, called });
        self.readings.forget(id);
        self.progress.remove(&id);
        self.followers.forget_progress(id);
    }

    /// Has a machine that is served be an unknown one.
    pub(super) async fn serve_no_longer(&self, place: &Place) {
        let Some(machine) = served(place) else { return };
        let (reply, done) = oneshot::channel();
        if self.asks.send(Ask::RemoveMachine(machine, reply)).await.is_ok() {
            drop(done.await);
        }
    }

    /// Takes down what was seen of a machine. What changes nothing costs nothing.
    pub(super) async fn observe(
        &mut self,
        id: u64,
        observed: Observed,
        by: &str,
    ) -> Result<(), RegistryError> {
        let Some(entry) = self.registry.get(id) else {
            return Err(self.not_taken_down(id));
        };
        let Some((record, stepped)) = entry.record.observe(&self.rules, observed, by, now()) else {
            return Ok(());
        };
        let machine = Arc::clone(&entry.machine);
        self.commit(record, machine, &stepped, by).await.map(drop)
    }

    pub(super) fn current(&self, which: &str, version: Option<u64>) -> Result<&Entry, RegistryError> {
        let entry = self.find(which)?;
        match version {
            Some(version) if version != entry.record.version => {
                Err(RegistryError::Outdated(Arc::clone(&entry.record)))
            }
            _ => Ok(entry),
        }
    }

    /// The machine of a record, if it may be there.
    pub(super) fn check(
        &self,
        record: &Record,
        own: Option<MachineId>,
    ) -> Result<Arc<Machine>, RegistryError> {
        let machine = self.checked(record, &[])?;
        self.is_free(&machine, own)?;
        Ok(Arc::new(machine))
    }

    /// The machine of a record, as far as what is written of others has to do with it. The records `gone` are to be removed.
    pub(super) fn checked(&self, record: &Record, gone: &[u64]) -> Result<Machine, RegistryError> {
        let machine = record.machine(&self.config()).map_err(RegistryError::Invalid)?;
        if let Some(name) = &machine.name {
            let other = self.registry.named(name).filter(|other| other.record.id != record.id);
            let in_file = self
                .config()
                .machines
                .iter()
                .any(|other| other.name.as_ref().is_some_and(|other| other.eq_ignore_ascii_case(name)));
            if other.is_some() || in_file {
                return Err(RegistryError::Conflict(format!("there is a machine {name} already")));
            }
        }
        if let Some(why) = own_address(&machine, &self.own) {
            return Err(RegistryError::Invalid(vec![why]));
        }
        self.serial_taken(record, gone)?;
        self.is_of_no_unreadable(record)?;
        Ok(machine)
    }

    /// Whether no other machine that is served has something of a machine's.
    pub(super) fn is_free(&self, machine: &Machine, own: Option<MachineId>) -> Result<(), RegistryError> {
        let free = self.machines.check(machine, own);
        free.map_err(|conflict| RegistryError::Conflict(conflict.to_string()))
    }

    pub(super) fn stepped(&self, record: Record, by: &str) -> (Record, Stepped) {
        record.observe(&self.rules, Observed::Time, by, now()).unwrap_or((record, Stepped::default()))
    }

    /// Stores a record, has it served, and tells what has become of it.
    pub(super) async fn commit(
        &mut self,
        record: Record,
        machine: Arc<Machine>,
        stepped: &Stepped,
        by: &str,
    ) -> Result<View, RegistryError> {
        let (stepped, by) = (stepped.clone(), by.to_owned());
        self.commit_one(Changed { record, machine, stepped, by }).await
    }

    async fn commit_one(&mut self, changed: Changed) -> Result<View, RegistryError> {
        self.commit_all(vec![changed]).await?.pop().ok_or(RegistryError::Stopping)
    }

    /// Has a machine served as its record says.
    pub(super) async fn serve(
        &self,
        id: Option<MachineId>,
        machine: &Arc<Machine>,
        record: &Record,
    ) -> Place {
        if !is_readable(machine) {
            return Place::Shadowed("what is written of it cannot be read: write it anew".to_owned());
        }
        match self.put_alive(id, machine, record.life()).await {
            Ok(id) => Place::Served(id),
            Err(why) => Place::Shadowed(why),
        }
    }

    /// Has the machine of a record among all machines, or says why not.
    pub(super) async fn put_alive(
        &self,
        id: Option<MachineId>,
        machine: &Arc<Machine>,
        life: Life,
    ) -> Result<MachineId, String> {
        let mut id = id;
        loop {
            let (reply, done) = oneshot::channel();
            let ask = Ask::PutMachine { id, machine: Arc::clone(machine), life: life.clone(), reply };
            if self.asks.send(ask).await.is_err() {
                return Err("xpxe is stopping".to_owned());
            }
            return match done.await {
                Ok(Ok(id)) => Ok(id),
                Ok(Err(ChangeError::Gone)) if id.is_some() => {
                    id = None;
                    continue;
                }
                Ok(Err(why)) => Err(why.to_string()),
                Err(_) => Err("xpxe is stopping".to_owned()),
            };
        }
    }

    pub(super) fn tell(&self, entry: &Entry, stepped: &Stepped, by: &str) {
        let record = &entry.record;
        let by_operator = is_person(by);
        let event = |step: Step| {
            let event = event_of(entry, step);
            BootEvent { by: if by_operator { By::Operator } else { By::DAEMON }, ..event }
        };
        for past in &stepped.changes {
            self.events.emit(event(Step::BecameState(Box::new(past.clone()))));
        }
        if !stepped.differences.is_empty() {
            let differences = stepped.differences.iter().take(MOST_DIFFERENCES).cloned();
            self.events.emit(event(Step::InventoryChanged(differences.collect())));
        }
        if stepped.is_overdue {
            let state = record.status.state;
            let limit = self.rules.limits.get(&state).copied().unwrap_or(0);
            let waits = record.status.waits.clone();
            self.events.emit(event(Step::Overdue { state, limit, waits: waits.into() }));
        }
    }
}

/// Whether nobody has decided about a machine.
pub(super) fn is_only_discovered(entry: &Entry) -> bool {
    entry.record.status.state == State::Discovered
}

/// A record with another spec.
pub(super) fn rewritten(before: &Record, spec: Spec) -> Record {
    let mut record = Record { spec, ..changed_by_people(before) };
    if record.spec.bmc != before.spec.bmc {
        // Nothing is known of it but what is still due.
        record.status.power = Power { boot: record.status.power.boot, ..Power::default() };
    }
    // A password goes to the BMC that it was set for, not to where somebody says that it is now.
    let asked_of = |spec: &Spec| {
        spec.bmc.clone().map(|bmc| (bmc.address, bmc.mac, bmc.driver, bmc.certificate, bmc.insecure))
    };
    let is_at_home = asked_of(&record.spec).is_some_and(|place| Some(place) == asked_of(&before.spec));
    record.bmc_password = record.bmc_password.filter(|_| is_at_home);
    record
}

/// What has happened to a machine of the registry.
pub(super) fn event_of(Entry { record, machine, .. }: &Entry, step: Step) -> BootEvent {
    let event = BootEvent::new(clock::boot(), step);
    if let Some(mac) = machine.macs.first().copied() {
        return event.of(events::Machine { mac, name: record.spec.name.as_deref().map(Into::into) });
    }
    let called = record.called().into();
    let without_mac = events::WithoutMac { record: record.id, called, machine: Arc::clone(machine) };
    BootEvent { without_mac: Some(Arc::new(without_mac)), ..event }
}

/// Whether something tells it from others: if not, what is written of it could not be read.
pub(super) fn is_readable(machine: &Machine) -> bool {
    let is_known = machine.uuid.is_some() || machine.serial.is_some() || machine.relay_port.is_some();
    is_known || !machine.macs.is_empty()
}

/// What a record is served as.
pub(super) fn served(place: &Place) -> Option<MachineId> {
    match place {
        Place::Served(id) | Place::Waits(id, _) => Some(*id),
        Place::Shadowed(_) => None,
    }
}

pub(super) fn now() -> u64 {
    clock::wall().as_secs()
}
