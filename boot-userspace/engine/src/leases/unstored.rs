//! Taking back what could not be stored.
//!
//! The engine decides as if every change were stored. When the disk refuses, each machine that was to be promised
//! something has again what it had before, and its answer is not sent.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use boot_common::tables::{Host, HostKey};
use boot_common::{Mac, Reason};
use tracing::debug;

use crate::Engine;
use crate::command::Told;
use crate::leases::binding::Binding;
use crate::leases::holds::Hold;
use crate::leases::record::{Change, Lease};
use crate::leases::state::LeaseState;

/// What a machine had before it was promised more.
#[derive(Debug)]
pub(crate) struct Before {
    mac: Mac,
    binding: Binding,
    held: Option<u64>,
    host: Option<Host>,
}

impl Before {
    fn place(&self) -> (Mac, Ipv4Addr) {
        (self.mac, self.binding.address)
    }
}

/// What machines had before some commands promise them more.
#[derive(Debug, Default)]
pub struct Promised(Vec<Before>);

impl Promised {
    /// Adds what was promised later.
    pub fn extend(&mut self, later: Self) {
        self.0.extend(later.0);
    }
}

impl Engine {
    /// Keeps what a machine has, until the changes of this round are stored.
    pub(crate) fn keep_before(&mut self, mac: Mac, binding: Binding) {
        let host = self.entries.host(mac).copied();
        let held = self.held.get(&mac).copied();
        self.promised.push(Before { mac, binding, held, host });
    }

    /// What the commands that were taken last promise.
    pub fn promised(&mut self) -> Promised {
        Promised(std::mem::take(&mut self.unstored))
    }

    /// Takes back what the commands that were taken last promise: their changes could not be stored.
    pub fn not_stored(&mut self, changes: &[Change]) {
        let promised = self.promised();
        self.take_back(changes, promised);
    }

    /// Takes back what commands promise whose changes could not be stored: the latest that were taken, in their order,
    /// without a gap for any machine that they are about.
    pub fn take_back(&mut self, changes: &[Change], Promised(promised): Promised) {
        let places: HashSet<(Mac, Ipv4Addr)> = promised.iter().map(Before::place).collect();
        for change in changes {
            match change {
                Change::Put(Lease { mac, address, state: LeaseState::OnHold(cause), expires, .. }) => {
                    // With what the machine has stored next.
                    let until = u64::try_from(*expires).unwrap_or(0);
                    self.bindings.holds.begin(*address, Hold { mac: *mac, until, cause: *cause });
                }
                Change::Put(lease)
                    if lease.state == LeaseState::Leased && places.contains(&(lease.mac, lease.address)) => {}
                Change::Put(lease) => self.withdraw(lease.mac, lease.address),
                Change::Delete(..) | Change::Lift(_) => {}
            }
        }
        // A machine may be in it twice: what it had first counts.
        for before in promised.into_iter().rev() {
            self.take_one_back(before);
        }
    }

    fn take_one_back(&mut self, Before { mac, binding, held, host }: Before) {
        // Within the same round it may have lost the address.
        if self.bindings.with(mac, binding.address).is_none() {
            return;
        }
        self.bindings.put(mac, binding);
        match held {
            Some(until) => drop(self.held.insert(mac, until)),
            None => drop(self.held.remove(&mac)),
        }
        // The entry may have been for another subnet that the machine is in.
        match host.filter(|host| self.bindings.with(mac, host.address.into()).is_some()) {
            Some(host) => self.insert_host(mac, host),
            None => {
                self.entries.remove_host(mac, &mut self.commands);
            }
        }
    }

    /// The machine's entry as it is now.
    #[must_use]
    pub fn host_of(&self, key: &HostKey) -> Option<Host> {
        self.entries.host(key.mac).copied()
    }

    /// An answer has not left, for this reason: it is counted as that, and no log line says that it was given.
    pub fn not_sent(&mut self, told: &Told, reason: Reason) {
        debug!(reason = reason.name(), mac = %told.mac, "not answered: {}", reason.says());
        self.count(reason);
    }
}
