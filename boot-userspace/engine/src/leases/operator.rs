//! Leases as an operator sees and changes them.
//!
//! A change is worked out first, stored by the caller, and only then made here: so nothing has to be taken back
//! when the disk refuses.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use boot_common::Mac;
use ipnet::Ipv4Net;

use crate::Engine;
use crate::command::Now;
use crate::leases::binding::{Binding, State};
use crate::leases::bindings::in_pool;
use crate::leases::cards::is_host_name;
use crate::leases::record::{Change, Lease};
use crate::leases::state::LeaseState;
use crate::machines::Known;

pub use which::{NotALease, Which};

/// How long a lease without an end is kept: clients that were given one never ask again. It still fits the kernel's
/// clock, which counts nanoseconds.
pub const FOREVER: Duration = Duration::from_secs(100 * 365 * DAY);
/// In seconds.
const DAY: u64 = 86_400;

/// A lease as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The machine.
    pub mac: Mac,
    /// Its address.
    pub address: Ipv4Addr,
    /// The subnet.
    pub subnet: Ipv4Net,
    /// How far it has the address.
    pub state: LeaseState,
    /// When the promise ends or ended, in Unix seconds. It is made further ahead than the client knows.
    pub expires: Option<u64>,
    /// The machine's name in the configuration, else the one that came with an imported lease.
    pub name: Option<String>,
}

/// A lease to take over from another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The machine.
    pub mac: Mac,
    /// Its address.
    pub address: Ipv4Addr,
    /// When it ends, in Unix seconds; 0: never; none: as if it was given now.
    pub expires: Option<u64>,
    /// The name the machine gave.
    pub hostname: Option<String>,
}

impl Entry {
    /// The same with an end that is later by so many seconds, where it has one.
    #[must_use]
    pub fn later_by(self, seconds: i64) -> Self {
        let later = |end: u64| if end == 0 { 0 } else { end.saturating_add_signed(seconds).max(1) };
        Self { expires: self.expires.map(later), ..self }
    }
}

/// What becomes of an [`Entry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The machine has this lease now.
    Imported,
    /// It has it already, for at least as long.
    Unchanged,
    /// It cannot have it, for this reason.
    Refused(String),
}

/// Why a lease cannot be deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is none.
    #[error("{0} has no lease: `xpxe leases list` shows those there are")]
    Unknown(Which),
    /// The configuration would give it again.
    #[error("{address} is reserved for {machine}: change its [[machine]] in the configuration file instead")]
    Reserved {
        /// The address.
        address: Ipv4Addr,
        /// Whose.
        machine: String,
    },
}

impl Engine {
    /// Every lease in the order of the addresses; `stored` is what the store has. Of many that takes long:
    /// [`snapshot`](Self::snapshot) has another thread put it together.
    #[must_use]
    pub fn leases(&self, stored: &[Lease], now: Now) -> Vec<Shown> {
        self.snapshot(now).with(stored)
    }

    /// The leases to delete, and how: all that a machine has, and only where it has none the holds because of it.
    ///
    /// # Errors
    /// There is none, or the configuration would give it again.
    pub fn to_delete(
        &self,
        which: Which,
        stored: &[Lease],
        now: Now,
    ) -> Result<Vec<(Shown, Change)>, Refusal> {
        let mut meant = which.find(self.leases(stored, now));
        if meant.iter().any(|shown| !shown.state.is_on_hold()) {
            meant.retain(|shown| !shown.state.is_on_hold());
        }
        // Who was recognised by another identity than its MAC makes room for the next one that is.
        let stays = |shown: &Shown| shown.state == LeaseState::Reserved && self.machines.is_named(shown.mac);
        let (reserved, meant): (Vec<Shown>, Vec<Shown>) = meant.into_iter().partition(stays);
        if meant.is_empty() {
            let Some(shown) = reserved.into_iter().next() else { return Err(Refusal::Unknown(which)) };
            let machine = shown.name.unwrap_or_else(|| shown.mac.to_string());
            return Err(Refusal::Reserved { address: shown.address, machine });
        }
        let change = |shown: &Shown| match shown.state {
            LeaseState::OnHold(_) => Change::Lift(shown.address),
            _ => Change::Delete(shown.mac, shown.address),
        };
        Ok(meant.into_iter().map(|shown| (shown.clone(), change(&shown))).collect())
    }

    /// What becomes of leases of another server, in their order, and how.
    #[must_use]
    pub fn to_import(&self, entries: &[Entry], now: Now) -> (Vec<Outcome>, Vec<Change>) {
        let (mut places, mut addresses) = (HashSet::new(), HashSet::new());
        let mut changes = Vec::new();
        let mut judge = |entry: &Entry| -> Result<Outcome, String> {
            let lease = self.imported(entry, now)?;
            if !places.insert((entry.mac, self.policy.subnet_of(entry.address))) {
                return Err(format!("{} is in the list twice for one subnet", entry.mac));
            }
            // The machines of one reservation share its address.
            if !addresses.insert(entry.address) && self.reserved(entry.mac) != Some(entry.address) {
                return Err(format!("{} is in the list twice", entry.address));
            }
            let Some(lease) = lease else { return Ok(Outcome::Unchanged) };
            changes.push(Change::Put(lease));
            Ok(Outcome::Imported)
        };
        let outcomes = entries.iter().map(|entry| judge(entry).unwrap_or_else(Outcome::Refused)).collect();
        (outcomes, changes)
    }

    /// The lease that an entry becomes; none when the machine has it already.
    fn imported(&self, entry: &Entry, now: Now) -> Result<Option<Lease>, String> {
        let Entry { mac, address, .. } = *entry;
        self.may_have(mac, address)?;
        let index = self.policy.subnet_of(address);
        let found = index.and_then(|index| Some((index, self.policy.subnets().get(index)?)));
        let Some((index, subnet)) = found else { return Err(format!("{address} is in no [[subnet]]")) };
        let latest = now.seconds() + FOREVER.as_secs();
        let expires = match entry.expires {
            None => now.seconds() + subnet.lease.as_secs(),
            Some(0) => latest,
            Some(expires) => expires.min(latest),
        };
        let is_live = |binding: Binding| match binding.state {
            State::Offered(until) | State::Leased(until) => {
                Some(until).filter(|until| *until > now.seconds())
            }
            State::Reserved | State::Released(_) | State::Idle => None,
        };
        let state = if expires > now.seconds() { LeaseState::Leased } else { LeaseState::Released };
        if let Some(other) = self.bindings.owner(address).filter(|other| *other != mac)
            && self.reserved(mac) != Some(address)
            && (state == LeaseState::Released
                || self.bindings.with(other, address).and_then(is_live).is_some())
        {
            return Err(format!("{address} is {other}'s: delete that lease first"));
        }
        if let Some(own) = self.bindings.get(mac, index) {
            let live = is_live(own);
            if own.address != address && live.is_some() {
                return Err(format!(
                    "{mac} has {} by a lease that still runs: delete that first",
                    own.address
                ));
            }
            let has_it = match own.state {
                State::Reserved => entry.expires.is_none(),
                // Without end is as long as it was a moment ago.
                State::Leased(_) if expires == latest => live >= Some(latest - DAY),
                State::Leased(_) => live >= Some(expires),
                State::Released(_) | State::Idle => state == LeaseState::Released,
                State::Offered(_) => false,
            };
            if own.address == address && has_it {
                return Ok(None);
            }
        }
        let seconds = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let hostname = entry.hostname.clone().filter(|name| is_host_name(name));
        Ok(Some(Lease {
            mac,
            address,
            subnet: subnet.cidr,
            state,
            expires: seconds(expires),
            hostname: self.policy.client(mac).name.or(hostname),
            recognised_by: self.machines.recognised_by(mac),
            updated: seconds(now.seconds()),
        }))
    }

    /// Whether the configuration lets a machine have an address; the rules are those by which leases are restored.
    fn may_have(&self, mac: Mac, address: Ipv4Addr) -> Result<(), String> {
        let [first, ..] = mac.0;
        if first & 1 != 0 || mac.0 == [0; 6] {
            return Err(format!("{mac} is no machine's address"));
        }
        let index = self.policy.subnet_of(address);
        let Some(subnet) = index.and_then(|index| self.policy.subnets().get(index)) else {
            return Err(format!("{address} is in no [[subnet]]"));
        };
        if !self.policy.serves(mac) {
            return Err(format!("the configuration ignores {mac}: name it in a [[machine]]"));
        }
        match self.reserved(mac) {
            Some(reserved) if reserved == address => return Ok(()),
            Some(reserved) if self.policy.subnet_of(reserved) == index => {
                return Err(format!("the configuration has {reserved} for {mac}"));
            }
            // In another subnet it has an address of the pool.
            Some(_) | None => {}
        }
        if let Some(Known { machine, .. }) = self.machines.by_reserved(address) {
            let name = machine.name.clone().or_else(|| Some(machine.macs.first()?.to_string()));
            return Err(format!(
                "{address} is reserved for {}",
                name.as_deref().unwrap_or("another machine")
            ));
        }
        if !in_pool(subnet, address) {
            return Err(format!(
                "{address} is in no pool of {}: add it to one, or reserve it by a [[machine]]",
                subnet.cidr
            ));
        }
        let own = self.policy.links().iter().flat_map(|link| &link.addresses);
        if subnet.router == Some(address) || own.into_iter().any(|net| net.addr() == address) {
            return Err(format!("{address} is the router's or the server's"));
        }
        Ok(())
    }

    /// The address that the configuration has for a machine.
    fn reserved(&self, mac: Mac) -> Option<Ipv4Addr> {
        self.policy.reserved(mac)
    }

    /// Makes changes that are stored already. Queues what the kernel has to know.
    pub fn change_leases(&mut self, changes: &[Change], now: Now) {
        for change in changes {
            match change {
                // What is reserved for it stays: the row was of an address that it had before.
                Change::Delete(mac, address) if self.has_reserved(*mac, *address) => {}
                Change::Delete(mac, address) => self.free(*mac, *address),
                Change::Lift(address) => self.bindings.lift(*address),
                Change::Put(lease) => self.take_over(lease, now),
            }
        }
    }

    fn has_reserved(&self, mac: Mac, address: Ipv4Addr) -> bool {
        let reserved =
            self.bindings.with(mac, address).is_some_and(|binding| binding.state == State::Reserved);
        reserved && self.machines.is_named(mac)
    }

    /// Takes an address from a machine, here and in the kernel. Those that it has in other subnets stay.
    pub(crate) fn free(&mut self, mac: Mac, address: Ipv4Addr) {
        let binding = self.bindings.remove(mac, address);
        if binding.is_some_and(|binding| binding.state == State::Reserved) {
            self.cards.set_claim(mac, None);
        }
        if !self.bindings.has(mac) {
            self.cards.forget_name(mac);
            if !self.machines.is_named(mac) && self.machines.recognised(mac).is_none() {
                self.machines.forget(mac);
            }
        }
        // What its probe finds is about an address that is no longer its.
        self.stop_probe(mac, address);
        self.drop_entry_for(mac, address);
    }

    /// Keeps a machine's name for the next time its lease is stored, if it can be a host name.
    pub(crate) fn keep_hostname(&mut self, mac: Mac, name: Option<&str>) {
        if let Some(name) = name
            && self.policy.name(mac).is_none()
        {
            self.cards.keep_name(mac, name);
        }
    }

    fn take_over(&mut self, lease: &Lease, now: Now) {
        let (mac, address) = (lease.mac, lease.address);
        let Some(subnet) = self.policy.subnet_of(address) else { return };
        let expires = u64::try_from(lease.expires).unwrap_or(0);
        // Both are whole seconds, and a promise must not be the longer one.
        let left = Duration::from_secs(expires.saturating_sub(now.seconds() + 1));
        let durable_until = match lease.state {
            LeaseState::Leased if !left.is_zero() => {
                u64::try_from(now.boot.saturating_add(left).as_nanos()).unwrap_or(0)
            }
            _ => 0,
        };
        if self.reserved(mac) != Some(address) {
            // The loser's row in the store went when this one's was written.
            if let Some(other) = self.bindings.owner(address).filter(|other| *other != mac) {
                self.free(other, address);
            }
            // By the import it has this one there.
            if let Some(old) = self.bindings.get(mac, subnet) {
                self.free(mac, old.address);
            }
            let state = if durable_until > 0 { State::Leased(expires) } else { State::Idle };
            self.bindings.put(mac, Binding { address, subnet, state });
        }
        self.keep_hostname(mac, lease.hostname.as_deref());
        self.machines.put(address, mac);
        self.put_direct_host(mac, subnet, durable_until, now);
        self.set_durable(mac, address, durable_until);
    }
}

#[cfg(test)]
mod tests;
mod which;
