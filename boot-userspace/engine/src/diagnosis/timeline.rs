//! The last boots of every machine, as lists of steps. Whatever is heard, the memory is bounded.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;

use boot_common::Mac;

use super::boot::{Added, Boot, Timed, begins_one, is_by_http};
use super::ended::Ended;
use super::network::Network;
use super::note::Note;
use super::parts::{Histogram, is_system};
use super::steps::{Given, Uuid, What};

/// How many boots of one machine are kept.
pub const MOST_BOOTS: usize = 8;
/// How many machines are kept; those whose last boot began longest ago make room.
pub const MOST_MACHINES: usize = 65_536;
/// How many steps of all machines are kept: with 160 bytes for each, that is 64 MiB and their texts.
pub const MOST_STEPS_IN_ALL: usize = 400_000;
/// How many boots that were followed by others wait for being stored.
const MOST_FOLLOWED: usize = 10_000;
/// After so many milliseconds without a step, a boot is stored.
const QUIET: u64 = 10_000;

/// How many machines that have got something are spared each time room is made; they are passed by in turn.
const MOST_SPARED: usize = 64;

/// How many UUIDs are remembered, and how many cards of each.
const MOST_UUIDS: usize = MOST_MACHINES;
const MOST_TWINS: usize = 4;
/// How many machines are kept of which only HTTP has the MAC: anybody can make up as many as he likes. They make room for each
/// other.
const MOST_NAMED: usize = 4096;
/// How many steps of a machine wait for the boot that they lead to.
const MOST_AHEAD: usize = 8;
/// Of how many machines whose boots made room it is remembered when they were heard last.
const MOST_LEFT: usize = 262_144;

#[derive(Debug, Default)]
struct Machine {
    boots: VecDeque<Boot>,
    /// The address that it has got last.
    address: Option<Ipv4Addr>,
    /// The number of its newest boot among those of all machines.
    newest: u64,
    /// Its place in [`Timelines::named`].
    named: Option<u64>,
}

/// The last boots of every machine.
#[derive(Debug, Default)]
pub struct Timelines {
    machines: HashMap<Mac, Machine>,
    /// The machines in the order in which their boots began, each with the number of that boot.
    order: VecDeque<(u64, Mac)>,
    next: u64,
    addresses: HashMap<Ipv4Addr, Mac>,
    steps: usize,
    evicted: u64,
    unsaved: HashSet<Mac>,
    /// Machines whose last boot has repeated a step only: a machine that waits for its script does that for days.
    repeated: HashSet<Mac>,
    /// Machines without a name that nobody has heard by DHCP or TFTP: somebody has named their MAC by HTTP. In the order in
    /// which their boots began.
    named: BTreeMap<u64, Mac>,
    /// What was done with machines that were switched on and have not asked yet.
    ahead: HashMap<Mac, Vec<Timed>>,
    /// Boots that were followed by others before they were stored.
    followed: Vec<Boot>,
    ended: Ended,
    network: Network,
    took: Histogram,
    /// When machines whose boots made room were heard last. Those that got nothing,
    /// or that only HTTP has named, are forgotten.
    left: HashMap<Mac, u64>,
    /// The cards that have shown a UUID, those that did it last first.
    uuids: HashMap<Uuid, Vec<Mac>>,
}

impl Timelines {
    /// Takes down what happened at `at` (milliseconds since the Unix epoch).
    pub fn note(&mut self, note: Note, at: u64) {
        let Note { mac, is_known, address, link, by, what, said, heard, .. } = note;
        if let Some(heard) = heard {
            self.network.hear(heard, at);
        }
        let Some(what) = what else { return };
        let mac = mac.or_else(|| self.addresses.get(&address?).copied());
        let Some(mac) = mac.filter(|mac| mac.is_station()) else { return };
        if what.is_beside() {
            let step = Timed { at, last: at, count: 1, by, secs: 0, what };
            return self.note_beside(mac, step);
        }
        if let What::Answered { given: Given::Ack | Given::Bootp, address, .. } = &what
            && !address.is_unspecified()
            && let Some(machine) = self.machines.get_mut(&mac)
            && machine.address != Some(*address)
        {
            let before = machine.address.replace(*address);
            self.addresses.insert(*address, mac);
            self.forget(before, mac);
        }
        let machine = self.machines.get_mut(&mac);
        let opens = match machine.as_ref().and_then(|machine| machine.boots.back()) {
            Some(boot) => boot.is_followed_by(at, &what),
            None => begins_one(&what),
        };
        let by_http = is_by_http(&what) || matches!(what, What::ScriptSent { .. } | What::NoScript { .. });
        let was_heard = machine.as_ref().is_some_and(|machine| machine.named.is_none());
        let is_named = by_http && !is_known && !was_heard;
        if !is_named && let Some(number) = machine.and_then(|machine| machine.named.take()) {
            self.named.remove(&number);
        }
        if opens {
            self.open(mac, link.as_ref(), at);
            if is_named {
                self.name(mac);
            }
        }
        let Some(boot) = self.machines.get_mut(&mac).and_then(|machine| machine.boots.back_mut()) else {
            return;
        };
        let ends = !boot.is_over && matches!(what, What::PhoneHome { .. });
        let is_up = is_system(&what) && !boot.steps.iter().any(|step| is_system(&step.what));
        let uuid = if let What::ScriptSent { uuid } = &what { *uuid } else { None };
        boot.relay = what.relay().or(said.relay).or(boot.relay);
        let added = boot.add(Timed { at, last: at, count: 1, by, secs: said.secs, what });
        if is_up {
            self.took.add(boot);
        }
        if let Some(uuid) = uuid {
            self.show(uuid, mac);
        }
        let Some(boot) = self.machines.get_mut(&mac).and_then(|machine| machine.boots.back_mut()) else {
            return;
        };
        self.steps += usize::from(added == Added::Further);
        boot.is_over |= ends;
        self.ended.hear(mac, boot.opened);
        if ends {
            self.ended.end(mac);
        }
        for step in self.ahead.remove(&mac).unwrap_or_default() {
            self.steps += usize::from(boot.add_beside(step) == Added::Further);
        }
        // What is only counted is stored with the next step, or at the end.
        let of = if ends || added != Added::Counted { &mut self.unsaved } else { &mut self.repeated };
        of.insert(mac);
        self.make_room();
    }

    /// Takes down what was done with a machine. It opens no boot and prolongs none: what follows a command to switch the
    /// machine on waits for the boot that comes of it.
    fn note_beside(&mut self, mac: Mac, step: Timed) {
        if let Some(waits) = self.ahead.get_mut(&mac) {
            if waits.len() < MOST_AHEAD {
                waits.push(step);
            }
        } else if step.what.switches_on() {
            if self.ahead.len() < MOST_NAMED {
                self.ahead.insert(mac, vec![step]);
            }
        } else if let Some(boot) = self.machines.get_mut(&mac).and_then(|machine| machine.boots.back_mut()) {
            let added = boot.add_beside(step);
            self.steps += usize::from(added == Added::Further);
            let of = if added == Added::Counted { &mut self.repeated } else { &mut self.unsaved };
            of.insert(mac);
            self.make_room();
        }
    }

    /// A card shows a UUID.
    fn show(&mut self, uuid: Uuid, mac: Mac) {
        // Anybody can invent some: whose are not shown again is forgotten.
        if self.uuids.len() >= MOST_UUIDS && !self.uuids.contains_key(&uuid) {
            self.uuids.clear();
        }
        let macs = self.uuids.entry(uuid).or_default();
        if macs.first() != Some(&mac) {
            macs.retain(|other| *other != mac);
            macs.insert(0, mac);
            macs.truncate(MOST_TWINS);
        }
    }

    /// The newest boots of other cards that have shown the UUID that this boot shows.
    #[must_use]
    pub fn twins(&self, boot: &Boot) -> Vec<Boot> {
        let macs = boot.uuid().and_then(|uuid| self.uuids.get(&uuid));
        let others = macs.into_iter().flatten().filter(|mac| **mac != boot.mac);
        others.filter_map(|mac| self.boots(*mac).next_back().cloned()).collect()
    }

    /// How long the parts of boots took.
    #[must_use]
    pub fn took(&self) -> &Histogram {
        &self.took
    }

    fn forget(&mut self, address: Option<Ipv4Addr>, mac: Mac) {
        if let Some(address) = address
            && self.addresses.get(&address) == Some(&mac)
        {
            self.addresses.remove(&address);
        }
    }

    fn open(&mut self, mac: Mac, link: Option<&Arc<str>>, at: u64) {
        self.ended.end(mac);
        let is_unsaved = self.repeated.remove(&mac) | self.unsaved.contains(&mac);
        if is_unsaved && self.followed.len() < MOST_FOLLOWED {
            let before = self.boots(mac).next_back().cloned();
            self.followed.extend(before.map(|before| Boot { is_over: true, ..before }));
        }
        let link = link.map(|link| Box::from(&**link));
        let (steps, beside) = (Vec::new(), Vec::new());
        self.put(Boot { mac, link, relay: None, opened: at, is_over: false, steps, more: 0, beside });
    }

    /// A boot has begun of a machine that only HTTP has named.
    fn name(&mut self, mac: Mac) {
        let Some(machine) = self.machines.get_mut(&mac) else { return };
        let number = machine.newest;
        if let Some(before) = machine.named.replace(number) {
            self.named.remove(&before);
        }
        self.named.insert(number, mac);
        if self.named.len() > MOST_NAMED
            && let Some((_, oldest)) = self.named.pop_first()
        {
            self.push_out(oldest);
        }
    }

    /// The boots of this machine make room for others'.
    fn push_out(&mut self, mac: Mac) {
        let Some(machine) = self.machines.remove(&mac) else { return };
        self.steps -= machine.boots.iter().map(Boot::len).sum::<usize>();
        self.evicted += 1;
        if let Some(last) = machine.boots.back()
            && machine.named.is_none()
            && machine.boots.iter().any(Boot::got_something)
        {
            self.leave(mac, last.last());
        }
        self.unsaved.remove(&mac);
        self.repeated.remove(&mac);
        self.ended.forget(mac);
        if let Some(number) = machine.named {
            self.named.remove(&number);
        }
        self.forget(machine.address, mac);
    }

    /// Remembers when a machine was heard last. When there are too many, those that were heard earlier are forgotten.
    pub(super) fn leave(&mut self, mac: Mac, last: u64) {
        if self.left.len() >= MOST_LEFT {
            let mut times: Vec<u64> = self.left.values().copied().collect();
            let (_, middle, _) = times.select_nth_unstable(MOST_LEFT / 2);
            let middle = *middle;
            self.left.retain(|_, time| *time > middle);
        }
        self.left.insert(mac, last);
    }

    /// When a machine was heard last, in milliseconds since the Unix epoch, also where its boots are not kept any more.
    #[must_use]
    pub fn heard_last(&self, mac: Mac) -> Option<u64> {
        let last = self.boots(mac).next_back().map(Boot::last);
        last.or_else(|| self.left.get(&mac).copied())
    }

    /// Adds a boot that was stored. Boots of a machine have to come in their order.
    pub fn put(&mut self, boot: Boot) {
        let mac = boot.mac;
        self.next += 1;
        let machine = self.machines.entry(mac).or_default();
        machine.newest = self.next;
        self.order.push_back((self.next, mac));
        if let Some(before) = machine.boots.back_mut() {
            before.is_over = true;
            before.steps.shrink_to_fit();
        }
        self.steps += boot.len();
        let uuid = boot.uuid();
        machine.boots.push_back(boot);
        if machine.boots.len() > MOST_BOOTS
            && let Some(oldest) = machine.boots.pop_front()
        {
            self.steps -= oldest.len();
        }
        if let Some(uuid) = uuid {
            self.show(uuid, mac);
        }
        self.make_room();
    }

    fn make_room(&mut self) {
        let mut spared = 0;
        while self.machines.len() > MOST_MACHINES || self.steps > MOST_STEPS_IN_ALL {
            let Some((number, mac)) = self.order.pop_front() else { return };
            if self.machines.get(&mac).is_none_or(|machine| machine.newest != number) {
                continue;
            }
            // Anybody can ask under many MACs: who has done no more makes room for who has booted.
            if spared < MOST_SPARED
                && let Some(machine) = self.machines.get_mut(&mac)
                && machine.named.is_none()
                && machine.boots.iter().any(Boot::got_something)
            {
                spared += 1;
                self.next += 1;
                machine.newest = self.next;
                self.order.push_back((self.next, mac));
                continue;
            }
            self.push_out(mac);
        }
        // Most of it is of boots that were followed by others.
        if self.order.len() > 4 * MOST_MACHINES {
            let machines = &self.machines;
            self.order
                .retain(|(number, mac)| machines.get(mac).is_some_and(|machine| machine.newest == *number));
        }
    }

    /// The boots of a machine, the oldest first.
    pub fn boots(&self, mac: Mac) -> impl DoubleEndedIterator<Item = &Boot> {
        self.machines.get(&mac).into_iter().flat_map(|machine| machine.boots.iter())
    }

    /// Every machine with its boots, in the order of the MACs.
    #[must_use]
    pub fn macs(&self) -> Vec<Mac> {
        let mut macs: Vec<Mac> = self.machines.keys().copied().collect();
        macs.sort_unstable();
        macs
    }

    /// The machine that has got this address last.
    #[must_use]
    pub fn at(&self, address: Ipv4Addr) -> Option<Mac> {
        self.addresses.get(&address).copied()
    }

    /// The other servers that were heard.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// How many machines had to make room, so that none of their boots is known any more.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What was done with a machine since it was told to start; it has not asked since.
    #[must_use]
    pub fn ahead(&self, mac: Mac) -> &[Timed] {
        self.ahead.get(&mac).map_or(&[], Vec::as_slice)
    }

    /// How many steps wait for the boots that they lead to.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.ahead.values().map(Vec::len).sum()
    }

    /// How many boots are kept.
    #[must_use]
    pub fn count(&self) -> usize {
        self.machines.values().map(|machine| machine.boots.len()).sum()
    }

    /// How many steps are kept.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The boots that are to be stored: each machine's last one, if it has a new step and is over or silent. `all`: also those
    /// that are under way, or have repeated a step. They count as stored from now on.
    pub fn take_unsaved(&mut self, now: u64, all: bool) -> Vec<Boot> {
        if all {
            self.unsaved.extend(self.repeated.drain());
        }
        let (machines, repeated) = (&self.machines, &mut self.repeated);
        let mut taken = std::mem::take(&mut self.followed);
        self.unsaved.retain(|mac| {
            let Some(boot) = machines.get(mac).and_then(|machine| machine.boots.back()) else { return false };
            let is_due = all || boot.is_over || now > boot.last().saturating_add(QUIET);
            if is_due {
                taken.push(boot.clone());
                repeated.remove(mac);
            }
            !is_due
        });
        taken
    }

    /// At most so many boots that have ended since they were taken last: machine, and when the boot began. A boot ends with
    /// its report, with the next one, when it is silent for five minutes, or half an hour after it began.
    pub fn take_ended(&mut self, now: u64, most: usize) -> Vec<(Mac, u64)> {
        let machines = &self.machines;
        self.ended.end_old(now, |mac, opened| {
            machines.get(&mac)?.boots.iter().rev().find(|boot| boot.opened == opened)
        });
        self.ended.take(most)
    }

    /// How many boots made room for others' before they were taken, since this was asked last.
    pub fn take_ended_forgotten(&mut self) -> u64 {
        self.ended.take_forgotten()
    }

    /// How many ended boots had to be left out because too many waited to be taken.
    #[must_use]
    pub fn ended_dropped(&self) -> u64 {
        self.ended.dropped()
    }

    /// Takes back boots that could not be stored: they are unsaved again.
    pub fn put_back(&mut self, boots: Vec<Boot>) {
        for boot in boots {
            let Some(last) = self.boots(boot.mac).next_back() else { continue };
            if last.opened == boot.opened {
                self.unsaved.insert(boot.mac);
            } else if self.followed.len() < MOST_FOLLOWED {
                self.followed.push(boot);
            }
        }
    }
}
