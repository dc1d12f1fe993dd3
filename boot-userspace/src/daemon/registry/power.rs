//! What BMCs are asked and told, and when. All of it is done beside the registry, which hears of each end.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::changes::{event_of, now};
use super::{Keeper, SELF, changed_by_people, is_person};
use crate::daemon::request::{PowerAsk, Powered, RegistryError, Reply, View};
use crate::host::link;
use crate::host::secret::Secret;
use crate::power::{Boot, Reading, Target, VaultError, WakeFrom};
use boot_engine::config::{Config, Machine};
use boot_engine::events::{BootEvent, By, Sink as _, Step};
use boot_engine::lifecycle::{Act, Blindness, Done, Observed, Stepped};
use boot_engine::registry::{Entry, Record};

/// How many BMCs are asked at a time whether their machines are on; how many of those are really asked says `[bmc]`.
const MOST_ASKED: usize = 256;

/// What has become of something that was asked of a BMC: it is the record with this number's.
pub(super) type Heard = (u64, Heading);

/// What was heard.
#[derive(Debug)]
pub(super) enum Heading {
    /// A reading, and when it began.
    Reading(Result<Reading, String>, u64),
    /// The end of the command of that time.
    Answer(u64, Result<(), String>),
}

/// When which BMC is asked next.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// Unix seconds with the numbers of records.
    due: BTreeSet<(u64, u64)>,
    at: HashMap<u64, u64>,
    under_way: HashSet<u64>,
}

impl Readings {
    /// A machine with a BMC is to be asked by then at the latest.
    pub(super) fn by(&mut self, id: u64, when: u64) {
        let sooner = self.at.get(&id).is_some_and(|at| *at <= when);
        if !sooner && !self.under_way.contains(&id) {
            self.forget(id);
            self.due.insert((when, id));
            self.at.insert(id, when);
        }
    }

    /// It has no BMC any more, or is gone.
    pub(super) fn forget(&mut self, id: u64) {
        if let Some(at) = self.at.remove(&id) {
            self.due.remove(&(at, id));
        }
    }

    /// The next one that is to be asked now.
    fn begin(&mut self, now: u64) -> Option<u64> {
        let (at, id) = self.due.first().copied()?;
        if at > now || self.under_way.len() >= MOST_ASKED {
            return None;
        }
        self.forget(id);
        self.under_way.insert(id);
        Some(id)
    }
}

impl Keeper {
    /// Plans when a machine's BMC is asked next.
    pub(super) fn plan_reading(&mut self, id: u64) {
        let Some(Entry { record, machine, .. }) = self.registry.get(id) else {
            return self.readings.forget(id);
        };
        if machine.bmc.is_none() {
            return self.readings.forget(id);
        }
        let power = &record.status.power;
        // At once, where nobody has asked yet.
        let known = power.read.is_some() || power.blind.is_some() || power.last.is_some();
        let after = if known { power.asks_after(record.status.state, self.rules.poll) } else { 0 };
        self.readings.by(id, now() + after);
    }

    /// Plans for all machines: at a start, and after a reload.
    pub(super) fn plan_readings(&mut self) {
        let ids: Vec<u64> = self.registry.after(0).map(|entry| entry.record.id).collect();
        ids.into_iter().for_each(|id| self.plan_reading(id));
        self.tell_unchecked();
    }

    /// Says whose BMCs may be anybody.
    fn tell_unchecked(&self) {
        let config = self.config();
        let is_unchecked = |machine: &Machine| {
            let bmc = machine.bmc.as_ref().map(|bmc| bmc.or(&config.bmc.all));
            bmc.is_some_and(|bmc| bmc.insecure == Some(true) && bmc.certificate.is_none())
        };
        let of_registry = self.registry.after(0).filter(|entry| is_unchecked(&entry.machine)).count();
        let count = of_registry + config.machines.iter().filter(|machine| is_unchecked(machine)).count();
        if count > 0 {
            tracing::warn!(
                count,
                "{count} BMCs may show any certificate (insecure = true): who can answer in their place gets their passwords; write certificate = \"sha256:…\" into bmc of each machine"
            );
        }
    }

    /// Nobody knows what became of the commands that were under way when xpxe ended.
    pub(super) async fn end_old_commands(&mut self) {
        let is_open = |entry: &&Entry| matches!(entry.record.status.power.last, Some(Done { end: None, .. }));
        let open = |entry: &Entry| Some((entry.record.id, entry.record.status.power.last.as_ref()?.at));
        let open: Vec<(u64, u64)> = self.registry.after(0).filter(is_open).filter_map(open).collect();
        for (id, at) in open {
            self.hear((id, Heading::Answer(at, Err("xpxe ended before its BMC had answered".to_owned()))))
                .await;
        }
    }

    /// Asks the BMCs that are due.
    pub(super) fn ask_due(&mut self) {
        while let Some(id) = self.readings.begin(now()) {
            let Some(target) = self.registry.get(id).and_then(|entry| self.target(entry)) else {
                self.readings.under_way.remove(&id);
                continue;
            };
            let (switch, heard, at) = (self.switch.clone(), self.heard.clone(), now());
            tokio::spawn(async move {
                let read = switch.read(&target).await.map_err(|trouble| trouble.to_string());
                drop(heard.send((id, Heading::Reading(read, at))).await);
            });
        }
    }

    /// Takes down what a BMC has said.
    pub(super) async fn hear(&mut self, (id, heading): Heard) {
        let by = self.registry.get(id).and_then(|entry| entry.record.status.power.last.clone());
        let by = by.map_or_else(|| SELF.to_owned(), |done| done.by);
        let (observed, by) = match heading {
            Heading::Reading(read, at) => {
                self.readings.under_way.remove(&id);
                match read {
                    Ok(Reading::On) => (Some(Observed::Power { on: true, at }), SELF.to_owned()),
                    Ok(Reading::Off) => (Some(Observed::Power { on: false, at }), SELF.to_owned()),
                    Ok(Reading::CannotTell) => {
                        (Some(Observed::Blind(Blindness::CannotTell)), SELF.to_owned())
                    }
                    Ok(Reading::Changing) => (None, SELF.to_owned()),
                    Err(why) => (Some(Observed::Blind(Blindness::Failed(why))), SELF.to_owned()),
                }
            }
            Heading::Answer(at, end) => (Some(Observed::Answer { at, end }), by),
        };
        let is_answer = matches!(observed, Some(Observed::Answer { .. }));
        if let Some(observed) = observed
            && let Err(error) = self.observe(id, observed, &by).await
            && self.registry.get(id).is_some()
        {
            self.complain(&format!("{error}: what a BMC has said was not taken down; it is asked again"));
        }
        if is_answer {
            self.tell_power(id);
        }
        self.plan_reading(id);
    }

    /// Has a machine's BMC told what the life cycle wants: the status says so already.
    pub(super) fn command(&self, entry: &Entry, act: Act) {
        let id = entry.record.id;
        let at = entry.record.status.power.last.as_ref().map_or(0, |done| done.at);
        let boot = matches!(act, Act::On | Act::Cycle).then_some(Boot::Pxe);
        let target = self.target(entry);
        let (switch, heard) = (self.switch.clone(), self.heard.clone());
        tokio::spawn(async move {
            let end = match target {
                Some(target) => switch.act(&target, act, boot).await.map_err(|trouble| trouble.to_string()),
                None => Err("it has no BMC any more".to_owned()),
            };
            drop(heard.send((id, Heading::Answer(at, end))).await);
        });
    }

    /// What an operator wants of a machine's BMC. It is answered when the BMC has answered.
    pub(super) async fn power(&mut self, which: &str, asked: PowerAsk, reply: Reply<Powered>) {
        let (target, record) = match self.power_target(which, &asked).await {
            Ok(found) => found,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let (switch, heard, began) = (self.switch.clone(), self.heard.clone(), now());
        let PowerAsk { act, boot } = asked;
        tokio::spawn(async move {
            let name = target.name.clone();
            let Some(act) = act else {
                let read = switch.read(&target).await.map_err(|trouble| trouble.to_string());
                if let Some(record) = &record {
                    drop(heard.send((record.id, Heading::Reading(read.clone(), began))).await);
                }
                let said = read.map(|reading| Powered { name, reading: Some(reading) });
                return drop(reply.send(said.map_err(RegistryError::Bmc)));
            };
            let end = switch.act(&target, act, boot).await.map_err(|trouble| trouble.to_string());
            if let Some(record) = record {
                let at = record.status.power.last.as_ref().map_or(0, |done| done.at);
                drop(heard.send((record.id, Heading::Answer(at, end.clone()))).await);
            }
            drop(reply.send(end.map(|()| Powered { name, reading: None }).map_err(RegistryError::Bmc)));
        });
    }

    /// The machine that is meant, with its record if it has one: that says already what its BMC is about to be told.
    async fn power_target(
        &mut self,
        which: &str,
        asked: &PowerAsk,
    ) -> Result<(Target, Option<Arc<Record>>), RegistryError> {
        let none = |called: String| {
            RegistryError::Conflict(format!(
                "{called} has no BMC: write bmc = {{ address = … }} (xpxe machines set --bmc-address)"
            ))
        };
        let entry = match self.find(which) {
            Ok(entry) => entry.clone(),
            Err(RegistryError::Configured(_)) => {
                let machine =
                    self.configured_machine(which).ok_or_else(|| RegistryError::Unknown(which.to_owned()))?;
                let target = target(&self.config(), &self.machines, &machine, None);
                return Ok((target.ok_or_else(|| none(which.to_owned()))?, None));
            }
            Err(error) => return Err(error),
        };
        let target = self.target(&entry).ok_or_else(|| none(entry.record.called()))?;
        let Some(act) = asked.act else { return Ok((target, Some(entry.record))) };
        if let Some(Done { act, end: None, .. }) = &entry.record.status.power.last {
            let busy = format!(
                "the BMC of {} is carrying out a command ({}): try again when it has ended",
                target.name,
                act.name()
            );
            return Err(RegistryError::Conflict(busy));
        }
        let id = entry.record.id;
        // One command a second: its time tells it from others.
        let at = now().max(entry.record.status.power.last.as_ref().map_or(0, |done| done.at + 1));
        let by = Arc::clone(&self.asker);
        self.observe(id, Observed::Command { act, by: by.to_string(), at }, &by).await?;
        let record = self.registry.get(id).map(|entry| Arc::clone(&entry.record));
        Ok((target, record))
    }

    /// Takes the password of a machine's BMC, or removes it.
    pub(super) async fn put_password(
        &mut self,
        which: &str,
        version: Option<u64>,
        password: Option<Secret>,
    ) -> Result<View, RegistryError> {
        let entry = self.current(which, version)?.clone();
        let bmc_password = match password {
            Some(password) => {
                let id = entry.record.id;
                let sealed = match self.switch.seal(id, password.clone(), false).await {
                    // Looked for only then: there may be a million machines.
                    Err(VaultError::Gone(_)) if !self.has_password_beside(id) => {
                        self.switch.seal(id, password, true).await
                    }
                    sealed => sealed,
                };
                Some(sealed.map_err(|error| RegistryError::Conflict(error.to_string()))?)
            }
            None => None,
        };
        let record = Record { bmc_password, ..changed_by_people(&entry.record) };
        let id = record.id;
        let by = Arc::clone(&self.asker);
        let view = self.commit(record, entry.machine, &Stepped::default(), &by).await?;
        self.readings.by(id, now());
        Ok(view)
    }

    /// Whether the store has the password of another machine.
    fn has_password_beside(&self, id: u64) -> bool {
        let has_one = |entry: &Entry| entry.record.id != id && entry.record.bmc_password.is_some();
        self.registry.after(0).any(has_one)
    }

    fn target(&self, entry: &Entry) -> Option<Target> {
        target(&self.config(), &self.machines, &entry.machine, Some(&entry.record))
    }

    /// Says how a command has ended.
    fn tell_power(&self, id: u64) {
        let Some(entry) = self.registry.get(id) else { return };
        let Some(done) = entry.record.status.power.last.clone().filter(|done| done.end.is_some()) else {
            return;
        };
        let by = if is_person(&done.by) { By::Operator } else { By::DAEMON };
        self.events.emit(BootEvent { by, ..event_of(entry, Step::Power(Box::new(done))) });
    }
}

fn target(
    config: &Config,
    machines: &boot_engine::machines::Machines,
    machine: &Machine,
    record: Option<&Record>,
) -> Option<Target> {
    let bmc = machine.bmc.as_ref()?.or(&config.bmc.all);
    let of_lease = || machines.address_of(bmc.mac?).map(|address| address.to_string());
    let named = machine.name.clone().or_else(|| Some(machine.macs.first()?.to_string()));
    Some(Target {
        record: record.map_or(0, |record| record.id),
        name: record.map(Record::called).or(named).unwrap_or_default(),
        macs: machine.macs.clone(),
        uuid: machine.uuid,
        rack: machine.labels.get("rack").cloned().unwrap_or_default(),
        address: bmc.address.clone().or_else(of_lease),
        password: record.and_then(|record| record.bmc_password.clone()),
        wake: wake_from(config, machines, machine),
        bmc,
    })
}

/// The interface in whose network a machine is; all that there are, if nobody knows; none, if it is behind a router.
fn wake_from(
    config: &Config,
    machines: &boot_engine::machines::Machines,
    machine: &Machine,
) -> Vec<WakeFrom> {
    let address = machine.ip.or_else(|| machine.macs.iter().find_map(|mac| machines.address_of(*mac)));
    let served = |name: &String| config.interfaces.iter().any(|interface| interface.name == *name);
    let ours = link::addresses().unwrap_or_default().into_iter().filter(|(name, _)| served(name));
    let ours: Vec<_> = ours.filter(|(_, net)| address.is_none_or(|address| net.contains(&address))).collect();
    if ours.is_empty()
        && let Some(subnet) =
            config.subnets.iter().find(|subnet| address.is_some_and(|at| subnet.cidr.contains(&at)))
    {
        return vec![WakeFrom { interface: None, to: subnet.cidr.broadcast() }];
    }
    ours.into_iter().map(|(name, net)| WakeFrom { interface: Some(name), to: net.broadcast() }).collect()
}
