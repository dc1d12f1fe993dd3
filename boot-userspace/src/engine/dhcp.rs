//! DHCP policy: what the tables could not answer by themselves (RFC 2131 section 4.3).
//!
//! A decision here ends in the tables wherever it can, and the shared function then answers from them; only
//! what the tables cannot express (relays, renewals, refusals) is put together here.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use boot_common::answer::answer;
use boot_common::class::Class;
use boot_common::classify::client;
use boot_common::decide::{Decision, Destination, message, to_client};
use boot_common::facts::Facts;
use boot_common::frame::Bytes;
use boot_common::respond::{Answered, respond};
use boot_common::tables::{Answer, AnswerKey, Hook, Host, HostKey, Link, role};
use boot_common::wire::{Request, op, port};
use boot_common::{Mac, Reason};
use dhcproto::v4::{Message, OptionCode};
use dhcproto::{Decodable as _, Encodable as _};
use tracing::{info, warn};
use zerocopy::{FromBytes as _, FromZeros as _};

use crate::config::DhcpRole;
use crate::engine::answers::{INFORMED, Parts, lease_seconds, prepare, put_own_options};
use crate::engine::command::{Command, Incoming, Now, Via};
use crate::engine::lease::{Binding, Bound, State};
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
            | Reason::HasAddress
            | Reason::Relayed
            | Reason::PxeRequest
            | Reason::NoAnswer
            | Reason::ReplyTooBig => {}
            // Not to be believed, or not for us.
            _ => return Err(reason),
        }
        let request = Box::new(self.scratch.request);
        let facts = *self.scratch.walk.finish()?;
        let mac = client(&request);
        if !self.policy.serves(mac) {
            return Err(Reason::UnknownHost);
        }
        let asked = Asked { incoming, link: *link, frame, facts, mac, request, now };
        if incoming.port == port::PXE {
            return self.boot_server(asked);
        }
        match link.role {
            role::SERVER => {}
            role::PROXY => return self.listen_in(&asked, reason),
            _ => return Err(Reason::RoleOff),
        }
        match facts.message {
            message::DISCOVER => self.discover(asked),
            message::REQUEST => self.request(asked),
            message::INFORM => self.inform(asked),
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
        self.bind(&asked, place)?;
        let binding = self.bindings.get(asked.mac).ok_or(Reason::PoolExhausted)?;
        let durable_until =
            self.tables.hosts.get(&HostKey::from(asked.mac)).map_or(0, |host| host.durable_until);
        self.put_direct_host(asked.mac, durable_until);
        self.reply(asked, place, message::OFFER, Some(binding))
    }

    fn request(&mut self, asked: Asked<'_>) -> Result<(), Reason> {
        let facts = &asked.facts;
        let ciaddr = Ipv4Addr::from(asked.request.bootp.ciaddr);
        let server_id = Ipv4Addr::from(facts.server_id);
        let selecting = !server_id.is_unspecified();
        if selecting && !self.is_ours(server_id) {
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
            Some(binding) if binding.address == wanted && binding.subnet == place.subnet => {
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
        let lease = self.policy.subnets().get(place.subnet).map_or(0, lease_seconds);
        let stored = u64::from(lease) * HORIZON;
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
        self.put_direct_host(asked.mac, durable_until);
        self.reply(asked, place, message::ACK, Some(binding))
    }

    fn inform(&mut self, asked: Asked<'_>) -> Result<(), Reason> {
        let place = self.place(&asked)?;
        self.reply(asked, place, INFORMED, None)
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
        self.put_direct_host(asked.mac, 0);
        Err(Reason::Released)
    }

    /// A REQUEST that a proxy hears is for the other server, but it tells which address the machine will have.
    fn listen_in(&mut self, asked: &Asked<'_>, reason: Reason) -> Result<(), Reason> {
        let address = Ipv4Addr::from(asked.facts.requested);
        if asked.facts.message == message::REQUEST && !address.is_unspecified() {
            self.roster.put(address, self.policy.client(asked.mac));
        }
        if reason == Reason::NoAnswer {
            self.complain(asked.facts.class());
        }
        Err(reason)
    }

    /// A request on port 4011 that the tables leave open: from an address the client does not name itself, or
    /// for a firmware kind without a loader.
    fn boot_server(&mut self, asked: Asked<'_>) -> Result<(), Reason> {
        let class = asked.facts.class();
        let key = AnswerKey {
            set: asked.link.proxy_set,
            class: class.key(),
            message: message::ACK,
            reserved: [0; 2],
        };
        let Some(prepared) = self.tables.answers.get(&key).copied() else {
            self.complain(class);
            return Err(Reason::NoAnswer);
        };
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
        let (position, http, subnet, server) = {
            let (position, port) = self.policy.port(asked.incoming.ifindex).ok_or(Reason::NoLink)?;
            let found = if giaddr.is_unspecified() {
                let bound = self.bindings.get(asked.mac).map(|binding| binding.subnet);
                let mut direct = self.policy.direct(port);
                let first = direct.next();
                // A machine's own subnet, where the interface has several.
                first.into_iter().chain(direct).find(|(subnet, _)| Some(*subnet) == bound).or(first)
            } else {
                let selected = link_selection(asked).unwrap_or(giaddr);
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
            (position, port.http, subnet, server)
        };
        let set = self.prepare_subnet(position, subnet, server, http);
        Ok(Place { subnet, server, set })
    }

    fn bind(&mut self, asked: &Asked<'_>, place: Place) -> Result<(), Reason> {
        let requested = Ipv4Addr::from(asked.facts.requested);
        let requested = (!requested.is_unspecified()).then_some(requested);
        let now = asked.now.seconds();
        let Some(pools) = self.policy.subnets().get(place.subnet) else { return Err(Reason::NoSubnet) };
        let cidr = pools.cidr;
        match self.bindings.bind(asked.mac, place.subnet, pools, requested, now) {
            Bound::To(_) => Ok(()),
            Bound::TakenFrom(loser, _) => {
                self.forget(loser);
                Ok(())
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

    /// Answers with what is prepared for the client's class, or, where its loader is missing, with an address only.
    fn reply(
        &mut self,
        asked: Asked<'_>,
        place: Place,
        kind: u8,
        binding: Option<Binding>,
    ) -> Result<(), Reason> {
        let class = asked.facts.class();
        let key =
            |class: Class| AnswerKey { set: place.set, class: class.key(), message: kind, reserved: [0; 2] };
        let prepared = match self.tables.answers.get(&key(class)) {
            Some(prepared) => *prepared,
            None => {
                self.complain(class);
                *self.tables.answers.get(&key(Class::OS)).ok_or(Reason::NoAnswer)?
            }
        };
        let address = binding.map_or(Ipv4Addr::UNSPECIFIED, |binding| binding.address);
        let host =
            binding.map(|binding| self.host(asked.mac, &binding, asked.incoming.ifindex, place.set, 0));
        let acknowledges = kind != message::OFFER;
        let ciaddr = if acknowledges { asked.request.bootp.ciaddr } else { [0; 4] };
        let to = self.destination(&asked, address, ciaddr);
        let reason = if acknowledges { Reason::Acked } else { Reason::Offered };
        self.write(asked, &prepared, host.as_ref(), address.octets(), ciaddr, to, reason)
    }

    fn refuse(&mut self, mut asked: Asked<'_>, place: Place, why: &str) -> Result<(), Reason> {
        let client = self.policy.client(asked.mac);
        info!(step = "nak", by = "daemon", mac = %asked.mac, name = client.name.as_deref().unwrap_or(""), "refused: {why}");
        let parts =
            Parts { class: Class::OS, message: message::NAK, subnet: None, server: place.server, boot: None };
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

    /// RFC 2131 section 4.1.
    fn destination(&self, asked: &Asked<'_>, address: Ipv4Addr, ciaddr: [u8; 4]) -> Destination {
        let giaddr = asked.request.bootp.giaddr;
        if giaddr != [0; 4] {
            Destination { mac: asked.mac, address: giaddr, port: port::DHCP_SERVER }
        } else if ciaddr != [0; 4] {
            Destination { mac: asked.mac, address: ciaddr, port: port::DHCP_CLIENT }
        } else {
            to_client(&asked.request, address.octets())
        }
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
        let Asked { incoming, link, mut frame, facts, .. } = asked;
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
            class,
            reason,
        };
        answer(&mut frame, &mut self.scratch, &facts, &decision)?;
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
    fn complain(&mut self, class: Class) {
        let Some(port) = self.policy.ports().first() else { return };
        if let Err(missing) = self.policy.boot_file(class, port.http)
            && self.first(missing.clone())
        {
            warn!(step = "loader", by = "daemon", "{missing}");
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

    /// Writes a machine's entry where the kernel can use it: on the interface its subnet is directly on.
    pub(super) fn put_direct_host(&mut self, mac: Mac, durable_until: u64) {
        let Some(binding) = self.bindings.get(mac) else { return };
        let found = self.policy.ports().iter().enumerate().find_map(|(position, port)| {
            let (_, address) = self.policy.direct(port).find(|(subnet, _)| *subnet == binding.subnet)?;
            // The tables have one address per interface: a second subnet on it is the daemon's.
            let primary =
                self.tables.links.get(&port.ifindex).is_some_and(|link| link.address == address.octets());
            (primary && port.role == DhcpRole::Server).then_some((position, port.ifindex, address, port.http))
        });
        let Some((position, ifindex, address, http)) = found else { return };
        let set = self.prepare_subnet(position, binding.subnet, address, http);
        let host = self.host(mac, &binding, ifindex, set, durable_until);
        let key = HostKey::from(mac);
        if self.tables.hosts.insert(key, host) != Some(host) {
            self.commands.push(Command::PutHost(key, host));
        }
    }

    fn host(&self, mac: Mac, binding: &Binding, ifindex: u32, set: u32, durable_until: u64) -> Host {
        let mut host = Host::new_zeroed();
        host.durable_until = durable_until;
        host.ifindex = ifindex;
        host.answer_set = set;
        host.address = binding.address.octets();
        host.lease = self.policy.subnets().get(binding.subnet).map_or(0, lease_seconds);
        put_own_options(&mut host, self.policy.client(mac).name.as_deref());
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

/// The subnet a relay names beside its own address (RFC 3527).
fn link_selection(asked: &Asked<'_>) -> Option<Ipv4Addr> {
    let relay = asked.facts.relay;
    let start = usize::try_from(relay.offset).ok()? + 2;
    let end = usize::try_from(relay.offset + relay.length).ok()?;
    let mut rest = asked.frame.0.get(start..end)?;
    while let [code, length, tail @ ..] = rest {
        let (value, next) = tail.split_at_checked(usize::from(*length))?;
        if let (5, Ok(octets)) = (*code, <[u8; 4]>::try_from(value)) {
            return Some(Ipv4Addr::from(octets));
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
