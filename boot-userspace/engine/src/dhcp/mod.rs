//! DHCP policy: what the tables could not answer by themselves (RFC 2131 section 4.3).
//!
//! A decision here ends in the tables wherever it can, and the shared function then answers from them; only
//! what the tables cannot express (relays, renewals, refusals) is put together here.

mod bind;
mod bootp;
mod dropped;
mod elsewhere;
mod entries;
mod give_back;
mod identity;
pub mod packet;
mod place;
mod probe;
mod proxied;
mod proxy;
pub(crate) mod reassembly;
mod reduced;
mod reply;
pub(crate) mod rogues;

use std::net::Ipv4Addr;
use std::time::Duration;

use boot_common::class::Class;
use boot_common::classify::client;
use boot_common::decide::message;
use boot_common::facts::Facts;
use boot_common::frame::Bytes;
use boot_common::respond::{Answered, respond};
use boot_common::tables::{ALWAYS, LinkEntry, role};
use boot_common::wire::{BootpFixed, option, port};
use boot_common::{Mac, Reason};

use crate::Engine;
use crate::answers::entries::Tables;
use crate::answers::prepare::lease_seconds;
use crate::command::{Command, Incoming, Now};
use crate::dhcp::reassembly::option_of;
use crate::events::Refusal;
use crate::leases::binding::{Binding, State};
use crate::leases::bindings::OFFER_HOLDS;
use crate::leases::record::{Change, Lease};
use crate::leases::state::LeaseState;
use crate::policy::requester::Requester;

pub(super) use give_back::Declines;
use place::Place;
pub(super) use probe::Probes;
pub(super) use proxied::Proxied;
pub(super) use reduced::Reduced;
pub(super) use reply::via;

/// A lease is stored for this many times its length, so that the kernel may renew the promise that often
/// before the daemon has to write again.
const HORIZON: u64 = 2;

/// A request on its way through the policy. All of its bytes are in the engine's scratch meanwhile.
struct Asked<'a> {
    incoming: &'a Incoming<'a>,
    link: LinkEntry,
    frame: Bytes,
    facts: Facts,
    mac: Mac,
    who: Requester,
    bootp: BootpFixed,
    now: Now,
}

/// In a second.
const NANOS: u64 = 1_000_000_000;

impl Asked<'_> {
    /// The address that the client wants to have or to keep; 0.0.0.0 if it does not say.
    fn wanted(&self) -> Ipv4Addr {
        let Self { facts, bootp, .. } = self;
        Ipv4Addr::from(if facts.requested == [0; 4] { bootp.ciaddr } else { facts.requested })
    }
}

impl Engine {
    /// Answers from the tables, or goes on where they end.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) fn respond(
        &mut self,
        incoming: &Incoming<'_>,
        link: &LinkEntry,
        now: Now,
    ) -> Result<(), Reason> {
        self.compare_addresses(incoming, link, now);
        let mut frame = packet::frame(incoming, link).ok_or(Reason::TooLong)?;
        let tables = Tables { entries: &self.entries, answers: &self.answers };
        match respond(&mut frame, &mut self.scratch, &tables, incoming.ifindex, || now.nanos()) {
            Ok(answered) => {
                self.answered_from_tables(incoming, link, frame, answered, now);
                Ok(())
            }
            // Then the frame is still the request.
            Err(reason) => self.decide(reason, frame, incoming, link, now),
        }
    }

    /// The tables had the answer. An ACK leaves when the lease that it confirms is stored.
    fn answered_from_tables(
        &mut self,
        incoming: &Incoming<'_>,
        link: &LinkEntry,
        frame: Bytes,
        answered: Answered,
        now: Now,
    ) {
        if answered.reason == Reason::Acked {
            let mac = client(&self.scratch.request);
            self.keep_promise(mac, &answered, now.nanos(), false, now);
        }
        self.finish(incoming, link, frame, answered);
    }

    fn decide(
        &mut self,
        reason: Reason,
        frame: Bytes,
        incoming: &Incoming<'_>,
        link: &LinkEntry,
        now: Now,
    ) -> Result<(), Reason> {
        match reason {
            Reason::BadCookie => return self.plain_bootp(frame, incoming, link, now),
            Reason::UnknownHost
            | Reason::OtherSubnet
            | Reason::SwitchPort
            | Reason::NotDurable
            | Reason::OtherServer
            | Reason::OtherAddress
            | Reason::OtherMessage
            | Reason::NoMessageType
            | Reason::PxeRequest
            | Reason::NoAnswer
            | Reason::ReplyTooBig => {}
            Reason::NotPxe => {
                self.overhear(incoming, now);
                return Err(reason);
            }
            // Not to be believed, or not for us.
            _ => return Err(reason),
        }
        let bootp = self.scratch.request.bootp;
        let mut facts = *self.scratch.scan.finish()?;
        let mac = client(&self.scratch.request);
        self.break_loop(mac, &mut facts, incoming, now);
        self.recognise(mac, &facts, &frame, incoming.ifindex, now);
        let who = self.policy.requester(mac);
        if !self.policy.serves_requester(&who) {
            if self.machines.is_ignored(mac) {
                self.put_ignored_host(mac);
                return Err(Reason::Ignored);
            }
            return Err(Reason::UnknownHost);
        }
        let asked = Asked { incoming, link: *link, frame, facts, mac, who, bootp, now };
        if incoming.port == port::PXE {
            return self.boot_server(asked);
        }
        match link.role {
            role::SERVER => {}
            role::PROXY => return self.listen_in(asked, reason),
            _ => return Err(Reason::RoleOff),
        }
        match facts.message {
            message::DISCOVER => self.discover(asked),
            message::REQUEST => self.request(asked),
            message::INFORM => self.inform(asked),
            0 => self.bootp(asked),
            message::DECLINE => self.decline(&asked),
            message::RELEASE => self.release(&asked),
            _ => Err(reason),
        }
    }

    fn discover(&mut self, asked: Asked<'_>) -> Result<(), Reason> {
        let place = self.place(&asked)?;
        self.look_for_strays(&asked, place);
        if let Some(binding) = self.bindings.get(asked.mac, place.subnet)
            && self.is_probed(asked.mac, binding.address)
        {
            return self.wait_for_probe(&asked, binding.address);
        }
        let (place, is_new) = self.bind(&asked, place)?;
        if is_new {
            return self.probe(&asked, place, 1);
        }
        self.offer(asked, place)
    }

    fn offer(&mut self, asked: Asked<'_>, place: Place) -> Result<(), Reason> {
        let binding = self.bindings.get(asked.mac, place.subnet).ok_or(Reason::PoolExhausted)?;
        let durable_until = self.durable_until(asked.mac, &binding);
        let host = self.put_host(&asked.who, &binding, place.set, durable_until, asked.now);
        self.hold(asked.mac, asked.who.is_named(), &binding, asked.now.seconds() + OFFER_HOLDS);
        self.reply(asked, place, message::OFFER, Some((binding, host)))
    }

    fn request(&mut self, asked: Asked<'_>) -> Result<(), Reason> {
        let facts = &asked.facts;
        let server_id = Ipv4Addr::from(facts.server_id);
        let selecting = !server_id.is_unspecified();
        if selecting && !self.is_ours(server_id) && facts.server_override != facts.server_id {
            let place = self.place(&asked).ok();
            let offered = place
                .and_then(|place| self.bindings.get(asked.mac, place.subnet))
                .filter(|binding| matches!(binding.state, State::Offered(_)));
            if let Some(binding) = offered {
                self.bindings.put(asked.mac, Binding { state: State::Idle, ..binding });
                // Offered anew it has to be bound anew.
                self.withdraw(asked.mac, binding.address);
            }
            self.chose_another_server(&asked, server_id, offered.is_some());
            return Err(Reason::OtherServer);
        }
        let wanted = asked.wanted();
        let place = self.place(&asked)?;
        let subnet = self.policy.subnets().get(place.subnet);
        let on_this_net = subnet.is_some_and(|subnet| subnet.cidr.contains(&wanted));
        let authoritative = subnet.is_some_and(|subnet| subnet.authoritative);
        let is_given_up = on_this_net && self.give_up(asked.mac, wanted, asked.now);
        match self.bindings.get(asked.mac, place.subnet) {
            _ if wanted.is_unspecified() => self.refuse(asked, place, Refusal::NamesNone),
            Some(binding)
                if binding.state != State::Reserved
                    && self.bindings.is_excluded(binding.address)
                    && !self.honours_offers() =>
            {
                self.forget(asked.mac, binding.address);
                self.refuse(asked, place, Refusal::Reserved(binding.address))
            }
            Some(binding) if binding.address == wanted => {
                if self.is_probed(asked.mac, wanted) {
                    return self.wait_for_probe(&asked, wanted);
                }
                self.acknowledge(asked, place, binding)
            }
            Some(binding) => self.refuse(asked, place, Refusal::Has { wanted, has: binding.address }),
            None if !on_this_net => {
                let other =
                    self.policy.subnet_of(wanted).and_then(|subnet| self.policy.subnets().get(subnet));
                let other = other.map(|subnet| subnet.cidr);
                self.refuse(asked, place, Refusal::AnotherNetwork(wanted, other))
            }
            None if is_given_up => self.refuse(asked, place, Refusal::Reserved(wanted)),
            None if self.cards.has_lost(asked.mac, place.subnet, wanted) => {
                self.refuse(asked, place, Refusal::WasIts(wanted))
            }
            None if selecting => self.refuse(asked, place, Refusal::NotOffered(wanted)),
            None if authoritative => self.refuse(asked, place, Refusal::NotGiven(wanted)),
            // INIT-REBOOT or REBINDING of a client that we know nothing of: another server may.
            None => Err(Reason::UnknownHost),
        }
    }

    fn acknowledge(&mut self, asked: Asked<'_>, place: Place, binding: Binding) -> Result<(), Reason> {
        if asked.who.name().is_none() {
            let said = option_of(packet::payload(&asked.frame.0), option::HOST_NAME);
            let said = said.and_then(|name| String::from_utf8(name).ok());
            // Some count the NUL.
            self.keep_hostname(asked.mac, said.as_deref().map(|name| name.trim_end_matches('\0')));
        }
        // Stored ahead, and the kernel may promise what is stored.
        let (stored, durable_until) =
            self.store_promise(&asked.who, &binding, asked.facts.class(), asked.now);
        let host = self.put_host(&asked.who, &stored, place.set, durable_until, asked.now);
        self.reply(asked, place, message::ACK, Some((binding, host)))
    }

    /// Stores a lease ahead. What was stored for longer stays so. Gives up to when the kernel may promise it.
    fn store_promise(
        &mut self,
        who: &Requester,
        binding: &Binding,
        class: Class,
        now: Now,
    ) -> (Binding, u64) {
        let mac = who.mac;
        let lease =
            self.policy.subnets().get(binding.subnet).map_or(0, |subnet| lease_seconds(subnet, class));
        let left = self.durable_until(mac, binding).saturating_sub(now.nanos());
        // As `expires` of what is stored had it, a second more than the kernel was told.
        let left = if left == 0 { 0 } else { left.div_ceil(NANOS) + 1 };
        // The kernel knows of one subnet that the machine is in, and not of the others.
        let promised = match binding.state {
            State::Leased(until) => until.saturating_sub(now.seconds()),
            State::Reserved | State::Offered(_) | State::Released(_) | State::Idle => 0,
        };
        let stored = (u64::from(lease) * HORIZON).max(left).max(promised);
        let expires = now.seconds() + stored;
        let state = if binding.state == State::Reserved { State::Reserved } else { State::Leased(expires) };
        self.keep_before(mac, *binding);
        let binding = Binding { state, ..*binding };
        self.bindings.put(mac, binding);
        self.cards.find(mac, binding.subnet);
        self.hold(mac, who.is_named(), &binding, expires);
        self.give_up_others(mac, &binding, now);
        self.store_holds(mac, now);
        self.persist(who, &binding, LeaseState::Leased, expires, now);
        // The store has whole seconds: what it has may end a second earlier.
        let durable_until = now.boot + Duration::from_secs(stored.saturating_sub(1));
        (binding, u64::try_from(durable_until.as_nanos()).unwrap_or(0))
    }

    /// Stores a lease that was confirmed from the tables at `at`, in boot-clock nanoseconds, unless the store covers it: that
    /// of a reserved address, and one whose promise `was_withdrawn` a moment ago. The kernel half may have confirmed it
    /// while its RELEASE was on the way to us, or before it knew of another configuration: the machine has it.
    pub(super) fn keep_promise(
        &mut self,
        mac: Mac,
        answered: &Answered,
        at: u64,
        was_withdrawn: bool,
        now: Now,
    ) {
        let address = Ipv4Addr::from(answered.address);
        // The machine may have been heard in another subnet since: then the kernel's entry is for there.
        let host = self.entry(mac, address);
        if !was_withdrawn && host.is_some_and(|host| host.bound_until != ALWAYS) {
            return;
        }
        let Some(subnet) = self.policy.subnet_of(address) else { return };
        let lease =
            self.policy.subnets().get(subnet).map_or(0, |subnet| lease_seconds(subnet, answered.class));
        let Some(binding) = self.bindings.with(mac, address) else {
            return self.keep_what_it_has_no_longer(mac, address, subnet, u64::from(lease), now);
        };
        let promised = at.saturating_add(u64::from(lease) * NANOS);
        let is_kept =
            host.map_or(matches!(binding.state, State::Leased(_)), |host| host.durable_until >= promised);
        if is_kept {
            return;
        }
        let who = self.policy.requester(mac);
        let (binding, durable_until) = self.store_promise(&who, &binding, answered.class, now);
        if let Some(host) = host {
            self.put_host(&who, &binding, host.answer_set, durable_until, now);
        }
    }

    /// The kernel half has confirmed an address for so many seconds that the configuration has otherwise by now: it is kept as
    /// it would be if the lease had been stored before the configuration changed.
    fn keep_what_it_has_no_longer(
        &mut self,
        mac: Mac,
        address: Ipv4Addr,
        subnet: usize,
        seconds: u64,
        now: Now,
    ) {
        let until = now.seconds() + seconds;
        let lease = Lease {
            mac,
            address,
            subnet: self
                .policy
                .subnets()
                .get(subnet)
                .map_or_else(ipnet::Ipv4Net::default, |subnet| subnet.cidr),
            state: LeaseState::Leased,
            expires: i64::try_from(until).unwrap_or(i64::MAX),
            hostname: None,
            recognised_by: self.machines.recognised_by(mac),
            updated: i64::try_from(now.seconds()).unwrap_or(i64::MAX),
        };
        self.restore_one(&lease, now);
        if self.bindings.with(mac, address).is_some() {
            self.commands.push(Command::Persist(Change::Put(lease)));
            return;
        }
        // An offer is less than an ACK.
        if let Some(owner) = self.bindings.owner(address)
            && let Some(binding) = self.bindings.with(owner, address)
            && binding.state != State::Reserved
            && !binding.is_promised()
        {
            self.forget(owner, address);
            self.cards.lose(owner, subnet, address);
        }
        if self.bindings.owner(address).is_none() && !self.bindings.is_on_hold(address, now.seconds()) {
            self.bindings.hold_promised(address, mac, until);
        }
        self.store_holds(mac, now);
    }

    fn inform(&mut self, asked: Asked<'_>) -> Result<(), Reason> {
        if asked.bootp.ciaddr == [0; 4] && asked.bootp.giaddr == [0; 4] {
            // There is nowhere to send the answer.
            return Err(Reason::OtherMessage);
        }
        let place = self.place(&asked)?;
        self.reply(asked, place, message::INFORM, None)
    }

    /// Stores a lease that the store should have had.
    pub(super) fn store_again(&mut self, mac: Mac, binding: &Binding, expires: u64, now: Now) {
        let who = self.policy.requester(mac);
        self.persist(&who, binding, LeaseState::Leased, expires, now);
    }

    /// A machine loses an address, here, in the kernel and in the store.
    fn forget(&mut self, mac: Mac, address: Ipv4Addr) {
        self.free(mac, address);
        self.commands.push(Command::Persist(Change::Delete(mac, address)));
    }

    pub(super) fn is_ours(&self, address: Ipv4Addr) -> bool {
        self.policy.links().iter().any(|link| link.addresses.iter().any(|net| net.addr() == address))
    }

    fn persist(&mut self, who: &Requester, binding: &Binding, state: LeaseState, expires: u64, now: Now) {
        let mac = who.mac;
        let subnet = self.policy.subnets().get(binding.subnet);
        let subnet = subnet.map_or_else(ipnet::Ipv4Net::default, |subnet| subnet.cidr);
        let seconds = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.commands.push(Command::Persist(Change::Put(Lease {
            mac,
            address: binding.address,
            subnet,
            state,
            expires: seconds(expires),
            hostname: who.name().or_else(|| self.cards.name(mac)).map(str::to_owned),
            recognised_by: self.machines.recognised_by(mac),
            updated: seconds(now.seconds()),
        })));
    }
}
