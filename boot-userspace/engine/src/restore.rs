//! What an engine begins with: reservations, the leases of the store, and what the kernel's tables have beyond it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use boot_common::tables::{Host, HostKey};
use tracing::warn;

use crate::Engine;
use crate::command::Now;
use crate::config::Machine;
use crate::leases::binding::{Binding, State};
use crate::leases::bindings::{OFFER_HOLDS, in_pool};
use crate::leases::holds::Hold;
use crate::leases::record::Lease;
use crate::leases::state::{HoldCause, LeaseState};
use crate::machines::Known;

impl Engine {
    /// A pool may contain our own addresses; nobody gets them.
    pub(crate) fn exclude_own_addresses(&mut self) {
        let own: Vec<Ipv4Addr> = self
            .policy
            .links()
            .iter()
            .flat_map(|link| link.addresses.iter().map(ipnet::Ipv4Net::addr))
            .collect();
        for address in own {
            self.bindings.exclude(address);
        }
    }

    /// Machines with a fixed address, or that a proxy boots, are known to the kernel from the start.
    pub(crate) fn put_reservations(&mut self, now: Now) {
        let machines = self.machines.all();
        for mac in machines.iter().flat_map(|known| &known.machine.macs) {
            self.put_proxied_host(*mac);
            if self.machines.is_ignored(*mac) {
                self.put_ignored_host(*mac);
            }
        }
        let reserved = |known: &Known| Some((Arc::clone(&known.machine), known.machine.ip?));
        let reserved: Vec<(Arc<Machine>, Ipv4Addr)> = machines.iter().filter_map(reserved).collect();
        // By UUID or switch port, too.
        for (_, address) in &reserved {
            self.bindings.exclude(*address);
        }
        let reserved = reserved.iter().flat_map(|(machine, ip)| machine.macs.iter().map(|mac| (*mac, *ip)));
        for (mac, address) in reserved {
            let Some(subnet) = self.policy.subnet_of(address) else { continue };
            self.bindings.put(mac, Binding { address, subnet, state: State::Reserved });
            self.machines.put(address, mac);
            self.put_direct_host(mac, subnet, 0, now);
        }
    }

    /// Leases that still fit the configuration. The others are left in the store: an operator may have made a
    /// mistake in the file, and takes it back.
    pub(crate) fn restore(&mut self, leases: &[Lease], now: Now) {
        // Where a machine was last is what the kernel half gets to know.
        let mut leases: Vec<&Lease> = leases.iter().collect();
        leases.sort_by_key(|lease| lease.updated);
        for lease in leases {
            self.restore_one(lease, now);
        }
    }

    pub(crate) fn restore_one(&mut self, lease: &Lease, now: Now) {
        let Lease { mac, address, .. } = *lease;
        let Some(subnet) = self.policy.subnet_of(address) else { return };
        let expires = u64::try_from(lease.expires).unwrap_or(0);
        // No more is left than there was when it was stored: the wall clock may have been set back since.
        let whole = u64::try_from(lease.expires.saturating_sub(lease.updated)).unwrap_or(0);
        let left = expires.saturating_sub(now.seconds()).min(whole);
        let expires = now.seconds() + left;
        if let LeaseState::OnHold(cause) = lease.state {
            if cause == HoldCause::Promised && left > 0 {
                self.put_off_mere_reservation(address, mac);
            }
            self.bindings.restore_hold(address, Hold { mac, until: expires, cause });
            return;
        }
        if let Some(identity) = &lease.recognised_by {
            self.machines.remember(mac, identity);
        }
        if self.machines.recognised(mac).is_some() {
            self.machines.know(mac);
        }
        let mut durable_until = 0;
        if lease.state == LeaseState::Leased && left > 0 {
            // Both are whole seconds, and a promise must not be the longer one.
            let left = Duration::from_secs(left - 1);
            durable_until = u64::try_from((now.boot + left).as_nanos()).unwrap_or(0);
        }
        if !self.policy.serves(mac) {
            // It is no machine until it shows by what it is known, or the configuration has it no longer. What it was promised
            // is nobody else's all the same.
            if durable_until > 0 {
                self.put_off_reservation(address, mac);
                self.bindings.put(mac, Binding { address, subnet, state: State::Leased(expires) });
            }
            return;
        }
        let has_it = self.bindings.with(mac, address).is_some();
        let has_reserved_instead = self.bindings.of(mac).any(|binding| {
            let is_here = binding.subnet == subnet || self.policy.are_on_one_wire(binding.subnet, subnet);
            binding.state == State::Reserved && is_here
        });
        if !has_it && has_reserved_instead {
            // It has another address by the configuration now, but was promised this one.
            if durable_until > 0 {
                self.put_off_mere_reservation(address, mac);
                if self.bindings.owner(address).is_none() {
                    self.bindings.hold_promised(address, mac, expires);
                }
            }
            return;
        }
        if !has_it {
            let pools = self.policy.subnets().get(subnet);
            let reserved = self.policy.reserved(mac) == Some(address);
            let in_pool = pools.is_some_and(|pools| in_pool(pools, address));
            let is_others = !reserved && self.bindings.is_excluded(address);
            // Our own addresses are excluded, and in no pool nobody's.
            let may_be_its = in_pool || self.machines.by_reserved(address).is_some();
            if durable_until > 0 && may_be_its && is_others {
                self.put_off_reservation(address, mac);
                self.bindings.put(mac, Binding { address, subnet, state: State::Leased(expires) });
                // Without an entry: its next word is for the daemon.
                return;
            }
            if self.bindings.owner(address).is_some() || is_others || !(in_pool || reserved) {
                self.cards.lose(mac, subnet, address);
                return;
            }
            let state = match lease.state {
                _ if reserved => State::Reserved,
                LeaseState::Leased if durable_until > 0 => State::Leased(expires),
                _ => State::Idle,
            };
            let binding = Binding { address, subnet, state };
            self.bindings.put(mac, binding);
            if durable_until > 0 {
                self.hold(mac, self.machines.is_named(mac), &binding, expires);
            }
            self.machines.put(address, mac);
        }
        self.put_direct_host(mac, subnet, durable_until, now);
        // Behind a relay the tables have no entry that knows it.
        let is_reserved = |binding: Binding| binding.state == State::Reserved;
        if durable_until > 0
            && self.bindings.with(mac, address).is_some_and(is_reserved)
            && self.entry(mac, address).is_none()
        {
            self.cards.claim(mac, expires);
        }
        self.keep_hostname(mac, lease.hostname.as_deref());
    }

    /// Takes over what the kernel's table has beyond the store: machines that were offered an address when the
    /// last daemon ended, and are about to request it. Gives their number.
    pub fn adopt(&mut self, hosts: &[(HostKey, Host)], now: Now) -> usize {
        self.promises.adopt();
        let mut adopted = 0;
        let mut lost = 0;
        for (HostKey { mac, .. }, host) in hosts {
            let address = Ipv4Addr::from(host.address);
            let Some(subnet) = self.policy.subnet_of(address) else { continue };
            let in_pool = self.policy.subnets().get(subnet).is_some_and(|pools| in_pool(pools, address));
            if !in_pool || !self.policy.serves(*mac) {
                continue;
            }
            let promised = Duration::from_nanos(host.durable_until).saturating_sub(now.boot).as_secs();
            match self.bindings.get(*mac, subnet) {
                // It has run out by the wall clock only, which was set: nobody else gets it before the promise ends.
                Some(binding)
                    if binding == (Binding { address, subnet, state: State::Idle }) && promised > 0 =>
                {
                    let state = State::Leased(now.seconds() + promised + 1);
                    self.bindings.put(*mac, Binding { state, ..binding });
                    continue;
                }
                Some(_) => continue,
                None if self.bindings.owner(address).is_some() => continue,
                None if self.bindings.is_on_hold(address, now.seconds()) => continue,
                None => {}
            }
            let state = if promised > 0 {
                // Nothing is promised before it is stored: the store has lost it.
                lost += 1;
                State::Leased(now.seconds() + promised + 1)
            } else {
                State::Offered(now.seconds() + OFFER_HOLDS)
            };
            let binding = Binding { address, subnet, state };
            self.bindings.put(*mac, binding);
            self.machines.put(address, *mac);
            self.put_direct_host(*mac, subnet, if promised > 0 { host.durable_until } else { 0 }, now);
            if promised > 0 {
                self.store_again(*mac, &binding, now.seconds() + promised, now);
            }
            adopted += 1;
        }
        if lost > 0 {
            warn!(
                lost,
                "the store has no lease for {lost} machines that the kernel's tables promise an address: the database was emptied, truncated or replaced by an older one. These leases have been stored again. Leases that only the store had are lost: their machines may get other addresses, and other machines theirs (an address that answers ARP or ping is not given out)"
            );
        }
        adopted
    }
}
