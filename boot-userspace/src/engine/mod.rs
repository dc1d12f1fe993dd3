//! DHCP policy, leases, machines, transfers and boot decisions: no IO and no clock in here.
//!
//! [`Engine::handle`] takes a packet and the time, and queues [`Command`]s. What the tables can answer is
//! answered by the very function that runs in the kernel; only what they cannot goes on to [`dhcp`].

pub mod answers;
pub mod boot;
pub mod command;
mod dhcp;
mod join;
pub mod lease;
pub mod leases;
pub mod packet;
pub mod policy;
pub mod record;
pub mod roster;
pub mod script;
mod sets;
#[cfg(test)]
mod tests;
pub mod tftp;

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use boot_common::class::{Class, Stage};
use boot_common::classify::client;
use boot_common::memory::Memory;
use boot_common::respond::{Answered, Scratch, respond};
use boot_common::tables::{AnswerKey, Event, Hook, Host, HostKey, Link, role};
use boot_common::{Mac, Reason};
use tracing::{debug, info};

use crate::config::DhcpRole;
use crate::engine::command::{Command, Incoming, Now};
use crate::engine::dhcp::Pending;
use crate::engine::lease::{Binding, Bindings, State};
use crate::engine::policy::{Differences, Policy, Port};
use crate::engine::record::{Change, Lease, LeaseState};
use crate::engine::roster::Roster;
use crate::engine::sets::{Set, Sets};

/// Everything the daemon knows and decides.
pub struct Engine {
    policy: Policy,
    /// The truth that the kernel's tables are filled from.
    tables: Memory,
    sets: Sets,
    bindings: Bindings,
    roster: Roster,
    /// Machines whose address is being looked for on the network.
    probing: HashMap<Mac, Pending>,
    scratch: Box<Scratch>,
    commands: Vec<Command>,
    /// How packets that reached the daemon ended.
    counters: HashMap<Reason, u64>,
    /// Complaints that were made once and need not be repeated.
    said: HashSet<String>,
}

impl Engine {
    /// Begins with what the store has. Queues the commands that fill the kernel's tables.
    pub fn new(policy: Policy, leases: &[Lease], roster: Roster, now: Now) -> Self {
        let mut engine = Self {
            policy,
            tables: Memory::default(),
            sets: Sets::default(),
            bindings: Bindings::default(),
            roster,
            probing: HashMap::new(),
            scratch: Box::new(Scratch::new()),
            commands: Vec::new(),
            counters: HashMap::new(),
            said: HashSet::new(),
        };
        engine.put_links();
        engine.spare_own_addresses();
        engine.put_reservations();
        engine.restore(leases, now);
        engine
    }

    /// A packet that the daemon's sockets received.
    pub fn handle(&mut self, incoming: &Incoming<'_>, now: Now) {
        let Some(link) = self.tables.links.get(&incoming.ifindex).copied() else {
            return self.count(Reason::NoLink);
        };
        let Some(request) = packet::frame(incoming, &link) else {
            return self.count(Reason::TooLong);
        };
        let mut frame = request.clone();
        match respond(&mut frame, &mut self.scratch, &self.tables, incoming.ifindex, now.nanos()) {
            Ok(answered) => {
                self.count(answered.reason);
                let mac = client(&self.scratch.request);
                self.answered(mac, &answered, Hook::Daemon, incoming.ifindex);
                self.send(incoming, frame.0, &link);
            }
            Err(reason) => {
                if let Err(reason) = self.decide(reason, request, incoming, &link, now) {
                    debug!(reason = reason.name(), from = %incoming.from, "not answered: {}", reason.says());
                    self.count(reason);
                }
            }
        }
    }

    /// A packet that the kernel half answered.
    pub fn kernel_answered(&mut self, event: &Event, now: Now) {
        let Some(reason) = Reason::ALL.get(event.reason as usize).copied() else { return };
        let Some(class) = Class::from_key(event.class) else { return };
        let answered = Answered { reason, address: event.address, class };
        self.answered(event.mac, &answered, Hook::from_number(event.hook), event.ifindex);
        if reason == Reason::Acked {
            self.keep_promise(event, now);
        }
    }

    /// Frees what has run out: offers that nobody requested.
    pub fn tick(&mut self, now: Now) {
        let run_out: Vec<Mac> = self
            .bindings
            .iter()
            .filter(|(_, binding)| matches!(binding.state, State::Offered(until) if until <= now.seconds()))
            .map(|(mac, _)| mac)
            .collect();
        for mac in run_out {
            if let Some(binding) = self.bindings.get(mac) {
                self.bindings.put(mac, Binding { state: State::Idle, ..binding });
            }
        }
    }

    /// What is to be done, in order.
    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How packets that reached the daemon ended.
    #[must_use]
    pub fn counter(&self, reason: Reason) -> u64 {
        self.counters.get(&reason).copied().unwrap_or(0)
    }

    /// Whether the tables have this interface, machine or answer: for what was adopted from an earlier daemon.
    #[must_use]
    pub fn has_link(&self, ifindex: u32) -> bool {
        self.tables.links.contains_key(&ifindex)
    }

    /// See [`has_link`](Self::has_link).
    #[must_use]
    pub fn has_host(&self, key: &HostKey) -> bool {
        self.tables.hosts.contains_key(key)
    }

    /// See [`has_link`](Self::has_link).
    #[must_use]
    pub fn has_answer(&self, key: &AnswerKey) -> bool {
        self.tables.answers.contains_key(key)
    }

    /// The interfaces, for the kernel's table.
    pub fn links(&self) -> impl Iterator<Item = (u32, Link)> {
        self.tables.links.iter().map(|(ifindex, link)| (*ifindex, *link))
    }

    fn put_links(&mut self) {
        let ports: Vec<Port> = self.policy.ports().to_vec();
        for (position, port) in ports.iter().enumerate() {
            let Some(address) = self
                .policy
                .direct(port)
                .map(|(_, address)| address)
                .next()
                .or_else(|| port.addresses.first().map(ipnet::Ipv4Net::addr))
            else {
                continue;
            };
            let role = match port.role {
                DhcpRole::Server => role::SERVER,
                DhcpRole::Proxy => role::PROXY,
                DhcpRole::Off => role::OFF,
            };
            let strangers_ask = u8::from(self.policy.strangers_ask());
            let proxy_set =
                if role == role::OFF { 0 } else { self.set(position, None, address, Differences::default()) };
            let link = Link { mac: port.mac, role, strangers_ask, address: address.octets(), proxy_set };
            self.tables.links.insert(port.ifindex, link);
            if port.role == DhcpRole::Server {
                let direct: Vec<(usize, Ipv4Addr)> = self.policy.direct(port).collect();
                for (subnet, address) in direct {
                    self.set(position, Some(subnet), address, Differences::default());
                }
            }
        }
    }

    /// The number of an answer set, with its answers prepared.
    fn set(
        &mut self,
        position: usize,
        subnet: Option<usize>,
        server: Ipv4Addr,
        differences: Differences,
    ) -> u32 {
        let set = Set { position, subnet, server, differences };
        self.sets.number(set, &self.policy, &mut self.tables, &mut self.commands)
    }

    /// A pool may contain our own addresses; nobody gets them.
    fn spare_own_addresses(&mut self) {
        let own: Vec<Ipv4Addr> = self
            .policy
            .ports()
            .iter()
            .flat_map(|port| port.addresses.iter().map(ipnet::Ipv4Net::addr))
            .collect();
        for address in own {
            self.bindings.spare(address);
        }
    }

    /// Machines with a fixed address, or that a proxy boots, are known to the kernel from the start.
    fn put_reservations(&mut self) {
        let macs: Vec<Mac> = self.policy.machines().iter().flat_map(|machine| machine.macs.clone()).collect();
        for mac in macs {
            self.put_proxied_host(mac);
        }
        let reserved: Vec<(Mac, Ipv4Addr)> = self
            .policy
            .machines()
            .iter()
            .filter_map(|machine| Some((machine, machine.ip?)))
            .flat_map(|(machine, ip)| machine.macs.iter().map(move |mac| (*mac, ip)))
            .collect();
        for machine in self.policy.machines() {
            for mac in &machine.macs {
                self.roster.know(&self.policy.client(*mac));
            }
        }
        for (mac, address) in reserved {
            let Some(subnet) = self.policy.subnet_of(address) else { continue };
            self.bindings.put(mac, Binding { address, subnet, state: State::Reserved });
            self.roster.put(address, self.policy.client(mac));
            self.put_direct_host(mac, 0);
        }
    }

    /// Leases that still fit the configuration. The others are left in the store: an operator may have made a
    /// mistake in the file, and takes it back.
    fn restore(&mut self, leases: &[Lease], now: Now) {
        for lease in leases {
            if !self.policy.serves(lease.mac) {
                continue;
            }
            let Some(subnet) = self.policy.subnet_of(lease.address) else { continue };
            self.policy.remember(lease.mac, lease.address);
            let mut durable_until = 0;
            let expires = u64::try_from(lease.expires).unwrap_or(0);
            if lease.state == LeaseState::Leased && expires > now.seconds() {
                // Both are whole seconds, and a promise must not be the longer one.
                let left = Duration::from_secs(expires - now.seconds() - 1);
                durable_until = u64::try_from((now.boot + left).as_nanos()).unwrap_or(0);
            }
            match self.bindings.get(lease.mac) {
                Some(reserved) if reserved.address == lease.address => {}
                // It was elsewhere, and what it got there is promised until then.
                Some(reserved)
                    if reserved.subnet != subnet
                        && durable_until > 0
                        && self.bindings.owner(lease.address).is_none() =>
                {
                    let state = State::Leased(expires);
                    self.bindings.put(lease.mac, Binding { address: lease.address, subnet, state });
                }
                Some(_) => continue,
                None => {
                    let pools = self.policy.subnets().get(subnet);
                    let reserved = self
                        .policy
                        .machine(lease.mac)
                        .is_some_and(|machine| machine.ip == Some(lease.address));
                    let in_pool = pools.is_some_and(|pools| lease::in_pool(pools, lease.address));
                    if self.bindings.owner(lease.address).is_some() || !(in_pool || reserved) {
                        continue;
                    }
                    let state = match lease.state {
                        _ if reserved => State::Reserved,
                        LeaseState::Leased if durable_until > 0 => State::Leased(expires),
                        _ => State::Idle,
                    };
                    self.bindings.put(lease.mac, Binding { address: lease.address, subnet, state });
                    self.roster.put(lease.address, self.policy.client(lease.mac));
                }
            }
            self.put_direct_host(lease.mac, durable_until);
        }
    }

    /// Takes over what the kernel's table has beyond the store: machines that were offered an address when the
    /// last daemon ended, and are about to request it. Gives their number.
    pub fn adopt(&mut self, hosts: &[(HostKey, Host)], now: Now) -> usize {
        let mut adopted = 0;
        for (HostKey { mac, .. }, host) in hosts {
            let address = Ipv4Addr::from(host.address);
            let Some(subnet) = self.policy.subnet_of(address) else { continue };
            let in_pool =
                self.policy.subnets().get(subnet).is_some_and(|pools| lease::in_pool(pools, address));
            if !in_pool
                || !self.policy.serves(*mac)
                || self.bindings.get(*mac).is_some()
                || self.bindings.owner(address).is_some()
            {
                continue;
            }
            let state = State::Offered(now.seconds() + lease::OFFER_HOLDS);
            self.bindings.put(*mac, Binding { address, subnet, state });
            self.roster.put(address, self.policy.client(*mac));
            self.put_direct_host(*mac, 0);
            adopted += 1;
        }
        adopted
    }

    /// Takes back promises that could not be stored.
    pub fn not_stored(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Put(lease) = change {
                self.set_durable(lease.mac, 0);
            }
        }
    }

    /// Logs who was answered, by whom.
    fn answered(&mut self, mac: Mac, answered: &Answered, by: Hook, ifindex: u32) {
        let address = Ipv4Addr::from(answered.address);
        let client = self.policy.client(mac);
        if address.is_unspecified() {
            self.roster.know(&client);
        } else {
            self.roster.put(address, client.clone());
        }
        let (step, verb) = match answered.reason {
            Reason::Offered => ("offer", "offered"),
            Reason::Acked => ("ack", "acknowledged"),
            Reason::Informed => ("ack", "gave the options to"),
            _ => ("ack", "told the boot file to"),
        };
        let name = client.name.as_deref().unwrap_or("");
        let (class, by) = (describe(answered.class), by.name());
        let boots = self.boots(mac, answered.class, ifindex);
        if address.is_unspecified() {
            info!(step, by, %mac, name, class, "{verb} {class}: boot {boots}");
        } else if boots.is_empty() {
            info!(step, by, %mac, name, class, %address, "{verb} {address} to {class}");
        } else {
            info!(step, by, %mac, name, class, %address, "{verb} {address} to {class}: boot {boots}");
        }
    }

    fn boots(&self, mac: Mac, class: Class, ifindex: u32) -> String {
        let Some((_, port)) = self.policy.port(ifindex) else { return String::new() };
        match self.policy.boot_file(class, port.http, &self.policy.differences(mac)) {
            Ok(Some(file)) => file.text().to_owned(),
            Ok(None) | Err(_) => String::new(),
        }
    }

    fn count(&mut self, reason: Reason) {
        *self.counters.entry(reason).or_default() += 1;
    }

    /// True the first time.
    fn first(&mut self, what: String) -> bool {
        // Bounded: a flood of different clients must not fill the memory.
        self.said.len() < 10_000 && self.said.insert(what)
    }

    fn send(&mut self, incoming: &Incoming<'_>, frame: Vec<u8>, link: &Link) {
        let via = dhcp::via(&frame, incoming, link);
        self.commands.push(Command::Send { ifindex: incoming.ifindex, frame, via });
    }
}

/// A class in words.
fn describe(class: Class) -> String {
    match class.stage {
        Stage::Rom => class.firmware.name().to_owned(),
        Stage::Ipxe => format!("iPXE on {}", class.firmware.name()),
        Stage::Os => "an operating system".to_owned(),
    }
}
