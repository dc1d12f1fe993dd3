//! DHCP policy, leases, machines, transfers and boot decisions: no IO and no clock in here.
//!
//! [`Engine::handle`] takes a packet and the time, and queues [`Command`]s. What the tables can answer is
//! answered by the very function that runs in the kernel; only what they cannot goes on to [`dhcp`].

pub mod answers;
pub mod binding;
pub mod bindings;
pub mod boot;
mod by_machine;
pub mod command;
mod complaint;
pub mod config;
mod confirmed;
mod dhcp;
mod dropped;
pub mod events;
pub mod explain;
pub mod fits;
mod happened;
pub mod holds;
pub mod leases;
pub mod machines;
pub mod packet;
pub mod policy;
pub mod pool;
pub mod pools;
mod reassembly;
mod rebind;
pub mod record;
pub mod reload;
mod sets;
pub mod stats;
mod tables;
#[cfg(test)]
mod tests;
pub mod tftp;
pub mod unstored;

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use boot_common::class::Class;
use boot_common::respond::Answered;
use boot_common::scratch::Scratch;
use boot_common::tables::{Answer, AnswerKey, Event, Hook, Host, HostKey, Link, role};
use boot_common::wire::port;
use boot_common::{Mac, Reason};
use tracing::warn;

use crate::binding::{Binding, State};
use crate::bindings::Bindings;
use crate::command::{Command, Incoming, Now, Told};
use crate::complaint::Complaints;
use crate::config::{DhcpRole, Machine};
use crate::confirmed::Confirmed;
use crate::dhcp::{Declines, Pending};
use crate::events::Queue;
use crate::machines::{Known, Machines};
use crate::policy::{Differences, Policy};
use crate::pools::Turned;
use crate::reassembly::reassemble;
use crate::record::{Lease, LeaseState};
use crate::sets::{Set, Sets};
use crate::tables::Tables;
use crate::unstored::Before;

/// For how many seconds a promise that was taken back is remembered: longer than the kernel half's events take to be
/// read.
const WITHDRAWN: u8 = 10;

/// Everything the daemon knows and decides.
pub struct Engine {
    policy: Policy,
    /// The truth that the kernel's tables are filled from.
    tables: Tables,
    sets: Sets,
    bindings: Bindings,
    machines: Machines,
    turned_away: Turned,
    /// Until which second machines that were recognised by another identity than their MAC have what is reserved for them, by an
    /// offer or a lease. Of those behind relays the tables have no entry after a restart.
    held: HashMap<Mac, u64>,
    /// Addresses that machines had from here, by subnet, and cannot have any more: they do not fit the configuration or
    /// their switch port, or were declined. Who asks for it again is refused.
    unfit: HashMap<(Mac, usize), Ipv4Addr>,
    /// Unknown machines with an entry from a proxy, in the order in which they got it.
    proxied: VecDeque<Mac>,
    /// Addresses that are being looked for on the network, for which machine and why.
    probing: HashMap<Ipv4Addr, Pending>,
    declines: Declines,
    scratch: Box<Scratch>,
    commands: Vec<Command>,
    /// What the machines had that `commands` promise something, and those that the commands taken last promise something.
    promised: Vec<Before>,
    unstored: Vec<Before>,
    /// Machines whose promise was taken back a moment ago, and the seconds for which this is remembered: the kernel
    /// half may have made it once more before it knew.
    withdrawn: HashMap<Mac, u8>,
    /// Until which second offers from before the last reload are honoured, though the configuration has it otherwise now.
    honoured_until: Option<u64>,
    /// For how many seconds any machine may be one of them: the last daemon may have ended while it took a promise
    /// back.
    adopted: u8,
    confirmed: Confirmed,
    reduced: dhcp::Reduced,
    /// What has happened since somebody asked last.
    events: Queue,
    /// The names of machines that have none in the configuration: as they said, or as came with an imported lease.
    hostnames: HashMap<Mac, Box<str>>,
    /// How packets that reached the daemon ended.
    counters: HashMap<Reason, u64>,
    complaints: Complaints,
}

impl Engine {
    /// Begins with what the store has. Queues the commands that fill the kernel's tables.
    pub fn new(policy: Policy, leases: &[Lease], now: Now) -> Self {
        let mut engine = Self {
            machines: policy.machines().clone(),
            policy,
            tables: Tables::default(),
            sets: Sets::default(),
            bindings: Bindings::default(),
            turned_away: Turned::default(),
            held: HashMap::new(),
            unfit: HashMap::new(),
            proxied: VecDeque::new(),
            probing: HashMap::new(),
            declines: Declines::default(),
            scratch: Box::new(Scratch::new()),
            commands: Vec::new(),
            promised: Vec::new(),
            unstored: Vec::new(),
            withdrawn: HashMap::new(),
            adopted: 0,
            honoured_until: None,
            confirmed: Confirmed::default(),
            reduced: dhcp::Reduced::default(),
            events: Queue::default(),
            hostnames: HashMap::new(),
            counters: HashMap::new(),
            complaints: Complaints::default(),
        };
        engine.put_links();
        engine.exclude_own_addresses();
        engine.put_reservations(now);
        engine.restore(leases, now);
        // Each machine's entry as it has become, instead of every step on the way.
        engine.commands.retain(|command| !matches!(command, Command::PutHost(..)));
        engine.commands.extend(engine.tables.hosts.iter().map(|(key, host)| Command::PutHost(*key, *host)));
        engine
    }

    /// A packet that the daemon's sockets received.
    pub fn handle(&mut self, incoming: &Incoming<'_>, now: Now) {
        if incoming.port == port::DHCP_CLIENT {
            let reason = self.snooped(incoming, now);
            return self.count(reason);
        }
        let Some(link) = self.tables.links.get(&incoming.ifindex).copied() else {
            return self.count(Reason::NoLink);
        };
        // As the kernel half has it: a group is not us, though the socket hears those that the host is in.
        if incoming.to.is_multicast() {
            return self.count(Reason::ForeignIp);
        }
        let mut outcome = self.respond(incoming, &link, now);
        // Legal all the same, but more than the function that runs in the kernel can read.
        if let Err(Reason::TooLong | Reason::TooManyOptions | Reason::SplitOption | Reason::Overload) =
            outcome
        {
            outcome = reassemble(incoming.payload)
                .ok_or(Reason::BadOption)
                .and_then(|payload| self.respond(&Incoming { payload: &payload, ..*incoming }, &link, now));
        }
        if let Err(reason) = outcome {
            self.dropped(reason, incoming, now);
            self.count(reason);
        }
    }

    /// A packet that the kernel half answered.
    ///
    /// At half a million a second what this costs is what an answer costs: nothing about the machine is looked up
    /// unless somebody reads of its answer.
    pub fn kernel_answered(&mut self, event: &Event, now: Now) {
        let Some(reason) = Reason::ALL.get(event.reason as usize).copied() else { return };
        let Some(class) = Class::from_key(event.class) else { return };
        let answered = Answered { reason, address: event.address, class };
        self.meet(event.mac, event.address);
        self.note_ipxe(event.mac, class);
        let at = Duration::from_nanos(event.at);
        self.answered(event.mac, &answered, Hook::from_number(event.hook), event.ifindex, at);
        if reason == Reason::Acked {
            self.confirmed.add(event.mac);
            if self.adopted > 0 || self.withdrawn.contains_key(&event.mac) {
                self.keep_promise(event, now);
            }
        }
    }

    /// Frees what has run out: offers that nobody requested. To be called every second.
    pub fn tick(&mut self, now: Now) {
        self.bindings.free_offers(now.seconds());
        self.end_holds(now);
        self.end_honouring(now);
        self.watch_pools(now);
        self.forget_cards();
        self.withdrawn.retain(|_, seconds| {
            *seconds -= 1;
            *seconds > 0
        });
        self.adopted = self.adopted.saturating_sub(1);
        self.confirmed.next_second();
    }

    /// What is to be done, in order.
    pub fn take_commands(&mut self) -> Vec<Command> {
        self.unstored = std::mem::take(&mut self.promised);
        std::mem::take(&mut self.commands)
    }

    /// What is to be done first, over tables that an earlier daemon has left: everything else, then the answers.
    ///
    /// Answer sets may have the numbers that the earlier daemon gave to others. So machines and interfaces come before
    /// the answers, and who is still in a set of old meanwhile finds it empty and is the daemon's.
    pub fn take_first_commands(&mut self) -> (Vec<Command>, Vec<Command>) {
        self.take_commands().into_iter().partition(|command| !matches!(command, Command::PutAnswer(..)))
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

    /// Whether the tables have this interface or machine, or exactly this answer: for what was adopted from an earlier
    /// daemon.
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
    pub fn has_answer(&self, key: &AnswerKey, answer: &Answer) -> bool {
        self.tables.answers.get(key) == Some(answer)
    }

    /// The interfaces, for the kernel's table.
    pub fn links(&self) -> impl Iterator<Item = (u32, Link)> {
        self.tables.links.iter().map(|(ifindex, link)| (*ifindex, *link))
    }

    fn put_links(&mut self) {
        (0..self.policy.ports().len()).for_each(|position| self.put_link(position));
    }

    fn put_link(&mut self, position: usize) {
        let Some(port) = self.policy.ports().get(position).cloned() else { return };
        let Some(address) = self.policy.own_address(&port) else { return };
        let role = match port.role {
            DhcpRole::Server => role::SERVER,
            DhcpRole::Proxy => role::PROXY,
            DhcpRole::Off => role::OFF,
        };
        let unknown_ask = u8::from(self.policy.unknown_ask());
        let proxy_set =
            if role == role::OFF { 0 } else { self.set(position, None, address, Differences::default()) };
        let link = Link { mac: port.mac, role, unknown_ask, address: address.octets(), proxy_set };
        self.tables.links.insert(port.ifindex, link);
        if port.role == DhcpRole::Server {
            let direct: Vec<(usize, Ipv4Addr)> = self.policy.direct(&port).collect();
            for (subnet, address) in direct {
                self.set(position, Some(subnet), address, Differences::default());
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
    fn exclude_own_addresses(&mut self) {
        let own: Vec<Ipv4Addr> = self
            .policy
            .ports()
            .iter()
            .flat_map(|port| port.addresses.iter().map(ipnet::Ipv4Net::addr))
            .collect();
        for address in own {
            self.bindings.exclude(address);
        }
    }

    /// Machines with a fixed address, or that a proxy boots, are known to the kernel from the start.
    fn put_reservations(&mut self, now: Now) {
        let machines = self.machines.all();
        for mac in machines.iter().flat_map(|known| &known.machine.macs) {
            self.put_proxied_host(*mac);
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
    fn restore(&mut self, leases: &[Lease], now: Now) {
        // Where a machine was last is what the kernel half gets to know.
        let mut leases: Vec<&Lease> = leases.iter().collect();
        leases.sort_by_key(|lease| lease.updated);
        for lease in leases {
            self.restore_one(lease, now);
        }
    }

    fn restore_one(&mut self, lease: &Lease, now: Now) {
        let Lease { mac, address, .. } = *lease;
        let Some(subnet) = self.policy.subnet_of(address) else { return };
        let expires = u64::try_from(lease.expires).unwrap_or(0);
        // No more is left than there was when it was stored: the wall clock may have been set back since.
        let whole = u64::try_from(lease.expires.saturating_sub(lease.updated)).unwrap_or(0);
        let left = expires.saturating_sub(now.seconds()).min(whole);
        let expires = now.seconds() + left;
        if lease.state == LeaseState::OnHold {
            self.bindings.restore_hold(address, mac, expires);
            return;
        }
        match &lease.recognised_by {
            Some(identity) => self.machines.remember(mac, identity),
            None => self.machines.remember_by_address(mac, address),
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
            if durable_until > 0 && self.bindings.owner(address).is_none() {
                self.bindings.hold_address(address, mac, expires);
            }
            return;
        }
        if !has_it {
            let pools = self.policy.subnets().get(subnet);
            let reserved = self.policy.reserved(mac) == Some(address);
            let in_pool = pools.is_some_and(|pools| bindings::in_pool(pools, address));
            if durable_until > 0 && in_pool && !reserved && self.bindings.is_excluded(address) {
                self.put_off_reservation(address, mac);
                self.bindings.put(mac, Binding { address, subnet, state: State::Leased(expires) });
                // Without an entry: its next word is for the daemon.
                return;
            }
            if self.bindings.owner(address).is_some() || !(in_pool || reserved) {
                self.unfit.insert((mac, subnet), address);
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
                self.hold(mac, &binding, expires);
            }
            self.machines.put(address, mac);
        }
        self.put_direct_host(mac, subnet, durable_until, now);
        self.keep_hostname(mac, lease.hostname.as_deref());
    }

    /// A reservation of an address that was promised to another machine waits until that asks again, or the promise ends.
    fn put_off_reservation(&mut self, address: Ipv4Addr, holder: Mac) {
        let Some(owner) = self.bindings.owner(address) else { return };
        warn!(%address, "{address} is reserved for {owner}, but {holder} has a lease of it that still runs: {owner} gets another address until {holder} asks again");
        // All of its cards share the address.
        for mac in self.policy.machine(owner).map_or(vec![owner], |machine| machine.macs.clone()) {
            self.free(mac, address);
        }
    }

    /// Takes over what the kernel's table has beyond the store: machines that were offered an address when the
    /// last daemon ended, and are about to request it. Gives their number.
    pub fn adopt(&mut self, hosts: &[(HostKey, Host)], now: Now) -> usize {
        self.adopted = WITHDRAWN;
        let mut adopted = 0;
        let mut lost = 0;
        for (HostKey { mac, .. }, host) in hosts {
            let address = Ipv4Addr::from(host.address);
            let Some(subnet) = self.policy.subnet_of(address) else { continue };
            let in_pool =
                self.policy.subnets().get(subnet).is_some_and(|pools| bindings::in_pool(pools, address));
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
                None if self.bindings.holds.has(address, now.seconds()) => continue,
                None => {}
            }
            let state = if promised > 0 {
                // Nothing is promised before it is stored: the store has lost it.
                lost += 1;
                State::Leased(now.seconds() + promised + 1)
            } else {
                State::Offered(now.seconds() + bindings::OFFER_HOLDS)
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
                "the store has no lease for {lost} machines that the kernel's tables promise an address: the database was emptied, cut off or replaced by an older one. These leases are stored again, those that only the store had are gone: their machines may be given other addresses, and theirs to others (an address that answers ARP or ping is not given)"
            );
        }
        adopted
    }

    fn count(&mut self, reason: Reason) {
        *self.counters.entry(reason).or_default() += 1;
    }

    fn send(&mut self, incoming: &Incoming<'_>, frame: Vec<u8>, link: &Link, told: Told) {
        self.take_down(&told);
        let via = dhcp::via(&frame, incoming, link);
        self.commands.push(Command::Send { ifindex: incoming.ifindex, frame, via, told });
    }
}
