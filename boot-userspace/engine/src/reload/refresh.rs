//! The tables after a reload.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use boot_common::Mac;
use boot_common::tables::{ALWAYS, AnswerKey, IGNORED_SET, SHARED};

use crate::Engine;
use crate::command::Now;
use crate::config::DhcpRole;
use crate::leases::binding::{Binding, State};
use crate::policy::Differences;

impl Engine {
    /// Interfaces that are served: which answers strangers get there, and by which address.
    pub(super) fn refresh_links(&mut self) {
        for position in 0..self.policy.links().len() {
            let ifindex = self.policy.links().get(position).map(|link| link.ifindex);
            if ifindex.is_some_and(|ifindex| self.entries.link(ifindex).is_some()) {
                self.put_link(position);
            }
        }
    }

    /// Every machine's entry. What is as it was is not written. With `strangers_speak`, machines that nothing is known of
    /// lose theirs: their next word tells whether they are one that is known by its UUID or switch port.
    pub(super) fn refresh_all_hosts(&mut self, strangers_speak: bool, now: Now) {
        let known: Vec<Mac> = self.entries.hosts().map(|(mac, _)| mac).collect();
        for mac in known {
            self.refresh_host(mac, strangers_speak, now);
        }
        self.put_missing_hosts(strangers_speak, now);
    }

    /// The entry of one machine, if it has one.
    pub(super) fn refresh_host(&mut self, mac: Mac, strangers_speak: bool, now: Now) {
        let Some(host) = self.entries.host(mac).copied() else { return };
        if self.machines.is_ignored(mac) {
            return self.put_ignored_host(mac);
        }
        let is_stranger = self.machines.by_mac(mac).is_none();
        if (is_stranger && strangers_speak) || host.answer_set == IGNORED_SET {
            return self.drop_host(mac);
        }
        if host.address == [0; 4] {
            if self.policy.serves(mac) && (!is_stranger || self.proxied.has(mac)) {
                self.put_proxied_host(mac);
            } else {
                self.drop_host(mac);
            }
            return;
        }
        let binding = self.bindings.with(mac, Ipv4Addr::from(host.address));
        let set = self.answers.set(host.answer_set).cloned();
        let (Some(binding), Some(set)) = (binding, set) else {
            return self.drop_host(mac);
        };
        let is_given_up = self.is_unfit(&binding) && !self.honours_offers();
        if !self.policy.serves(mac) || is_given_up {
            return self.drop_host(mac);
        }
        let who = self.policy.requester(mac);
        let number = self.set(set.position, set.subnet, set.server, who.differences.clone());
        let mut entry = self.host(&who, &binding, number, host.durable_until, now);
        entry.bound_until = match (binding.state, host.bound_until) {
            (State::Reserved, _) => entry.bound_until,
            _ if entry.bound_until == 0 => 0,
            // It was declined: until the probe has ended, the machine is the daemon's.
            _ if self.is_probed(mac, binding.address) => 0,
            // It was taken back, and whoever comes back for it has to be bound anew.
            (State::Idle | State::Released(_), 0) => 0,
            (_, 0 | SHARED..=ALWAYS) => entry.bound_until,
            (_, kept) => kept,
        };
        self.insert_host(mac, entry);
    }

    /// Machines that have no entry and would have one from the start.
    fn put_missing_hosts(&mut self, strangers_speak: bool, now: Now) {
        let named: Vec<Mac> =
            self.machines.all().iter().flat_map(|known| known.machine.macs.clone()).collect();
        for mac in named {
            self.put_named_host(mac);
        }
        let has_to_speak = |mac: Mac| strangers_speak && self.machines.by_mac(mac).is_none();
        let missing: Vec<Mac> = self
            .bindings
            .iter()
            .map(|(mac, _)| mac)
            .filter(|mac| self.entries.host(*mac).is_none() && !has_to_speak(*mac))
            .collect();
        for mac in missing {
            self.put_bound_host(mac, now);
        }
    }

    /// The same for one.
    pub(super) fn put_missing_hosts_of(&mut self, mac: Mac, now: Now) {
        if self.machines.is_named(mac) {
            self.put_named_host(mac);
        }
        if self.entries.host(mac).is_none() {
            self.put_bound_host(mac, now);
        }
    }

    fn put_named_host(&mut self, mac: Mac) {
        if self.entries.host(mac).is_some() {
            return;
        }
        if self.machines.is_ignored(mac) {
            self.put_ignored_host(mac);
        } else {
            self.put_proxied_host(mac);
        }
    }

    /// Of several addresses in several subnets, the last one.
    fn put_bound_host(&mut self, mac: Mac, now: Now) {
        if !self.policy.serves(mac) {
            return;
        }
        let reserved = self.policy.reserved(mac);
        let fits = |binding: &Binding| {
            // The probe's end gives it its entry, or another address.
            !self.is_to_move(reserved, binding) && !self.is_probed(mac, binding.address)
        };
        let subnets: Vec<usize> = self.bindings.of(mac).filter(fits).map(|binding| binding.subnet).collect();
        for subnet in subnets {
            self.put_direct_host(mac, subnet, 0, now);
        }
    }

    fn drop_host(&mut self, mac: Mac) {
        self.entries.remove_host(mac, &mut self.commands);
    }

    /// Drops the sets that no machine and no interface uses. Gives their answers.
    pub(super) fn drop_unused_sets(&mut self) -> Vec<AnswerKey> {
        let mut used: HashSet<u32> = self.entries.hosts().map(|(_, host)| host.answer_set).collect();
        used.extend(self.entries.links().map(|(_, link)| link.proxy_set));
        // Those of strangers on an interface are there from the start.
        let links: Vec<_> = self.policy.links().iter().cloned().enumerate().collect();
        for (position, link) in links {
            if link.role == DhcpRole::Server && self.entries.link(link.ifindex).is_some() {
                let direct: Vec<(usize, Ipv4Addr)> = self.policy.direct(&link).collect();
                for (subnet, server) in direct {
                    used.insert(self.set(position, Some(subnet), server, Differences::default()));
                }
            }
        }
        self.answers.keep(&used)
    }
}
