//! Another configuration in the place of the one that is served.
//!
//! What a reload makes of the tables is what a start with the new file would make of them, and only what is different is
//! written. Two things are other than at a start: an offer that is open is honoured, because firmware does not survive its
//! refusal, and what was promised to a machine stays promised.

mod difference;
mod one;
mod part;
mod rebind;
mod refresh;
mod settle;

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use boot_common::tables::AnswerKey;
use ipnet::Ipv4Net;

pub use difference::{Changes, changes, live};

use crate::Engine;
use crate::answers::sets::Set;
use crate::command::{Command, Now};
use crate::config::{Config, Subnet};
use crate::leases::bindings::OFFER_HOLDS;
use crate::leases::record::Lease;
use crate::machines::MachineId;
use crate::policy::Loaders;

/// Which index subnets have now, by their networks.
struct Moved(Vec<Option<usize>>);

impl Moved {
    fn new(before: &[Subnet], now: &[Subnet]) -> Self {
        let places: HashMap<Ipv4Net, usize> =
            now.iter().enumerate().map(|(index, subnet)| (subnet.cidr, index)).collect();
        Self(before.iter().map(|subnet| places.get(&subnet.cidr).copied()).collect())
    }

    fn is_nothing(&self) -> bool {
        self.0.iter().enumerate().all(|(old, new)| *new == Some(old))
    }

    fn of(&self, old: usize) -> Option<usize> {
        self.0.get(old).copied().flatten()
    }
}

/// Whether leases in the store may fit now that did not so far: a subnet is new, or has another pool.
#[must_use]
pub fn may_restore(before: &Config, now: &Config) -> bool {
    let was = |subnet: &Subnet| before.subnets.iter().find(|other| other.cidr == subnet.cidr);
    now.subnets.iter().any(|subnet| was(subnet).is_none_or(|was| was.pool != subnet.pool))
}

impl Engine {
    /// Serves by another configuration from now on. It names the same interfaces as before. `leases` are those of the store
    /// if [`may_restore`] says so; nothing is read of them otherwise.
    pub fn reload(&mut self, config: Arc<Config>, loaders: Loaders, leases: &[Lease], now: Now) {
        let owners = self.machines.all().into_iter();
        let owners: Vec<_> = owners.filter_map(|known| Some((known.machine.ip?, known.id))).collect();
        let (before, old_loaders) = self.policy.replace(Arc::clone(&config), loaders);
        let replaced = self.machines.replace(&config.machines);
        self.answers.free_numbers();
        let mut gone = self.renumber(&before.subnets);
        self.change_reserved(owners.iter().map(|(address, _)| *address));
        for (index, subnet) in config.subnets.iter().enumerate() {
            let was = before.subnets.iter().find(|was| was.cidr == subnet.cidr);
            if was.is_none_or(|was| was.pool != subnet.pool) {
                self.bindings.search_anew(index);
            }
        }
        let of_groups = |config: &Config| -> Vec<_> {
            let names = config.groups.iter().filter_map(|group| group.profile.as_ref());
            let profiles = names.filter_map(|name| config.profiles.get(name));
            profiles.map(|profile| (profile.options.clone(), profile.boot_file.clone())).collect()
        };
        let are_others = before.boot_files != config.boot_files
            || old_loaders != *self.policy.loaders()
            || before.groups != config.groups
            || of_groups(&before) != of_groups(&config);
        let is_stale = |set: &Set| {
            let subnet = set.subnet.and_then(|index| config.subnets.get(index));
            let was = subnet.and_then(|subnet| before.subnets.iter().find(|was| was.cidr == subnet.cidr));
            let profile = |config: &Config| {
                let profile = config.profiles.get(set.differences.profile()?)?;
                Some((profile.options.clone(), profile.boot_file.clone()))
            };
            are_others
                || subnet != was
                || set.differences.machine().is_some_and(|id| replaced.changed.contains(&id))
                || profile(&before) != profile(&config)
        };
        let emptied = self.answers.prepare_anew(is_stale, &self.policy, &mut self.commands);
        gone.extend(emptied);
        self.refresh_links();
        let is_same = |(address, id): &(Ipv4Addr, MachineId)| {
            self.machines.by_reserved(*address).is_some_and(|known| known.id == *id)
        };
        let same_machines: HashSet<Ipv4Addr> =
            owners.iter().filter(|owner| is_same(owner)).map(|(address, _)| *address).collect();
        let waits = self.settle(Some(&same_machines), now);
        self.promises.honour_offers(waits.then(|| now.seconds() + OFFER_HOLDS));
        self.restore_what_fits(leases, now);
        let without_mac = |config: &Config| -> HashSet<_> {
            let machines = config.machines.iter().filter(|machine| machine.macs.is_empty());
            machines.map(|machine| (machine.uuid, machine.relay_port.clone())).collect()
        };
        let strangers_speak = !without_mac(&config).is_subset(&without_mac(&before));
        self.refresh_all_hosts(strangers_speak, now);
        gone.extend(self.drop_unused_sets());
        self.commands.extend(gone.into_iter().map(Command::DeleteAnswer));
    }

    /// Whether an offer from before the last reload may be open that the configuration has otherwise now.
    pub(super) fn honours_offers(&self) -> bool {
        self.promises.honours_offers()
    }

    /// Has everybody have what the configuration says, when no offer from before can be open any more.
    pub(super) fn end_honouring(&mut self, now: Now) {
        if self.promises.ends_honouring(now.seconds()) {
            self.settle(None, now);
            self.refresh_all_hosts(false, now);
            let gone = self.drop_unused_sets();
            self.commands.extend(gone.into_iter().map(Command::DeleteAnswer));
        }
    }

    /// Finds everything of a subnet at its new index, and forgets what is of subnets that are no more: the store has it,
    /// for the day they come back.
    fn renumber(&mut self, before: &[Subnet]) -> Vec<AnswerKey> {
        let moved = Moved::new(before, self.policy.subnets());
        if moved.is_nothing() {
            return Vec::new();
        }
        let of = |old| moved.of(old);
        for (mac, binding) in self.bindings.renumber(of) {
            self.stop_probe(mac, binding.address);
            self.drop_entry_for(mac, binding.address);
        }
        self.turned_away.renumber(of);
        self.declines.renumber(of);
        self.cards.renumber(of);
        self.answers.renumber(of)
    }

    /// Nobody gets what is reserved out of a pool, and anybody what is reserved no longer.
    fn change_reserved(&mut self, before: impl Iterator<Item = Ipv4Addr>) {
        for address in before {
            if !self.is_own(address) && self.machines.by_reserved(address).is_none() {
                self.bindings.include(address);
            }
        }
        let reserved: Vec<_> = self.machines.all().iter().filter_map(|known| known.machine.ip).collect();
        for address in reserved {
            self.bindings.exclude(address);
        }
    }
}
