//! Machines that have something that only one can have: both parties are told, and `[identity]` says what happens meanwhile.
//!
//! Anybody in the boot network can send any MAC and any UUID, so what packets and URLs say is told and changes no state, unless
//! the configuration asks for that. What the agent reports, with the token of its boot, may hold a machine, and so may a serial
//! number that a machine says from its own address.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::net::Ipv4Addr;
use std::time::Duration;

use boot_agent_protocol::Inventory;
use boot_common::Mac;
use tracing::warn;

use super::{Asking, Changed, Keeper, changed_by_people};
use crate::daemon::request::RegistryError;
use crate::host::clock;
use boot_engine::config::{
    DuplicateMac, DuplicateUuid, Machine, SwappedBoard, in_either_order, is_placeholder, uuid_text,
};
use boot_engine::events::{self, BootEvent, Conflict, Meanwhile, Shared, Sink as _, Step};
use boot_engine::lifecycle::{Order, State, Stepped};
use boot_engine::machines::Known;
use boot_engine::registry::{BoardMark, Entry, Place, Record, another_board};

/// The same is told again after this time.
const AGAIN: Duration = Duration::from_secs(3600);
/// With so many machines that have told of, all are forgotten: they are told again once.
const MOST_TOLD: usize = 4096;

/// What was told of which machine, and when.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<(Mac, Discriminant<Shared>), (Conflict, Duration)>);

impl Told {
    fn is_news(&mut self, mac: Mac, conflict: &Conflict, now: Duration) -> bool {
        let key = (mac, discriminant(&conflict.what));
        if self.0.get(&key).is_some_and(|(before, at)| before == conflict && now < *at + AGAIN) {
            return false;
        }
        if self.0.len() >= MOST_TOLD {
            self.0.clear();
        }
        self.0.insert(key, (conflict.clone(), now));
        true
    }
}

/// What a report shows, and the other machine's number in the registry.
type Found = (Conflict, Option<u64>);

impl Keeper {
    /// A machine has fetched its script, and said which UUID it has.
    pub(super) async fn see_uuid(&mut self, mac: Mac, shown: [u8; 16]) {
        if is_placeholder(shown) || !self.machines.is_named(mac) {
            return;
        }
        let Some(own) = self.machines.by_mac(mac) else { return };
        let holder = self.machines.asker(Ipv4Addr::UNSPECIFIED.into(), None, Some(shown)).known;
        let uuid = || uuid_text(shown).into();
        let conflict = match (holder.filter(|holder| holder.id != own.id), own.machine.uuid) {
            (Some(other), _) => {
                let what = Shared::Uuid { uuid: uuid(), other: called(&other.machine) };
                Conflict { what, meanwhile: self.by_duplicate_uuid() }
            }
            (None, Some(written)) if in_either_order(written) != in_either_order(shown) => {
                let what = Shared::OtherUuid { shown: uuid(), written: uuid_text(written).into() };
                Conflict { what, meanwhile: Meanwhile::Nothing }
            }
            _ => return,
        };
        self.tell_conflict(mac, conflict.clone());
        if let Some(life) = own.life {
            self.hold(life.record, &conflict).await;
        }
    }

    fn by_duplicate_uuid(&self) -> Meanwhile {
        match self.config().identity.duplicate_uuid {
            DuplicateUuid::IgnoreUuid => Meanwhile::ByMac,
            DuplicateUuid::Hold => Meanwhile::Held,
        }
    }

    /// What the report of a machine has in common with other machines, or not with its own report before.
    pub(super) fn conflicts(&self, entry: &Entry, reported: &Inventory) -> Vec<Found> {
        let rules = self.config().identity;
        // Who waits for a person already waits on.
        let stops =
            if entry.record.status.state == State::Discovered { Meanwhile::Waits } else { Meanwhile::Held };
        let mut found = Vec::new();
        if let Some((mac, other)) = self.card_of_another(entry, reported) {
            let what = Shared::Card { mac, other: called(&other.machine) };
            let meanwhile =
                if rules.duplicate_mac == DuplicateMac::Hold { stops } else { Meanwhile::Nothing };
            found.push((Conflict { what, meanwhile }, other.life.map(|life| life.record)));
        } else {
            let id = entry.record.id;
            let same = self.registry.same_board(id, reported);
            if let Some((mark, other)) = same.or_else(|| self.unreadable.same_board(id, reported)) {
                found.extend(
                    self.same_board(entry, &mark, other, stops).map(|it| (it, Some(other.record.id))),
                );
            }
            // That a stranger has reported the same must not hide whose number it is.
            let is_decided = |(conflict, _): &Found| {
                matches!(conflict.meanwhile, Meanwhile::Held | Meanwhile::Waits | Meanwhile::Followed)
            };
            if !found.iter().any(is_decided)
                && let Some(what) = self.serial_conflict(entry, reported)
            {
                found.push((Conflict { what, meanwhile: Self::meanwhile_of_serial(entry) }, None));
            }
        }
        let before = entry.record.inventory.as_ref();
        if let Some((before, now)) = before.and_then(|before| another_board(before, reported)) {
            let what = Shared::NewBoard { before: before.into(), now: now.into() };
            let meanwhile = match rules.swapped_board {
                SwappedBoard::Hold => stops,
                SwappedBoard::Follow => Meanwhile::Nothing,
            };
            found.push((Conflict { what, meanwhile }, None));
        }
        found
    }

    /// The first of the cards that a machine reports that is another machine's.
    fn card_of_another(&self, entry: &Entry, reported: &Inventory) -> Option<(Mac, Known)> {
        let macs = reported.nics.iter().filter_map(|nic| nic.mac.parse::<Mac>().ok());
        macs.filter(|mac| self.machines.is_named(*mac)).find_map(|mac| {
            let other = self.machines.by_mac(mac)?;
            let is_itself = other.life.as_ref().is_some_and(|life| life.record == entry.record.id);
            (!is_itself).then_some((mac, other))
        })
    }

    fn same_board(
        &self,
        entry: &Entry,
        mark: &BoardMark,
        other: &Entry,
        stops: Meanwhile,
    ) -> Option<Conflict> {
        let state = entry.record.status.state;
        // A machine that is known is not taken for another one because it was moved.
        let is_new = matches!(state, State::Discovered | State::Accepted);
        // Whoever nobody has accepted may have reported anything: that is told, and holds nobody else.
        let is_of_stranger = other.record.status.state == State::Discovered && state != State::Discovered;
        let name = called(&other.machine);
        let swapped = match self.unreadable.get(other.record.id) {
            // Nothing is written into a record that cannot be read.
            Some(_) => SwappedBoard::Hold,
            None => self.config().identity.swapped_board,
        };
        let meanwhile = match (mark, swapped) {
            _ if is_of_stranger => Meanwhile::Nothing,
            (_, SwappedBoard::Follow) if is_new => Meanwhile::Followed,
            (_, SwappedBoard::Hold) if is_new => stops,
            (BoardMark::Uuid(uuid), _) => {
                let what = Shared::Uuid { uuid: uuid_text(*uuid).into(), other: name };
                return Some(Conflict { what, meanwhile: self.by_duplicate_uuid() });
            }
            (BoardMark::Serial(..), _) => Meanwhile::Nothing,
            (BoardMark::Bmc(_) | BoardMark::Port(..), _) => return None,
        };
        Some(Conflict { what: Shared::Board { mark: mark.to_string().into(), other: name }, meanwhile })
    }

    /// The new board is the machine that was there: that one gets its MACs, and the record of the new one goes. Gives the number of
    /// the machine.
    pub(super) async fn follow_board(&mut self, new: u64, old: u64) -> Result<u64, RegistryError> {
        let (own, other) = (self.entry(new)?, self.entry(old)?);
        let mut record = changed_by_people(&other.record);
        record.spec.mac.clone_from(&own.record.spec.mac);
        if own.record.spec.uuid.is_some() {
            record.spec.uuid.clone_from(&own.record.spec.uuid);
        }
        let machine = self.check_over(&record, &other, std::slice::from_ref(&own))?;
        self.serve_no_longer(&own.place).await;
        let by = self.asker.to_string();
        let changed = Changed { record, machine, stepped: Stepped::default(), by };
        if let Err(error) = self.commit_over(vec![changed], &[new]).await {
            self.serve_again(own).await;
            return Err(error);
        }
        self.accept_by_rule(old, Asking::default()).await;
        Ok(old)
    }

    /// Has a machine boot nothing until a person has decided, where the rule says so.
    pub(super) async fn hold(&mut self, id: u64, conflict: &Conflict) {
        if conflict.meanwhile != Meanwhile::Held {
            return;
        }
        let order = Order::Maintain(conflict.what.to_string());
        if let Err(error) = self.order_by(&format!("id:{id}"), None, &order, "rule of [identity]").await {
            warn!("{error}: the machine id:{id} is not held, although {}", conflict.what);
        }
    }

    /// Tells that a machine of the registry is not served.
    pub(super) fn tell_shadowed(&mut self, mac: Option<Mac>, record: &Record, place: &Place) {
        let Some(why) = place.unserved() else { return };
        // One that does not fit the configuration has nothing in common with another one.
        match mac.filter(|_| record.machine(&self.config()).is_ok()) {
            Some(mac) => {
                let what = Shared::Shadowed(why.into());
                self.tell_conflict(mac, Conflict { what, meanwhile: Meanwhile::Unserved });
            }
            None => warn!("{} of the registry is not served: {why}", record.called()),
        }
    }

    /// Tells of what two machines share, once an hour.
    pub(super) fn tell_conflict(&mut self, mac: Mac, conflict: Conflict) {
        if !self.told.is_news(mac, &conflict, clock::boot()) {
            return;
        }
        let name = self.machines.client(mac).name.map(Into::into);
        let step = Step::Conflict(Box::new(conflict));
        self.events.emit(BootEvent::new(clock::boot(), step).of(events::Machine { mac, name }));
    }
}

/// A machine as people call it.
pub(super) fn called(machine: &Machine) -> Box<str> {
    let mac = || machine.macs.first().map(ToString::to_string);
    let uuid = || machine.uuid.map(uuid_text);
    let serial = || machine.serial.clone();
    let port = || "the machine of a switch port".to_owned();
    machine.name.clone().or_else(mac).or_else(uuid).or_else(serial).unwrap_or_else(port).into()
}
