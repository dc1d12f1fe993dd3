//! DHCP policy: what the tables could not answer by themselves (RFC 2131 section 4.3).
//!
//! A decision here ends in the tables wherever it can, and the shared function then answers from them; only
//! what the tables cannot express (relays, renewals, refusals) is put together here.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use boot_common::answer::answer;
use boot_common::class::{Class, Stage};
use boot_common::classify::client;
use boot_common::decide::{Decision, Destination, destination, message};
use boot_common::facts::{Facts, Span};
use boot_common::frame::Bytes;
use boot_common::respond::{Answered, Scratch, respond};
use boot_common::tables::{ANSWER_OPTIONS, Answer, AnswerKey, Hook, Host, HostKey, Link, role};
use boot_common::wire::{Request, SNAME_AND_FILE, op, port};
use boot_common::{Mac, Reason};
use dhcproto::v4::{DhcpOption, Message, OptionCode};
use dhcproto::{Decodable as _, Encodable as _};
use tracing::{info, warn};
use zerocopy::{FromBytes as _, FromZeros as _};

use crate::config::DhcpRole;
use crate::engine::answers::{Parts, prepare, put_own_options};
use crate::engine::command::{Command, Incoming, Now, Via};
use crate::engine::lease::{Binding, Bound, State};
use crate::engine::policy::Marks;
use crate::engine::record::{Change, Lease, LeaseState};
use crate::engine::{Engine, packet};

/// A lease is stored for this many times its length, so that the kernel may renew the promise that often
/// before the daemon has to write again.
const HORIZON: u64 = 2;

/// A request on its way through the policy.
struct Asked<'a> {
    incoming: &'a Incoming<'a>,
    link: Link,
    frame: Bytes,
    facts: Facts,
    mac: Mac,
    request: Box<Request>,
    now: Now,
}

/// How many addresses are tried for one machine before it is left to ask again.
const MOST_PROBES: u8 = 3;

/// Option 12, which a configured one overrides.
const HOST_NAME: u8 = 12;

/// The key of the answer to BOOTP, which is never in the tables.
const BOOTP: u8 = 0;

/// A DISCOVER that waits for the probe of its address.
pub(super) struct Pending {
    ifindex: u32,
    port: u16,
    from: SocketAddrV4,
    to: Ipv4Addr,
    payload: Vec<u8>,
    address: Ipv4Addr,
    tries: u8,
}

impl Pending {
    fn new(incoming: &Incoming<'_>, address: Ipv4Addr, tries: u8) -> Self {
        let Incoming { ifindex, port, from, to, payload } = *incoming;
        Self { ifindex, port, from, to, payload: payload.to_vec(), address, tries }
    }

    fn update(&mut self, incoming: &Incoming<'_>) {
        *self = Self::new(incoming, self.address, self.tries);
    }

    fn with(&self, act: impl FnOnce(&Incoming<'_>)) {
        let Self { ifindex, port, from, to, payload, .. } = self;
        act(&Incoming { ifindex: *ifindex, port: *port, from: *from, to: *to, payload });
    }
}

/// Where a client is in the network.
#[derive(Clone, Copy)]
struct Place {
    subnet: usize,
    server: Ipv4Addr,
    set: u32,
}

impl Engine {
    /// Goes on where the tables said `reason`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) fn decide(
        &mut self,
        reason: Reason,
        frame: Bytes,
        incoming: &Incoming<'_>,
        link: &Link,
        now: Now,
    ) -> Result<(), Reason> {
        match reason {
            Reason::Overload | Reason::SplitOption => return self.decide_joined(reason, incoming, now),
            Reason::UnknownHost
            | Reason::OtherSubnet
            | Reason::NotDurable
            | Reason::OtherServer
            | Reason::OtherAddress
            | Reason::OtherMessage
            | Reason::NoMessageType
            | Reason::PxeRequest
            | Reason::NoAnswer
            | Reason::ReplyTooBig => {}
            // Not to be believed, or not for us.
            _ => return Err(reason),
        }
        let request = Box::new(self.scratch.request);
        let facts = *self.scratch.walk.finish()?;
        let mac = client(&request);
        self.recognise(mac, &facts, &frame);
        if !self.policy.serves(mac) {
            return Err(Reason::UnknownHost);
        }
        let asked = Asked { incoming, link: *link, frame, facts, mac, request, now };
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

    /// Joins what came in pieces or in `file` and `sname` (RFC 3396, RFC 2132 section 9.3), and tries again.
    fn decide_joined(&mut self, reason: Reason, incoming: &Incoming<'_>, now: Now) -> Result<(), Reason> {
        let mut message = Message::from_bytes(incoming.payload).map_err(|_| Reason::BadOption)?;
        message.opts_mut().remove(OptionCode::OptionOverload);
        let payload = message.to_vec().map_err(|_| Reason::BadOption)?;
        if payload == incoming.payload || incoming.payload.first() != Some(&op::REQUEST) {
            return Err(reason);
        }
        let joined = Incoming { payload: &payload, ..*incoming };
        let link = self.tables.links.get(&incoming.ifindex).copied().ok_or(Reason::NoLink)?;
        let request = packet::frame(&joined, &link).ok_or(Reason::TooLong)?;
        let mut frame = request.clone();
        match respond(&mut frame, &mut self.scratch, &self.tables, joined.ifindex, now.nanos()) {
            Ok(answered) => {
                self.finish(&joined, &link, frame, answered);
                Ok(())
            }
            // Pieces that joining does not remove (options over 255 octets) stay a reason.
            Err(again @ (Reason::Overload | Reason::SplitOption)) => Err(again),
            Err(next) => self.decide(next, request, &joined, &link, now),
        }
    }

    fn discover(&mut self, asked: Asked<'_>) -> Result<(), Reason> {
        let place = self.place(&asked)?;
        if let Some(pending) = self.probing.get_mut(&asked.mac) {
            // It has repeated itself: the answer will be to its latest word.
            pending.update(asked.incoming);
            return Err(Reason::Probing);
        }
        if self.bind(&asked, place)? {
            return self.probe(&asked);
        }
        self.offer(asked, place)
    }

    fn offer(&mut self, asked: Asked<'_>, place: Place) -> Result<(), Reason> {
        let binding = self.bindings.get(asked.mac).ok_or(Reason::PoolExhausted)?;
        let durable_until =
            self.tables.hosts.get(&HostKey::from(asked.mac)).map_or(0, |host| host.durable_until);
        self.put_host(asked.mac, &binding, place.set, durable_until);
        self.reply(asked, place, message::OFFER, Some(binding))
    }

    /// Has the new address looked for on the network before it is offered (RFC 2131 section 3.1 step 2).
    fn probe(&mut self, asked: &Asked<'_>) -> Result<(), Reason> {
        let binding = self.bindings.get(asked.mac).ok_or(Reason::PoolExhausted)?;
        let on_link = asked.request.bootp.giaddr == [0; 4];
        let ifindex = asked.incoming.ifindex;
        let (mac, address) = (asked.mac, binding.address);
        let tries = self.probing.get(&mac).map_or(0, |pending| pending.tries);
        self.probing.insert(mac, Pending::new(asked.incoming, address, tries + 1));
        self.commands.push(Command::Probe { ifindex, address, mac, on_link });
        Err(Reason::Probing)
    }

    /// What the probe of an address for a machine found.
    pub fn probed(&mut self, mac: Mac, address: Ipv4Addr, in_use_by: Option<String>, now: Now) {
        let Some(pending) = self.probing.remove(&mac).filter(|pending| pending.address == address) else {
            return;
        };
        let mut settled = true;
        if let Some(who) = in_use_by {
            warn!(step = "probe", by = "daemon", %mac, %address,
                "{address} is used by {who} although nobody got it from here: it rests, find out who gave it");
            self.forget(mac);
            self.bindings.quarantine(address, now.seconds());
            settled = pending.tries >= MOST_PROBES;
        }
        if settled && self.bindings.get(mac).is_none() {
            return;
        }
        // With the address settled, or bound to try the next one.
        let tries = pending.tries;
        pending.with(|incoming| {
            if let Err(reason) = self.after_probe(incoming, tries, settled, now) {
                self.count(reason);
            }
        });
    }

    fn after_probe(
        &mut self,
        incoming: &Incoming<'_>,
        tries: u8,
        settled: bool,
        now: Now,
    ) -> Result<(), Reason> {
        let link = self.tables.links.get(&incoming.ifindex).copied().ok_or(Reason::NoLink)?;
        let frame = packet::frame(incoming, &link).ok_or(Reason::TooLong)?;
        let mut copy = frame.clone();
        match respond(&mut copy, &mut self.scratch, &self.tables, incoming.ifindex, now.nanos()) {
            Ok(answered) => {
                self.finish(incoming, &link, copy, answered);
                return Ok(());
            }
            Err(Reason::Overload | Reason::SplitOption) => return Err(Reason::Overload),
            Err(_) => {}
        }
        let request = Box::new(self.scratch.request);
        let facts = *self.scratch.walk.finish()?;
        let mac = client(&request);
        let asked = Asked { incoming, link, frame, facts, mac, request, now };
        let place = self.place(&asked)?;
        if settled {
            return self.offer(asked, place);
        }
        self.bind(&asked, place)?;
        let result = self.probe(&asked);
        if let Some(pending) = self.probing.get_mut(&mac) {
            pending.tries = tries + 1;
        }
        result
    }

    /// A BOOTP client gets an address only if one is reserved for it: there is no lease that would end (RFC 951).
    fn bootp(&mut self, asked: Asked<'_>) -> Result<(), Reason> {
        // A shorter message is a DHCP message that was cut, not BOOTP (RFC 951 section 3).
        let is_whole = asked.incoming.payload.len() >= 300;
        let binding =
            self.bindings.get(asked.mac).filter(|binding| is_whole && binding.state == State::Reserved);
        let binding = binding.ok_or(Reason::NoMessageType)?;
        let place = self.place(&asked)?;
        self.reply(asked, place, BOOTP, Some(binding))
    }

    fn request(&mut self, asked: Asked<'_>) -> Result<(), Reason> {
        let facts = &asked.facts;
        let ciaddr = Ipv4Addr::from(asked.request.bootp.ciaddr);
        let server_id = Ipv4Addr::from(facts.server_id);
        let selecting = !server_id.is_unspecified();
        if selecting && !self.is_ours(server_id) && facts.server_override != facts.server_id {
            if let Some(binding) = self.bindings.get(asked.mac)
                && matches!(binding.state, State::Offered(_))
            {
                self.bindings.put(asked.mac, Binding { state: State::Idle, ..binding });
            }
            return Err(Reason::OtherServer);
        }
        let wanted = if facts.requested == [0; 4] { ciaddr } else { Ipv4Addr::from(facts.requested) };
        let place = self.place(&asked)?;
        let on_this_net =
            self.policy.subnets().get(place.subnet).is_some_and(|subnet| subnet.cidr.contains(&wanted));
        match self.bindings.get(asked.mac) {
            Some(binding) if binding.address == wanted && binding.subnet == place.subnet && on_this_net => {
                self.acknowledge(asked, place, binding)
            }
            Some(binding) => {
                let why = format!("asks for {wanted}, has {}", binding.address);
                self.refuse(asked, place, &why)
            }
            None if !on_this_net => self.refuse(asked, place, &format!("{wanted} is not of this network")),
            None if selecting => self.refuse(asked, place, &format!("{wanted} was not offered to it")),
            // INIT-REBOOT or REBINDING of a client that we know nothing of: another server may.
            None => Err(Reason::UnknownHost),
        }
    }

    fn acknowledge(&mut self, asked: Asked<'_>, place: Place, binding: Binding) -> Result<(), Reason> {
        let lease = self.policy.subnets().get(place.subnet).map_or(0, |subnet| subnet.lease.as_secs());
        let stored = lease * HORIZON;
        let now = asked.now;
        let expires = now.seconds() + stored;
        let state = if binding.state == State::Reserved { State::Reserved } else { State::Leased(expires) };
        self.bindings.put(asked.mac, Binding { state, ..binding });
        self.commands.push(Command::Persist(Change::Put(self.lease(
            asked.mac,
            &binding,
            place,
            LeaseState::Leased,
            expires,
            now,
        ))));
        let durable_until = u64::try_from((now.boot + Duration::from_secs(stored)).as_nanos()).unwrap_or(0);
        self.put_host(asked.mac, &binding, place.set, durable_until);
        self.reply(asked, place, message::ACK, Some(binding))
    }

    fn inform(&mut self, asked: Asked<'_>) -> Result<(), Reason> {
        let place = self.place(&asked)?;
        self.reply(asked, place, message::INFORM, None)
    }

    fn decline(&mut self, asked: &Asked<'_>) -> Result<(), Reason> {
        let address = Ipv4Addr::from(asked.facts.requested);
        let binding = self.bindings.get(asked.mac).filter(|binding| binding.address == address);
        let Some(binding) = binding.filter(|_| self.is_ours(Ipv4Addr::from(asked.facts.server_id))) else {
            return Err(Reason::OtherAddress);
        };
        let client = self.policy.client(asked.mac);
        let name = client.name.as_deref().unwrap_or("");
        warn!(step = "decline", by = "daemon", mac = %asked.mac, name, %address,
            "{address} is in use by somebody else, says {}: find who has it (arping {address})", asked.mac);
        if binding.state != State::Reserved {
            self.forget(asked.mac);
            self.bindings.quarantine(address, asked.now.seconds());
        }
        Err(Reason::Released)
    }

    fn release(&mut self, asked: &Asked<'_>) -> Result<(), Reason> {
        let address = Ipv4Addr::from(asked.request.bootp.ciaddr);
        let Some(binding) = self.bindings.get(asked.mac).filter(|binding| binding.address == address) else {
            return Err(Reason::OtherAddress);
        };
        info!(step = "release", by = "daemon", mac = %asked.mac, %address, "gave {address} back");
        if binding.state != State::Reserved {
            self.bindings.put(asked.mac, Binding { state: State::Idle, ..binding });
        }
        let place = Place { subnet: binding.subnet, server: Ipv4Addr::UNSPECIFIED, set: 0 };
        let lease =
            self.lease(asked.mac, &binding, place, LeaseState::Released, asked.now.seconds(), asked.now);
        self.commands.push(Command::Persist(Change::Put(lease)));
        self.set_durable(asked.mac, 0);
        Err(Reason::Released)
    }

    /// What a machine gets that needs no address from us.
    fn without_address(&mut self, asked: &Asked<'_>, kind: u8) -> Result<Answer, Reason> {
        let class = asked.facts.class();
        let (position, _) = self.policy.port(asked.incoming.ifindex).ok_or(Reason::NoLink)?;
        let differences = self.policy.differences(asked.mac);
        let set = self.set(position, None, Ipv4Addr::from(asked.link.address), differences);
        let key = AnswerKey { set, wanted: 0, class: class.key(), message: kind, reserved: [0; 2] };
        if let Some(prepared) = self.tables.answers.get(&key) {
            return Ok(*prepared);
        }
        self.complain(asked.mac, class);
        Err(Reason::NoAnswer)
    }

    /// A proxy answers what the tables left open only for want of an entry. A REQUEST that it hears is for the other
    /// server, but tells which address the machine will have.
    fn listen_in(&mut self, asked: Asked<'_>, reason: Reason) -> Result<(), Reason> {
        let address = Ipv4Addr::from(asked.facts.requested);
        if asked.facts.message == message::REQUEST && !address.is_unspecified() {
            self.roster.put(address, self.policy.client(asked.mac));
        }
        // Not a PXE client, or not a DISCOVER: no case for a proxy.
        if !matches!(reason, Reason::UnknownHost | Reason::NoAnswer | Reason::OtherSubnet)
            || asked.facts.message != message::DISCOVER
            || asked.facts.class() == Class::OS
        {
            return Err(reason);
        }
        self.put_proxied_host(asked.mac);
        let prepared = self.without_address(&asked, message::OFFER)?;
        let to = if asked.request.bootp.giaddr == [0; 4] {
            Destination { mac: Mac::BROADCAST, address: [255; 4], port: port::DHCP_CLIENT }
        } else {
            destination(&asked.request, [0; 4])?
        };
        self.write(asked, &prepared, None, [0; 4], [0; 4], to, Reason::Offered)
    }

    /// A request on port 4011 that the tables leave open: from an address the client does not name itself, or
    /// for a firmware kind without a loader.
    fn boot_server(&mut self, asked: Asked<'_>) -> Result<(), Reason> {
        let prepared = self.without_address(&asked, message::BOOT_ACK)?;
        if asked.incoming.from.ip().is_unspecified() {
            return Err(Reason::PxeRequest);
        }
        let to = Destination {
            mac: asked.mac,
            address: asked.incoming.from.ip().octets(),
            port: asked.incoming.from.port(),
        };
        let ciaddr = asked.request.bootp.ciaddr;
        self.write(asked, &prepared, None, [0; 4], ciaddr, to, Reason::BootServer)
    }

    /// Finds the subnet a client is on, and prepares its answers.
    fn place(&mut self, asked: &Asked<'_>) -> Result<Place, Reason> {
        let giaddr = Ipv4Addr::from(asked.request.bootp.giaddr);
        let (position, subnet, server) = {
            let (position, port) = self.policy.port(asked.incoming.ifindex).ok_or(Reason::NoLink)?;
            let found = if giaddr.is_unspecified() {
                let bound = self.bindings.get(asked.mac).map(|binding| binding.subnet);
                let mut direct = self.policy.direct(port);
                let first = direct.next();
                // A machine's own subnet, where the interface has several.
                first.into_iter().chain(direct).find(|(subnet, _)| Some(*subnet) == bound).or(first)
            } else {
                let selected = Ipv4Addr::from(asked.facts.link_selection);
                let selected = if selected.is_unspecified() { giaddr } else { selected };
                self.policy.subnet_of(selected).map(|subnet| (subnet, Ipv4Addr::from(asked.link.address)))
            };
            let Some((subnet, server)) = found else {
                let text = if giaddr.is_unspecified() {
                    format!("{} has no address in any [[subnet]]: machines there get no address", port.name)
                } else {
                    format!("relay {giaddr} is in no [[subnet]]: machines behind it get no address")
                };
                if self.first(text.clone()) {
                    warn!("{text}");
                }
                return Err(Reason::NoSubnet);
            };
            (position, subnet, server)
        };
        let set = self.set(position, Some(subnet), server, self.policy.differences(asked.mac));
        Ok(Place { subnet, server, set })
    }

    /// True when the address is new to the machine and is to be looked for on the network first.
    fn bind(&mut self, asked: &Asked<'_>, place: Place) -> Result<bool, Reason> {
        let requested = Ipv4Addr::from(asked.facts.requested);
        let requested = (!requested.is_unspecified()).then_some(requested);
        let now = asked.now.seconds();
        let Some(pools) = self.policy.subnets().get(place.subnet) else { return Err(Reason::NoSubnet) };
        let (cidr, probe) = (pools.cidr, pools.probe);
        match self.bindings.bind(asked.mac, place.subnet, pools, requested, now) {
            Bound::To(_) => Ok(false),
            Bound::New(_) => Ok(probe),
            Bound::TakenFrom(loser, _) => {
                self.forget(loser);
                Ok(probe)
            }
            Bound::Exhausted => {
                let text = format!("subnet {cidr} has no address left for {}: enlarge its pool", asked.mac);
                if self.first(text.clone()) {
                    warn!(step = "exhausted", by = "daemon", mac = %asked.mac, subnet = %cidr, "{text}");
                }
                Err(Reason::PoolExhausted)
            }
        }
    }

    /// A machine loses its address, here, in the kernel and in the store.
    fn forget(&mut self, mac: Mac) {
        self.bindings.remove(mac);
        self.tables.hosts.remove(&HostKey::from(mac));
        self.commands.push(Command::DeleteHost(HostKey::from(mac)));
        self.commands.push(Command::Persist(Change::Delete(mac)));
    }

    /// Answers with what is prepared for the client's class and list, or, where its loader is missing, with an
    /// address only.
    fn reply(
        &mut self,
        asked: Asked<'_>,
        place: Place,
        kind: u8,
        binding: Option<Binding>,
    ) -> Result<(), Reason> {
        let mut class = asked.facts.class();
        let key = |class: Class, wanted: u32| AnswerKey {
            set: place.set,
            wanted,
            class: class.key(),
            message: kind,
            reserved: [0; 2],
        };
        if class.stage != Stage::Os && !self.tables.answers.contains_key(&key(class, 0)) && kind != BOOTP {
            self.complain(asked.mac, class);
            class = Class::OS;
        }
        let list = if class.stage == Stage::Os { requested_options(&asked) } else { None };
        let key = key(class, list.as_ref().map_or(0, |_| asked.facts.wanted));
        let prepared = match (self.tables.answers.get(&key), &list) {
            (Some(prepared), _) => Some(*prepared),
            (None, Some(list)) => {
                self.sets.by_list(key, list, &self.policy, &mut self.tables, &mut self.commands)
            }
            (None, None) => self.sets.in_room(key, None, &self.policy, ANSWER_OPTIONS),
        };
        let prepared = prepared.ok_or(Reason::NoAnswer)?;
        let host = binding.map(|binding| self.host(asked.mac, &binding, place.set, 0));
        let room = room(&asked.facts, host.as_ref());
        let fits = usize::from(prepared.body_length) <= SNAME_AND_FILE + 4 + room;
        let prepared = if fits {
            prepared
        } else {
            self.sets.in_room(key, list.as_deref(), &self.policy, room).ok_or(Reason::ReplyTooBig)?
        };
        let address = binding.map_or(Ipv4Addr::UNSPECIFIED, |binding| binding.address);
        let ciaddr = if kind == message::OFFER { [0; 4] } else { asked.request.bootp.ciaddr };
        let to = destination(&asked.request, address.octets())?;
        let reason = match kind {
            message::OFFER => Reason::Offered,
            message::INFORM => Reason::Informed,
            BOOTP => Reason::Bootp,
            _ => Reason::Acked,
        };
        self.write(asked, &prepared, host.as_ref(), address.octets(), ciaddr, to, reason)
    }

    fn refuse(&mut self, mut asked: Asked<'_>, place: Place, why: &str) -> Result<(), Reason> {
        let client = self.policy.client(asked.mac);
        info!(step = "nak", by = "daemon", mac = %asked.mac, name = client.name.as_deref().unwrap_or(""), "refused: {why}");
        let parts = Parts {
            class: Class::OS,
            message: message::NAK,
            subnet: None,
            server: place.server,
            boot: None,
            custom: &[],
            wanted: None,
            room: ANSWER_OPTIONS,
        };
        let prepared = prepare(&parts).map_err(|_| Reason::NoAnswer)?;
        let giaddr = asked.request.bootp.giaddr;
        let to = if giaddr == [0; 4] {
            // RFC 2131 section 4.3.2: broadcast, whatever address the client believes to have.
            Destination { mac: Mac::BROADCAST, address: [255; 4], port: port::DHCP_CLIENT }
        } else {
            // The relay is to broadcast it too. The flags are bytes 10 and 11 of the message.
            if let Some(flags) = asked.frame.0.get_mut(52) {
                *flags |= 0x80;
            }
            Destination { mac: Mac::BROADCAST, address: giaddr, port: port::DHCP_SERVER }
        };
        self.write(asked, &prepared, None, [0; 4], [0; 4], to, Reason::Refused)
    }

    /// Writes the answer by the function the kernel uses, and sends it.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of one decision")]
    fn write(
        &mut self,
        asked: Asked<'_>,
        prepared: &Answer,
        host: Option<&Host>,
        yiaddr: [u8; 4],
        ciaddr: [u8; 4],
        to: Destination,
        reason: Reason,
    ) -> Result<(), Reason> {
        let Asked { incoming, link, mut frame, mut facts, .. } = asked;
        let class = facts.class();
        if let Ok((request, _)) = Request::read_from_prefix(&padded(&frame)) {
            self.scratch.request = request;
        }
        let decision = Decision {
            answer: prepared,
            host,
            yiaddr,
            ciaddr,
            to,
            source: prepared.server_id,
            source_port: incoming.port,
            source_mac: link.mac,
            server_id: facts.server_override,
            class,
            reason,
        };
        let Scratch { request, desk, .. } = &mut *self.scratch;
        match answer(&mut frame, request, desk, &facts, &decision) {
            // RFC 3046 section 2.2: without it rather than not at all, and never cut.
            Err(Reason::ReplyTooBig) if facts.relay.length != 0 => {
                facts.relay = Span::default();
                answer(&mut frame, request, desk, &facts, &decision)?;
            }
            other => other?,
        }
        self.finish(incoming, &link, frame, Answered { reason, address: yiaddr, class });
        Ok(())
    }

    fn finish(&mut self, incoming: &Incoming<'_>, link: &Link, frame: Bytes, answered: Answered) {
        self.count(answered.reason);
        if answered.reason != Reason::Refused {
            let mac = client(&self.scratch.request);
            self.answered(mac, &answered, Hook::Daemon, incoming.ifindex);
        }
        self.send(incoming, frame.0, link);
    }

    /// Says once per firmware kind which loader is missing.
    fn complain(&mut self, mac: Mac, class: Class) {
        let Some(port) = self.policy.ports().first() else { return };
        if let Err(missing) = self.policy.boot_file(class, port.http, &self.policy.differences(mac))
            && self.first(missing.clone())
        {
            warn!(step = "loader", by = "daemon", %mac, "{missing}");
        }
    }

    /// Recognises a machine by its UUID or its switch port, and gives it the address that is reserved for it.
    fn recognise(&mut self, mac: Mac, facts: &Facts, frame: &Bytes) {
        let uuid = bytes(frame, facts.guid).and_then(|guid| guid.get(3..19)?.try_into().ok());
        let relay = bytes(frame, facts.relay).and_then(|option| option.get(2..)).unwrap_or_default();
        let circuit = sub_option(relay, 1);
        let relay_port = circuit.map(|circuit| (circuit, sub_option(relay, 2)));
        if !self.policy.recognise(mac, Marks { uuid, relay_port }) {
            return;
        }
        let client = self.policy.client(mac);
        let name = client.name.as_deref().unwrap_or("");
        info!(step = "recognised", by = "daemon", %mac, name, "{mac} is {name}, by its UUID or its switch port");
        let reserved = self.policy.machine(mac).and_then(|machine| machine.ip);
        if let Some(address) = reserved
            && let Some(subnet) = self.policy.subnet_of(address)
        {
            if let Some(other) = self.bindings.owner(address).filter(|other| *other != mac) {
                warn!(step = "recognised", by = "daemon", %mac, name, %address,
                    "{other} had {address} so far: the machine has a new card, or two machines show the same UUID or port");
                self.forget(other);
            }
            self.bindings.put(mac, Binding { address, subnet, state: State::Reserved });
        }
    }

    fn is_ours(&self, address: Ipv4Addr) -> bool {
        self.policy.ports().iter().any(|port| port.addresses.iter().any(|net| net.addr() == address))
    }

    fn lease(
        &self,
        mac: Mac,
        binding: &Binding,
        place: Place,
        state: LeaseState,
        expires: u64,
        now: Now,
    ) -> Lease {
        let subnet = self
            .policy
            .subnets()
            .get(place.subnet)
            .map_or_else(ipnet::Ipv4Net::default, |subnet| subnet.cidr);
        let hostname = self.policy.client(mac).name;
        let seconds = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Lease {
            mac,
            address: binding.address,
            subnet,
            state,
            expires: seconds(expires),
            hostname,
            updated: seconds(now.seconds()),
        }
    }

    /// Writes the entry of a machine that has not been heard yet: for where its subnet is directly on an interface.
    pub(super) fn put_direct_host(&mut self, mac: Mac, durable_until: u64) {
        let Some(binding) = self.bindings.get(mac) else { return };
        let found = self.policy.ports().iter().enumerate().find_map(|(position, port)| {
            let (_, address) = self.policy.direct(port).find(|(subnet, _)| *subnet == binding.subnet)?;
            (port.role == DhcpRole::Server).then_some((position, address))
        });
        if let Some((position, address)) = found {
            let set = self.set(position, Some(binding.subnet), address, self.policy.differences(mac));
            self.put_host(mac, &binding, set, durable_until);
        }
    }

    /// Writes the entry of a machine that a proxy boots otherwise than its neighbours.
    pub(super) fn put_proxied_host(&mut self, mac: Mac) {
        let proxy = self.policy.ports().iter().enumerate().find(|(_, port)| port.role == DhcpRole::Proxy);
        let Some((position, port)) = proxy else { return };
        let Some(link) = self.tables.links.get(&port.ifindex).copied() else { return };
        let set = self.set(position, None, Ipv4Addr::from(link.address), self.policy.differences(mac));
        let mut host = Host::new_zeroed();
        host.answer_set = set;
        host.mask = [255; 4];
        self.insert_host(mac, host);
    }

    fn put_host(&mut self, mac: Mac, binding: &Binding, set: u32, durable_until: u64) {
        let host = self.host(mac, binding, set, durable_until);
        self.insert_host(mac, host);
    }

    /// Changes how far the kernel may promise a machine its lease.
    pub(super) fn set_durable(&mut self, mac: Mac, durable_until: u64) {
        if let Some(host) = self.tables.hosts.get(&HostKey::from(mac)).copied() {
            self.insert_host(mac, Host { durable_until, ..host });
        }
    }

    fn insert_host(&mut self, mac: Mac, host: Host) {
        let key = HostKey::from(mac);
        if self.tables.hosts.insert(key, host) != Some(host) {
            self.commands.push(Command::PutHost(key, host));
        }
    }

    fn host(&self, mac: Mac, binding: &Binding, set: u32, durable_until: u64) -> Host {
        let subnet = self.policy.subnets().get(binding.subnet);
        let mut host = Host::new_zeroed();
        host.durable_until = durable_until;
        host.answer_set = set;
        host.address = binding.address.octets();
        host.mask = subnet.map_or([255; 4], |subnet| subnet.cidr.netmask().octets());
        let options = self.policy.options(&self.policy.differences(mac), subnet);
        let name =
            self.policy.client(mac).name.filter(|_| !options.iter().any(|option| option.code == HOST_NAME));
        put_own_options(&mut host, name.as_deref());
        host
    }
}

/// How an answer leaves: RFC 2131 section 4.1, read back from its headers.
pub(super) fn via(frame: &[u8], incoming: &Incoming<'_>, link: &Link) -> Via {
    let Ok((head, _)) = boot_common::wire::Head::read_from_prefix(frame) else { return Via::Frame };
    let destination = Ipv4Addr::from(head.ip.destination);
    let has_no_address_yet = head.bootp.giaddr == [0; 4]
        && head.bootp.yiaddr == head.ip.destination
        && head.bootp.ciaddr == [0; 4];
    if destination.is_broadcast() || has_no_address_yet {
        return Via::Frame;
    }
    let source = if head.ip.source == [0; 4] { link.address } else { head.ip.source };
    Via::Socket {
        to: SocketAddrV4::new(destination, head.udp.destination.get()),
        source: Ipv4Addr::from(source),
        port: incoming.port,
    }
}

/// Bytes for options in an answer that this client accepts: what is left of its limit beside everything else.
fn room(facts: &Facts, host: Option<&Host>) -> usize {
    // Headers, fixed fields, `sname`, `file`, cookie.
    const AROUND: u32 = 20 + 8 + 236 + 4;
    let limit = u32::from(facts.max_size).clamp(576, 1500);
    let own = host.map_or(0, |host| u32::from(host.options_length));
    let echoes = facts.guid.length + facts.client_id.length + facts.relay.length;
    let left = limit.saturating_sub(AROUND + own + echoes + 1);
    // Option 82 is what gives way (RFC 3046 section 2.2).
    let left = if left < 64 { left + facts.relay.length } else { left };
    left as usize
}

/// The parameter request list.
fn requested_options(asked: &Asked<'_>) -> Option<Vec<u8>> {
    if asked.facts.wanted == 0 {
        return None;
    }
    let message = Message::from_bytes(packet::payload(&asked.frame.0)).ok()?;
    match message.opts().get(OptionCode::ParameterRequestList) {
        Some(DhcpOption::ParameterRequestList(codes)) => {
            Some(codes.iter().map(|code| u8::from(*code)).collect())
        }
        _ => None,
    }
}

/// A whole option of the request.
fn bytes(frame: &Bytes, span: Span) -> Option<&[u8]> {
    let start = usize::try_from(span.offset).ok()?;
    let end = start + usize::try_from(span.length).ok()?;
    frame.0.get(start..end).filter(|bytes| !bytes.is_empty())
}

/// A sub-option of option 82.
fn sub_option(mut rest: &[u8], wanted: u8) -> Option<&[u8]> {
    while let [code, length, tail @ ..] = rest {
        let (value, next) = tail.split_at_checked(usize::from(*length))?;
        if *code == wanted {
            return Some(value);
        }
        rest = next;
    }
    None
}

/// A frame in a buffer of a request's size.
fn padded(frame: &Bytes) -> Vec<u8> {
    let mut bytes = frame.0.clone();
    bytes.resize(boot_common::wire::BUFFER, 0);
    bytes
}
