//! The tables after a reload.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use boot_common::Mac;
use boot_common::tables::{AnswerKey, Host};

use crate::Engine;
use crate::command::Now;
use crate::config::{DhcpRole, Machine};
use crate::leases::binding::State;
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
    pub(super) fn refresh_hosts(&mut self, machines: &[Arc<Machine>], strangers_speak: bool, now: Now) {
        let known: Vec<(Mac, Host)> = self.entries.hosts().map(|(mac, host)| (mac, *host)).collect();
        let proxied = self.proxied.macs();
        for (mac, host) in known {
            let is_stranger = self.machines.by_mac(mac).is_none();
            if is_stranger && strangers_speak {
                self.drop_host(mac);
                continue;
            }
            if host.address == [0; 4] {
                if self.policy.serves(mac) && (!is_stranger || proxied.contains(&mac)) {
                    self.put_proxied_host(mac);
                } else {
                    self.drop_host(mac);
                }
                continue;
            }
            let binding = self.bindings.with(mac, Ipv4Addr::from(host.address));
            let set = self.answers.set(host.answer_set).cloned();
            let (Some(binding), Some(set)) = (binding, set) else {
                self.drop_host(mac);
                continue;
            };
            let is_given_up = self.is_unfit(&binding) && !self.honours_offers();
            if !self.policy.serves(mac) || is_given_up {
                self.drop_host(mac);
                continue;
            }
            let number = self.set(set.position, set.subnet, set.server, self.policy.differences(mac));
            let mut entry = self.host(mac, &binding, number, host.durable_until, now);
            entry.bound_until = match (binding.state, host.bound_until) {
                (State::Reserved, _) => u64::MAX,
                _ if entry.bound_until == 0 => 0,
                // It was declined: until the probe has ended, the machine is the daemon's.
                _ if self.is_probed(mac, binding.address) => 0,
                // It was taken back, and whoever comes back for it has to be bound anew.
                (State::Idle | State::Released(_), 0) => 0,
                (_, 0 | u64::MAX) => entry.bound_until,
                (_, kept) => kept,
            };
            self.insert_host(mac, entry);
        }
        self.put_missing_hosts(machines, strangers_speak, now);
    }

    /// Machines that have no entry and would have one from the start.
    fn put_missing_hosts(&mut self, machines: &[Arc<Machine>], strangers_speak: bool, now: Now) {
        let is_proxy = self.policy.links().iter().any(|link| link.role == DhcpRole::Proxy);
        for mac in machines.iter().filter(|_| is_proxy).flat_map(|machine| &machine.macs) {
            if self.entries.host(*mac).is_none() {
                self.put_proxied_host(*mac);
            }
        }
        let has_to_speak = |mac: Mac| strangers_speak && self.machines.by_mac(mac).is_none();
        let has_none = |mac: Mac| self.entries.host(mac).is_none();
        let is_ready = |mac: Mac| has_none(mac) && self.policy.serves(mac) && !has_to_speak(mac);
        let missing: Vec<(Mac, usize)> = self
            .bindings
            .iter()
            .filter(|(mac, binding)| is_ready(*mac) && !self.is_to_move(*mac, binding))
            // The probe's end gives it its entry, or another address.
            .filter(|(mac, binding)| !self.is_probed(*mac, binding.address))
            .map(|(mac, binding)| (mac, binding.subnet))
            .collect();
        for (mac, subnet) in missing {
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
