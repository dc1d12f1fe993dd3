//! Interfaces that change while they are served.

use std::net::{Ipv4Addr, SocketAddrV4};

use boot_common::Mac;
use boot_common::tables::Host;

use crate::Engine;
use crate::command::Now;
use crate::policy::ServedLink;

impl Engine {
    /// An interface was deleted and made again, or has another MAC or other addresses. Its name is what it is known by.
    /// Gives the number that it had; none for an interface that is not served.
    ///
    /// The tables are to be filled anew after that: [`take_first_commands`](Self::take_first_commands).
    pub fn rebind(&mut self, link: ServedLink, now: Now) -> Option<u32> {
        let (position, old) = self.policy.replace_link(link.clone())?;
        self.entries.remove_link(old.ifindex);
        let is_elsewhere = self.named_in_answers(&old) != self.named_in_answers(&link);
        if is_elsewhere {
            self.answers.forget(position);
        }
        self.put_link(position);
        for address in old.addresses.iter().map(ipnet::Ipv4Net::addr) {
            if !self.is_own(address) && self.machines.by_reserved(address).is_none() {
                self.bindings.include(address);
            }
        }
        self.exclude_own_addresses();
        if is_elsewhere {
            self.put_hosts_anew(position, now);
        }
        Some(old.ifindex)
    }

    /// An interface is gone, down, or has no address: nobody is heard there. Gives the number that it had, if it was there
    /// until now.
    pub fn unlink(&mut self, name: &str) -> Option<u32> {
        let ifindex = self.policy.links().iter().find(|link| &*link.name == name)?.ifindex;
        self.entries.remove_link(ifindex).then_some(ifindex)
    }

    /// What machines on an interface are told about us.
    fn named_in_answers(
        &self,
        link: &ServedLink,
    ) -> (Vec<(usize, Ipv4Addr)>, Option<Ipv4Addr>, SocketAddrV4) {
        (self.policy.direct(link).collect(), self.policy.own_address(link), link.http)
    }

    pub(crate) fn is_own(&self, address: Ipv4Addr) -> bool {
        self.policy.links().iter().any(|link| link.addresses.iter().any(|own| own.addr() == address))
    }

    /// Machines whose answers named the addresses that the interface had. Those behind relays get their entries when they
    /// are heard.
    fn put_hosts_anew(&mut self, position: usize, now: Now) {
        let is_stale = |host: &Host| self.answers.is_of(host.answer_set, position);
        let stale = self.entries.hosts().filter(|(_, host)| is_stale(host));
        let stale: Vec<(Mac, Host)> = stale.map(|(mac, host)| (mac, *host)).collect();
        for (mac, host) in stale {
            self.entries.remove_host(mac, &mut self.commands);
            if host.address == [0; 4] {
                self.put_proxied_host(mac);
            } else if let Some(binding) = self.bindings.with(mac, Ipv4Addr::from(host.address)) {
                self.put_direct_host(mac, binding.subnet, host.durable_until, now);
            }
        }
        // Machines of a subnet that is on the interface only now.
        let unknown: Vec<_> = self
            .bindings
            .iter()
            .map(|(mac, binding)| (mac, binding.subnet))
            .filter(|(mac, _)| self.entries.host(*mac).is_none())
            .collect();
        for (mac, subnet) in unknown {
            self.put_direct_host(mac, subnet, 0, now);
        }
    }
}
