//! DHCP policy, leases, machines, transfers and boot decisions: no IO and no clock in here.
//!
//! [`Engine::handle`] takes a packet and the time, and queues [`Command`]s. What the tables can answer is
//! answered by the very function that runs in the kernel; only what they cannot goes on to [`dhcp`].

pub mod answers;
pub mod boot;
pub mod command;
pub mod config;
pub mod dhcp;
pub mod diagnosis;
pub mod digest_list;
pub mod events;
pub mod explain;
pub mod leases;
pub mod lifecycle;
pub mod machines;
pub mod maps;
mod now;
pub mod policy;
pub mod registry;
pub mod reload;
mod restore;
#[cfg(test)]
mod tests;
pub mod tftp;

use std::net::Ipv4Addr;
use std::time::Duration;

use boot_common::Reason;
use boot_common::class::Class;
use boot_common::respond::Answered;
use boot_common::scratch::Scratch;
use boot_common::tables::{Answer, AnswerKey, Event, Hook, HostKey, LinkEntry, role};
use boot_common::wire::port;

use crate::answers::entries::Entries;
use crate::answers::sets::{Answers, Set};
use crate::command::{Command, Incoming, Now, Told};
use crate::config::DhcpRole;
use crate::dhcp::reassembly::reassemble;
use crate::dhcp::{Declines, Probes, Proxied, Reduced};
use crate::events::Said;
use crate::events::reports::Reports;
use crate::leases::bindings::Bindings;
use crate::leases::cards::Cards;
use crate::leases::pools::Turned;
use crate::leases::promises::Promises;
use crate::leases::record::Lease;
use crate::machines::Machines;
use crate::policy::{Differences, Policy};

/// Everything the daemon knows and decides.
///
/// Each part keeps its own invariants and can be tested without the others. Here they meet: what one decides, the others
/// are told.
pub struct Engine {
    policy: Policy,
    machines: Machines,
    entries: Entries,
    answers: Answers,
    bindings: Bindings,
    cards: Cards,
    turned_away: Turned,
    promises: Promises,
    probes: Probes,
    declines: Declines,
    proxied: Proxied,
    reduced: Reduced,
    reports: Reports,
    scratch: Box<Scratch>,
    commands: Vec<Command>,
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
            cards: Cards::default(),
            turned_away: Turned::default(),
            promises: Promises::default(),
            probes: Probes::default(),
            declines: Declines::default(),
            proxied: Proxied::default(),
            reduced: Reduced::default(),
            reports: Reports::default(),
            scratch: Box::new(Scratch::new()),
            commands: Vec::new(),
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
            return self.snoop(incoming, None, now);
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
        let by = (Hook::from_number(event.hook), event.ifindex);
        self.answered(event.mac, &answered, Said::default(), by, at);
        if reason == Reason::Acked {
            let was_withdrawn = self.promises.confirm(event.mac);
            self.keep_promise(event.mac, &answered, event.at, was_withdrawn, now);
        }
    }

    /// Frees what has run out: offers that nobody requested. To be called every second.
    pub fn tick(&mut self, now: Now) {
        self.bindings.free_offers(now.seconds());
        self.end_holds(now);
        self.end_honouring(now);
        self.watch_pools(now);
        self.forget_cards();
        self.promises.next_second();
        self.store_what_was_refused(now);
    }

    /// What is to be done, in order.
    pub fn take_commands(&mut self) -> Vec<Command> {
        self.promises.take_commands();
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
        self.reports.counted(reason)
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
        self.answers.get(key)
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
        self.reports.count(reason);
    }

    fn send(&mut self, incoming: &Incoming<'_>, frame: Vec<u8>, link: &LinkEntry, told: Told) {
        self.take_down(&told);
        let via = dhcp::via(&frame, incoming, link);
        self.commands.push(Command::Send { ifindex: incoming.ifindex, frame, via, told });
    }
}
