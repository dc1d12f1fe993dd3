//! The machines' entries in the tables.

use boot_common::Mac;
use boot_common::tables::{Host, IGNORED_SET, SHARED};
use boot_common::wire::option;
use std::net::Ipv4Addr;
use zerocopy::FromZeros as _;

use crate::Engine;
use crate::answers::prepare::put_own_options;
use crate::command::Now;
use crate::config::DhcpRole;
use crate::leases::binding::{Binding, State};
use crate::policy::requester::Requester;

impl Engine {
    /// Writes the entry of a machine that has not been heard yet: for where its subnet is directly on an interface.
    pub(crate) fn put_direct_host(&mut self, mac: Mac, subnet: usize, durable_until: u64, now: Now) {
        let Some(binding) = self.bindings.get(mac, subnet) else { return };
        let found = self.policy.links().iter().enumerate().find_map(|(position, link)| {
            let (_, address) = self.policy.direct(link).find(|(subnet, _)| *subnet == binding.subnet)?;
            (link.role == DhcpRole::Server).then_some((position, address))
        });
        if let Some((position, address)) = found {
            let who = self.policy.requester(mac);
            let set = self.set(position, Some(binding.subnet), address, who.differences.clone());
            self.put_host(&who, &binding, set, durable_until, now);
        }
    }

    /// Writes the entry of a machine that is ignored, so that its requests end in the kernel half.
    pub(crate) fn put_ignored_host(&mut self, mac: Mac) {
        self.insert_host(mac, Host::new_zeroed());
    }

    /// Writes the entry of a machine that a proxy boots otherwise than its neighbours.
    pub(crate) fn put_proxied_host(&mut self, mac: Mac) {
        let proxy = self.policy.links().iter().enumerate().find(|(_, link)| link.role == DhcpRole::Proxy);
        let Some((position, link)) = proxy else { return };
        let Some(entry) = self.entries.link(link.ifindex).copied() else { return };
        let set = self.set(position, None, Ipv4Addr::from(entry.address), self.policy.differences(mac));
        let mut host = Host::new_zeroed();
        host.answer_set = set;
        host.mask = [255; 4];
        host.port_decides = u8::from(self.policy.port_decides(self.machines.is_named(mac)));
        self.insert_host(mac, host);
    }

    /// The same for a machine that has asked, known or not: of the unknown ones, the oldest entry makes room.
    pub(super) fn put_proxied_stranger(&mut self, mac: Mac) {
        let is_known = self.entries.host(mac).is_some();
        self.put_proxied_host(mac);
        if is_known || self.machines.is_named(mac) {
            return;
        }
        if let Some(oldest) = self.proxied.add(mac)
            // A server's entry, by now, has its lease's time.
            && !self.bindings.has(oldest)
        {
            self.entries.remove_host(oldest, &mut self.commands);
        }
    }

    /// Writes a machine's entry. A machine has one: of several subnets that it is in, the kernel half answers in the one
    /// where it was heard last, and the daemon in the others. Gives the entry.
    pub(super) fn put_host(
        &mut self,
        who: &Requester,
        binding: &Binding,
        set: u32,
        durable_until: u64,
        now: Now,
    ) -> Host {
        let host = self.host(who, binding, set, durable_until, now);
        self.insert_host(who.mac, host);
        host
    }

    /// How far the kernel may promise a machine this address. What is stored for another one, in another subnet perhaps,
    /// is no promise of it.
    pub(crate) fn durable_until(&self, mac: Mac, binding: &Binding) -> u64 {
        self.entry(mac, binding.address).map_or(0, |host| host.durable_until)
    }

    /// The machine's entry, if it is for this address.
    pub(crate) fn entry(&self, mac: Mac, address: Ipv4Addr) -> Option<Host> {
        self.entries.host_with(mac, address.octets()).copied()
    }

    /// Changes how far the kernel may promise a machine this address.
    pub(crate) fn set_durable(&mut self, mac: Mac, address: Ipv4Addr, durable_until: u64) {
        if let Some(host) = self.entry(mac, address) {
            self.insert_host(mac, Host { durable_until, ..host });
        }
    }

    /// Takes the promise of a lease back from the kernel, and with it the address unless it is reserved: whoever comes
    /// back for it has to be bound to it again.
    pub(crate) fn withdraw(&mut self, mac: Mac, address: Ipv4Addr) {
        if let Some(host) = self.entry(mac, address) {
            let bound_until = if host.bound_until >= SHARED { host.bound_until } else { 0 };
            self.insert_host(mac, Host { durable_until: 0, bound_until, ..host });
        }
        self.promises.withdraw(mac);
    }

    /// A machine that has got another address in a subnet must not be offered its old one, which may be somebody else's by
    /// now. What it has in another subnet stays.
    pub(crate) fn drop_stale_entry(&mut self, mac: Mac) {
        if let Some(host) = self.entries.host(mac)
            && self.bindings.with(mac, Ipv4Addr::from(host.address)).is_none()
        {
            self.drop_entry(mac);
        }
    }

    pub(crate) fn drop_entry_for(&mut self, mac: Mac, address: Ipv4Addr) {
        if self.entry(mac, address).is_some() {
            self.drop_entry(mac);
        }
    }

    fn drop_entry(&mut self, mac: Mac) {
        self.entries.remove_host(mac, &mut self.commands);
    }

    /// Writes a machine's entry, whatever it is for: of one that is ignored, that it is.
    pub(crate) fn insert_host(&mut self, mac: Mac, mut host: Host) {
        if self.machines.has_lives() && self.machines.is_ignored(mac) {
            host = Host::new_zeroed();
            (host.answer_set, host.mask) = (IGNORED_SET, [255; 4]);
            host.port_decides = u8::from(self.policy.port_decides(self.machines.is_named(mac)));
        }
        self.entries.put_host(mac, host, &mut self.commands);
    }

    pub(crate) fn host(
        &self,
        who: &Requester,
        binding: &Binding,
        set: u32,
        durable_until: u64,
        now: Now,
    ) -> Host {
        let subnet = self.policy.subnets().get(binding.subnet);
        let mut host = Host::new_zeroed();
        host.durable_until = durable_until;
        // The kernel offers nobody an address that is to become another one.
        host.bound_until = match binding.state {
            _ if self.is_to_move(who.reserved(), binding) => 0,
            State::Reserved if !who.is_named() => SHARED,
            _ => binding.bound_until(now),
        };
        host.answer_set = set;
        host.port_decides = u8::from(self.policy.port_decides(who.is_named()));
        host.address = binding.address.octets();
        host.mask = subnet.map_or([255; 4], |subnet| subnet.cidr.netmask().octets());
        // A configured option 12 goes before the name.
        let is_configured = self.policy.has_option(&who.differences, subnet, option::HOST_NAME);
        put_own_options(&mut host, who.name().filter(|_| !is_configured));
        host
    }
}
