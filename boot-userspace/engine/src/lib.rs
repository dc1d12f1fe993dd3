//! DHCP policy, leases, machines, transfers and boot decisions: no IO and no clock in here.
//!
//! [`Engine::handle`] takes a packet and the time, and queues [`Command`]s. What the tables can answer is
//! answered by the very function that runs in the kernel; only what they cannot goes on to [`dhcp`].

pub mod answers;
pub mod boot;
pub mod command;
pub mod config;
pub mod dhcp;
pub mod digest_list;
pub mod events;
pub mod explain;
pub mod leases;
pub mod machines;
pub mod policy;
pub mod reload;
mod restore;
#[cfg(test)]
mod tests;
pub mod tftp;

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use boot_common::class::Class;
use boot_common::respond::Answered;
use boot_common::scratch::Scratch;
use boot_common::tables::{Answer, AnswerKey, Event, Hook, HostKey, LinkEntry, role};
use boot_common::wire::port;
use boot_common::{Mac, Reason};

use crate::answers::entries::Entries;
use crate::answers::sets::{Answers, Set};
use crate::command::{Command, Incoming, Now, Told};
use crate::config::DhcpRole;
use crate::dhcp::reassembly::reassemble;
use crate::dhcp::{Declines, Pending};
use crate::events::Queue;
use crate::events::complaint::Complaints;
use crate::leases::bindings::Bindings;
use crate::leases::confirmed::Confirmed;
use crate::leases::pools::Turned;
use crate::leases::record::Lease;
use crate::leases::unstored::Before;
use crate::machines::Machines;
use crate::policy::{Differences, Policy};

/// For how many seconds a promise that was taken back is remembered: longer than the kernel half's events take to be
/// read.
const WITHDRAWN: u8 = 10;

/// Everything the daemon knows and decides.
pub struct Engine {
    policy: Policy,
    entries: Entries,
    answers: Answers,
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
            entries: Entries::default(),
            answers: Answers::default(),
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
        engine.commands.extend(engine.entries.hosts().map(|(mac, host)| Command::PutHost(mac.into(), *host)));
        engine
    }

    /// A packet that the daemon's sockets received.
    pub fn handle(&mut self, incoming: &Incoming<'_>, now: Now) {
        if incoming.port == port::DHCP_CLIENT {
            let reason = self.snooped(incoming, now);
            return self.count(reason);
        }
        let Some(link) = self.entries.link(incoming.ifindex).copied() else {
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
        self.entries.link(ifindex).is_some()
    }

    /// See [`has_link`](Self::has_link).
    #[must_use]
    pub fn has_host(&self, key: &HostKey) -> bool {
        self.entries.host(key.mac).is_some()
    }

    /// See [`has_link`](Self::has_link).
    #[must_use]
    pub fn has_answer(&self, key: &AnswerKey, answer: &Answer) -> bool {
        self.answers.get(key) == Some(answer)
    }

    /// An answer of the tables.
    #[must_use]
    pub fn answer(&self, key: &AnswerKey) -> Option<&Answer> {
        self.tables.answers.get(key)
    }

    /// The interfaces, for the kernel's table.
    pub fn link_entries(&self) -> impl Iterator<Item = (u32, LinkEntry)> {
        self.entries.links().map(|(ifindex, entry)| (ifindex, *entry))
    }

    fn put_links(&mut self) {
        (0..self.policy.links().len()).for_each(|position| self.put_link(position));
    }

    fn put_link(&mut self, position: usize) {
        let Some(link) = self.policy.links().get(position).cloned() else { return };
        let Some(address) = self.policy.own_address(&link) else { return };
        let role = match link.role {
            DhcpRole::Server => role::SERVER,
            DhcpRole::Proxy => role::PROXY,
            DhcpRole::Off => role::OFF,
        };
        let unknown_ask = u8::from(self.policy.unknown_ask());
        let proxy_set =
            if role == role::OFF { 0 } else { self.set(position, None, address, Differences::default()) };
        let entry = LinkEntry { mac: link.mac, role, unknown_ask, address: address.octets(), proxy_set };
        self.entries.put_link(link.ifindex, entry);
        if link.role == DhcpRole::Server {
            let direct: Vec<(usize, Ipv4Addr)> = self.policy.direct(&link).collect();
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
        self.answers.number(set, &self.policy, &mut self.commands)
    }

    fn count(&mut self, reason: Reason) {
        *self.counters.entry(reason).or_default() += 1;
    }

    fn send(&mut self, incoming: &Incoming<'_>, frame: Vec<u8>, link: &LinkEntry, told: Told) {
        self.take_down(&told);
        let via = dhcp::via(&frame, incoming, link);
        self.commands.push(Command::Send { ifindex: incoming.ifindex, frame, via, told });
    }
}
