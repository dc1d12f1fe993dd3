//! Machines that somebody expects by their serial number: the first machine that says it is the expected one, and gets its
//! MAC there. Whatever record it had until then is part of that.

use std::sync::Arc;

use boot_agent_protocol::Inventory;
use boot_common::Mac;
use tracing::warn;

use super::changes::{event_of, served};
use super::conflicts::called;
use super::{Asking, Changed, Keeper, SELF, changed_by_people};
use crate::daemon::request::RegistryError;
use boot_engine::config::{Machine, is_serial};
use boot_engine::events::{Conflict, Meanwhile, Shared, Sink as _, Step};
use boot_engine::lifecycle::State;
use boot_engine::registry::{Entry, Record};

impl Keeper {
    /// A machine says its serial number with its script's URL, from its own address.
    pub(super) async fn hear_serial(&mut self, mac: Mac, serial: &str) {
        let Some(expected) = self.with_serial(serial).filter(|_| is_serial(serial)) else { return };
        let (id, has_mac) = (expected.record.id, !expected.record.spec.mac.is_empty());
        let is_unreadable = self.unreadable.get(id).is_some();
        // Nothing is written into a record that cannot be read.
        let is_met = has_mac || is_unreadable;
        let speaker = self.machines.by_mac(mac);
        let own = speaker.as_ref().and_then(|known| known.life.as_ref()).map(|life| life.record);
        if own == Some(id) && is_met || self.machines.is_bmc(mac) {
            return;
        }
        if is_unreadable && !has_mac && speaker.is_none() {
            return self.meet_unreadable(id, mac).await;
        }
        // One that was recognised as the expected machine by its UUID or port is that one.
        let stranger = own.filter(|own| *own != id);
        let is_free = match stranger {
            Some(stranger) => self.registry.get(stranger).is_some_and(|entry| entry.record.is_unwritten()),
            None => speaker.is_none() || own.is_some(),
        };
        let twin = self.twin_of(serial, [Some(id), stranger]);
        if is_met || !is_free || twin.is_some() {
            let what = match twin.filter(|_| !is_met && is_free) {
                Some(twin) => {
                    let mark = format!("the serial number {serial}").into();
                    Shared::Board { mark, other: twin.record.called().into() }
                }
                None => Shared::Serial { serial: serial.into(), other: called(&expected.machine) },
            };
            // That it waits would have to be remembered until a rule looks at it.
            let held = own.and_then(|own| self.registry.get(own)).map(Self::meanwhile_of_serial);
            let meanwhile = held.filter(|it| *it == Meanwhile::Held).unwrap_or(Meanwhile::Nothing);
            let conflict = Conflict { what, meanwhile };
            self.tell_conflict(mac, conflict.clone());
            if let Some(own) = own {
                self.hold(own, &conflict).await;
            }
            return;
        }
        let done = match stranger {
            Some(stranger) => self.join(id, stranger).await,
            None => self.meet(id, mac).await,
        };
        if let Err(error) = done {
            self.complain(&format!(
                "{error}: {mac} says the serial number of an expected machine, and was not taken for it; it will be when it asks again"
            ));
        }
    }

    /// The expected machine that a machine is which reports this, if nobody has written anything of it under its MAC.
    pub(super) fn expected_by(&self, id: u64, reported: &Inventory) -> Option<u64> {
        let own = self.registry.get(id).filter(|own| own.record.is_unwritten())?;
        let serial = Some(&reported.system.serial).filter(|serial| is_serial(serial))?;
        let expected = self.registry.with_serial(serial)?;
        let (own, id) = (own.record.id, expected.record.id);
        let is_other = id != own && expected.record.spec.mac.is_empty();
        (is_other && self.twin_of(serial, [Some(id), Some(own)]).is_none()).then_some(id)
    }

    /// Another machine than these that has reported a serial number: which of them is expected is for a person to say.
    fn twin_of(&self, serial: &str, parties: [Option<u64>; 2]) -> Option<&Entry> {
        self.registry.that_reported(serial).find(|other| !parties.contains(&Some(other.record.id)))
    }

    /// What a machine's report has to do with serial numbers that somebody has written.
    pub(super) fn serial_conflict(&self, entry: &Entry, reported: &Inventory) -> Option<Shared> {
        let serial = Some(&reported.system.serial).filter(|serial| is_serial(serial))?;
        let written = entry.record.spec.serial.as_ref();
        if let Some(written) = written.filter(|written| !written.eq_ignore_ascii_case(serial)) {
            let say = |serial: &str| format!("the serial number {serial}").into();
            return Some(Shared::NewBoard { before: say(written), now: say(serial) });
        }
        let other = self.with_serial(serial).filter(|other| other.record.id != entry.record.id)?;
        Some(Shared::Serial { serial: serial.as_str().into(), other: called(&other.machine) })
    }

    /// A machine is expected by a serial number that a machine may have reported before anybody expected it: if it is the only
    /// one, and nobody has written anything of it, it is the expected one.
    pub(super) async fn join_reported(&mut self, serial: &str) {
        let Some(expected) = self.registry.with_serial(serial) else { return };
        if !expected.record.spec.mac.is_empty() {
            return;
        }
        let id = expected.record.id;
        let others = self.registry.that_reported(serial).filter(|other| other.record.id != id);
        let others: Vec<&Entry> = others.collect();
        let other = match others[..] {
            [] => return,
            [other] => other,
            _ => {
                let names: Vec<String> = others.iter().map(|other| other.record.called()).collect();
                warn!(
                    "{} machines have reported the serial number {serial}, so none of them is taken for {}: {}; say which one it is: xpxe machines set serial:{serial} --mac MAC",
                    names.len(),
                    expected.record.called(),
                    names.join(", ")
                );
                return;
            }
        };
        if !other.record.is_unwritten() {
            return;
        }
        let stranger = other.record.id;
        if let Err(error) = self.join(id, stranger).await {
            warn!(
                "{error}: the machine that has reported the serial number {serial} is not the expected one yet; it will be when it asks again"
            );
        }
    }

    /// Why nobody can be expected by a serial number: another machine has it, and not only those that are to be removed.
    pub(super) fn serial_taken(&self, record: &Record, gone: &[u64]) -> Result<(), RegistryError> {
        let Some(serial) = &record.spec.serial else { return Ok(()) };
        let refused = |other: &Entry, why: &str| {
            let (own, other) = (record.called(), other.record.called());
            let text = format!("{own} cannot have the serial number {serial}: {other} {why}");
            Err(RegistryError::Conflict(text))
        };
        if let Some(other) = self.registry.with_serial(serial).filter(|other| other.record.id != record.id) {
            return refused(other, "has it; remove it from one of them");
        }
        let is_another = |other: &&Entry| {
            let id = other.record.id;
            id != record.id && !gone.contains(&id) && !other.record.is_unwritten()
        };
        match self.registry.that_reported(serial).find(is_another) {
            Some(other) => {
                refused(other, "has reported it; if that is this machine, write this under its name or MAC")
            }
            None => Ok(()),
        }
    }

    /// The machine with this MAC is the expected one.
    async fn meet(&mut self, id: u64, mac: Mac) -> Result<(), RegistryError> {
        let entry = self.entry(id)?;
        let mut record = changed_by_people(&entry.record);
        record.spec.mac = vec![mac.to_string()];
        let machine = self.check(&record, served(&entry.place))?;
        self.become_known(record, machine, None).await
    }

    /// The machine of another record is the expected one, and its record is part of that one's. It is served as the same one as
    /// before: its agent is at work, with the token of its boot. Where that cannot be, both stay as they were.
    pub(super) async fn join(&mut self, id: u64, stranger: u64) -> Result<(), RegistryError> {
        let (expected, found) = (self.entry(id)?, self.entry(stranger)?);
        let joined = expected.record.joined(&found.record);
        let machine = self.check_over(&joined, &expected, std::slice::from_ref(&found))?;
        self.serve_no_longer(&expected.place).await;
        self.registry.put(Entry { place: found.place.clone(), ..expected.clone() }, &self.rules);
        let done = self.become_known(joined, machine, Some(&*found.record)).await;
        if done.is_err() {
            self.serve_again(expected).await;
        }
        done
    }

    async fn become_known(
        &mut self,
        record: Record,
        machine: Arc<Machine>,
        found: Option<&Record>,
    ) -> Result<(), RegistryError> {
        let id = record.id;
        let serial = record.spec.serial.clone().unwrap_or_default().into();
        let (record, stepped) = self.stepped(record, SELF);
        let changed = Changed { record, machine, stepped, by: SELF.to_owned() };
        let gone = found.map(|found| found.id);
        self.commit_over(vec![changed], gone.as_slice()).await?;
        if let Some(entry) = self.registry.get(id) {
            let before = found.map(|found| found.called().into());
            self.events.emit(event_of(entry, Step::Expected { serial, before }));
        }
        self.accept_by_rule(id, Asking::default()).await;
        Ok(())
    }

    /// A record as it is now.
    pub(super) fn entry(&self, id: u64) -> Result<Entry, RegistryError> {
        self.registry.get(id).cloned().ok_or_else(|| RegistryError::Unknown(id.to_string()))
    }

    /// Has the machine of a record served that was served no longer.
    pub(super) async fn serve_again(&mut self, entry: Entry) {
        let place = self.serve(None, &entry.machine, &entry.record).await;
        self.registry.put(Entry { place, ..entry }, &self.rules);
    }

    /// What a conflict about a serial number that somebody has written means for who reports it: no rule accepts it, and its disks,
    /// which may be the other machine's, stay as they are.
    pub(super) fn meanwhile_of_serial(entry: &Entry) -> Meanwhile {
        match entry.record.status.state {
            State::Discovered => Meanwhile::Waits,
            state if state.boots_agent() => Meanwhile::Held,
            State::Allocated if entry.machine.image.is_some() => Meanwhile::Held,
            _ => Meanwhile::Nothing,
        }
    }
}
