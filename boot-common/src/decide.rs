//! The decision about a request: look-ups in the tables, and nothing else.

use crate::class::{Class, Stage};
use crate::classify::{Kind, can_be_a_source, client};
use crate::facts::Facts;
use crate::tables::{Answer, AnswerKey, Host, HostKey, IGNORED_SET, LinkEntry, Tables, role};
use crate::wire::{Request, port};
use crate::{Mac, Reason};

/// DHCP message types (RFC 2132 section 9.6).
pub mod message {
    /// Client looks for servers.
    pub const DISCOVER: u8 = 1;
    /// Server offers an address.
    pub const OFFER: u8 = 2;
    /// Client takes an offer, or asks for its address again.
    pub const REQUEST: u8 = 3;
    /// Client found the address in use.
    pub const DECLINE: u8 = 4;
    /// Server confirms.
    pub const ACK: u8 = 5;
    /// Server refuses.
    pub const NAK: u8 = 6;
    /// Client releases its address.
    pub const RELEASE: u8 = 7;
    /// Client has an address and wants options only.
    pub const INFORM: u8 = 8;
    /// In an answer's key only: the ACK of the boot server on port 4011, which has a boot file and no lease.
    pub const BOOT_ACK: u8 = 0x85;
}

/// Seconds that a client may take from an offer to its REQUEST: EDK2 sends the REQUEST at the end of its window, and its
/// first windows are 4, 8 and 16 s long.
pub const OFFER_LASTS: u32 = 60;

/// An answer to write.
///
/// The order of the fields keeps the pointers whole in `Result<Decision, Reason>`: an `Err`'s payload lies in the place of
/// the second field. If that were a pointer, the compiler would copy it in halves, and the verifier forbids that.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Decision<'t> {
    /// How the packet ends if the answer can be written.
    pub reason: Reason,
    /// The server's port.
    pub source_port: u16,
    /// The client's class.
    pub class: Class,
    /// The prepared answer.
    pub answer: &'t Answer,
    /// The machine's entry with its own options, if there is one.
    pub host: Option<&'t Host>,
    /// Address given; 0.0.0.0 from a proxy.
    pub yiaddr: [u8; 4],
    /// Copied from an acknowledged request, else 0.
    pub ciaddr: [u8; 4],
    /// The server's address on the interface.
    pub source: [u8; 4],
    /// The server identifier that a relay asks for instead of the prepared one (RFC 5107), or 0.0.0.0.
    pub server_id: [u8; 4],
    /// The receiver.
    pub to: Destination,
    /// The server's Ethernet address.
    pub source_mac: Mac,
}

/// Addresses of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Ethernet receiver.
    pub mac: Mac,
    /// IP receiver.
    pub address: [u8; 4],
    /// UDP receiver.
    pub port: u16,
}

/// Decides about a request that [`classify`](crate::classify) and [`facts`](crate::facts) found intact.
///
/// `now` is boot-clock nanoseconds.
///
/// # Errors
/// The reason why the tables have no answer; the daemon continues from there.
#[inline(always)]
pub fn decide<'t, T: Tables>(
    request: &Request,
    kind: Kind,
    facts: &Facts,
    link: &LinkEntry,
    tables: &'t T,
    now: u64,
) -> Result<Decision<'t>, Reason> {
    if facts.message == 0 {
        return Err(Reason::NoMessageType);
    }
    if !is_possible_relay(request, facts, link) {
        return Err(Reason::BadRelay);
    }
    // Only here: the verifier checks the rest once for each kind.
    let class = facts.class();
    match (link.role, kind) {
        (role::SERVER | role::PROXY, Kind::Pxe) => boot_server(request, facts, class, link, tables),
        (role::SERVER, Kind::Dhcp) => serve(request, facts, class, link, tables, now),
        (role::PROXY, Kind::Dhcp) => proxy(request, facts, class, link, tables),
        (_, Kind::Tftp) => Err(Reason::Tftp),
        _ => Err(Reason::RoleOff),
    }
}

/// An offer, or the ACK in any of the client's states (RFC 2131 section 4.3.2, table 4).
#[inline(always)]
fn serve<'t, T: Tables>(
    request: &Request,
    facts: &Facts,
    class: Class,
    link: &LinkEntry,
    tables: &'t T,
    now: u64,
) -> Result<Decision<'t>, Reason> {
    let (kind, reason) = match facts.message {
        message::DISCOVER => (message::OFFER, Reason::Offered),
        message::REQUEST => (message::ACK, Reason::Acked),
        message::INFORM if request.bootp.ciaddr != [0; 4] => (message::INFORM, Reason::Informed),
        _ => return Err(Reason::OtherMessage),
    };
    let host = tables.host(&HostKey::from(client(request))).ok_or(Reason::UnknownHost)?;
    port_agrees(facts, host)?;
    if host.answer_set == IGNORED_SET {
        return Err(Reason::Ignored);
    }
    if !same_network(place(request, facts, link), host.address, host.mask) {
        return Err(Reason::OtherSubnet);
    }
    if same_network(request.bootp.giaddr, host.address, host.mask)
        && !is_station(request.bootp.giaddr, host.mask)
    {
        return Err(Reason::BadRelay);
    }
    let ciaddr = request.bootp.ciaddr;
    if kind == message::ACK {
        confirms(request, facts, link, host)?;
    }
    let wanted = if class.stage == Stage::Os { facts.wanted } else { 0 };
    let key = AnswerKey {
        set: host.answer_set,
        wanted,
        class: class.answered_as().key(),
        message: kind,
        reserved: [0; 2],
    };
    let answer = tables.answer(&key).ok_or(Reason::NoAnswer)?;
    let (ahead, until) = match kind {
        message::ACK => (answer.lease, host.promised_until()),
        message::OFFER => (OFFER_LASTS, host.bound_until),
        _ => (0, u64::MAX),
    };
    if now.saturating_add(u64::from(ahead) * 1_000_000_000) > until {
        return Err(Reason::NotDurable);
    }
    Ok(Decision {
        answer,
        host: Some(host),
        yiaddr: if kind == message::INFORM { [0; 4] } else { host.address },
        ciaddr: if kind == message::OFFER { [0; 4] } else { ciaddr },
        to: destination(request, facts, host.address)?,
        source: link.address,
        source_port: port::DHCP_SERVER,
        source_mac: link.mac,
        server_id: facts.server_override,
        class,
        reason,
    })
}

/// Whether a REQUEST asks for the machine's own address.
#[inline(always)]
fn confirms(request: &Request, facts: &Facts, link: &LinkEntry, host: &Host) -> Result<(), Reason> {
    let ciaddr = request.bootp.ciaddr;
    let asks = if facts.requested != [0; 4] { facts.requested } else { ciaddr };
    if facts.server_id != [0; 4] {
        // SELECTING.
        let ours = if facts.server_override != [0; 4] { facts.server_override } else { link.address };
        if facts.server_id != ours {
            return Err(Reason::OtherServer);
        }
    }
    // SELECTING and INIT-REBOOT name the address in option 50, RENEWING and REBINDING in ciaddr.
    let fits = asks == host.address && (ciaddr == [0; 4] || ciaddr == host.address);
    if fits { Ok(()) } else { Err(Reason::OtherAddress) }
}

/// The kernel half does not know which machine is at which switch port.
#[inline(always)]
fn port_agrees(facts: &Facts, host: &Host) -> Result<(), Reason> {
    if host.port_decides != 0 && facts.relay.length != 0 { Err(Reason::SwitchPort) } else { Ok(()) }
}

/// An address in the client's network. A relay is believed only if it sends its own address (RFC 3046 section 2.1).
#[inline(always)]
fn place(request: &Request, facts: &Facts, link: &LinkEntry) -> [u8; 4] {
    if request.bootp.giaddr == [0; 4] {
        if writes_to_us(request, link) { request.bootp.ciaddr } else { link.address }
    } else if facts.link_selection != [0; 4] {
        facts.link_selection
    } else {
        request.bootp.giaddr
    }
}

/// Whether a client sends to this server alone (RFC 2131 section 4.3.2, RENEWING): it has an address, which shows its
/// network, and it may be behind routers.
#[inline(always)]
#[must_use]
pub fn writes_to_us(request: &Request, link: &LinkEntry) -> bool {
    request.bootp.ciaddr != [0; 4] && request.ip.destination == link.address
}

/// Whether a relay may have the addresses that it names: its own (giaddr), its link's (82.5) and its server's (82.11). The
/// answer is sent to giaddr, which must not be this server itself.
#[inline(always)]
fn is_possible_relay(request: &Request, facts: &Facts, link: &LinkEntry) -> bool {
    request.bootp.giaddr == [0; 4]
        || (request.bootp.giaddr != link.address
            && can_be_a_source(facts.link_selection)
            && can_be_a_source(facts.server_override))
}

/// Whether an address of this network is neither the network's own address nor its broadcast address. Networks of one or
/// two addresses have neither (RFC 3021).
#[inline(always)]
#[must_use]
pub fn is_station(address: [u8; 4], mask: [u8; 4]) -> bool {
    let rest = !u32::from_be_bytes(mask);
    let own = u32::from_be_bytes(address) & rest;
    rest < 2 || (own != 0 && own != rest)
}

#[inline(always)]
fn same_network(a: [u8; 4], b: [u8; 4], mask: [u8; 4]) -> bool {
    (u32::from_be_bytes(a) ^ u32::from_be_bytes(b)) & u32::from_be_bytes(mask) == 0
}

/// An offer of boot files only, beside the server that gives addresses (PXE 2.1 section 2.2).
#[inline(always)]
fn proxy<'t, T: Tables>(
    request: &Request,
    facts: &Facts,
    class: Class,
    link: &LinkEntry,
    tables: &'t T,
) -> Result<Decision<'t>, Reason> {
    if !facts.heeds_proxies() {
        return Err(Reason::NotPxe);
    }
    // A REQUEST on port 67 is for the server whose offer the client took. A proxy's offer is never taken: it has no address.
    if facts.message != message::DISCOVER {
        return Err(Reason::OtherMessage);
    }
    let set = set_without_address(request, facts, link, tables)?;
    let key = AnswerKey {
        set,
        wanted: 0,
        class: class.answered_as().key(),
        message: message::OFFER,
        reserved: [0; 2],
    };
    let answer = tables.answer(&key).ok_or(Reason::NoAnswer)?;
    let to = if request.bootp.giaddr == [0; 4] {
        // The client has no address yet, whatever the broadcast flag says.
        Destination { mac: Mac::BROADCAST, address: [255; 4], port: port::DHCP_CLIENT }
    } else {
        destination(request, facts, [0; 4])?
    };
    Ok(Decision {
        answer,
        host: None,
        yiaddr: [0; 4],
        ciaddr: [0; 4],
        to,
        source: link.address,
        source_port: port::DHCP_SERVER,
        source_mac: link.mac,
        server_id: [0; 4],
        class,
        reason: Reason::Offered,
    })
}

/// The answer set for answers without an address.
#[inline(always)]
fn set_without_address<T: Tables>(
    request: &Request,
    facts: &Facts,
    link: &LinkEntry,
    tables: &T,
) -> Result<u32, Reason> {
    match tables.host(&HostKey::from(client(request))) {
        Some(host) if host.answer_set == IGNORED_SET => port_agrees(facts, host).and(Err(Reason::Ignored)),
        Some(host) if link.role == role::PROXY && host.address != [0; 4] => Err(Reason::OtherSubnet),
        Some(host) => port_agrees(facts, host).map(|()| host.answer_set),
        None if link.unknown_ask != 0 => Err(Reason::UnknownHost),
        None => Ok(link.proxy_set),
    }
}

/// The answer with a boot file to a client that has its address and asks on port 4011 (PXE 2.1 section 2.2).
///
/// iPXE takes the answer only from source port 4011.
#[inline(always)]
fn boot_server<'t, T: Tables>(
    request: &Request,
    facts: &Facts,
    class: Class,
    link: &LinkEntry,
    tables: &'t T,
) -> Result<Decision<'t>, Reason> {
    if !facts.heeds_proxies() {
        return Err(Reason::NotPxe);
    }
    if !matches!(facts.message, message::REQUEST | message::INFORM) {
        return Err(Reason::OtherMessage);
    }
    let ciaddr = request.bootp.ciaddr;
    if ciaddr == [0; 4] || request.ip.source != ciaddr || !request.eth.source.is_station() {
        return Err(Reason::PxeRequest);
    }
    let set = set_without_address(request, facts, link, tables)?;
    let key = AnswerKey {
        set,
        wanted: 0,
        class: class.answered_as().key(),
        message: message::BOOT_ACK,
        reserved: [0; 2],
    };
    let answer = tables.answer(&key).ok_or(Reason::NoAnswer)?;
    let to = Destination { mac: request.eth.source, address: ciaddr, port: request.udp.source.get() };
    Ok(Decision {
        answer,
        host: None,
        yiaddr: [0; 4],
        ciaddr,
        to,
        source: link.address,
        source_port: port::PXE,
        source_mac: link.mac,
        server_id: [0; 4],
        class,
        reason: Reason::BootServer,
    })
}

/// The receiver of an answer (RFC 2131 section 4.1).
///
/// # Errors
/// [`Reason::BadSource`] if the frame's source is not a station's address, so that no answer can be sent there.
#[inline(always)]
pub fn destination(request: &Request, facts: &Facts, yiaddr: [u8; 4]) -> Result<Destination, Reason> {
    let sender = request.eth.source;
    let bootp = &request.bootp;
    if bootp.giaddr != [0; 4] {
        // Back to the frame's sender: the relay, or the router on the way to it.
        if !sender.is_station() {
            return Err(Reason::BadSource);
        }
        return Ok(Destination { mac: sender, address: bootp.giaddr, port: relay_port(request, facts) });
    }
    if bootp.ciaddr != [0; 4] {
        let through_a_router = request.ip.source == bootp.ciaddr && sender.is_station();
        let mac = if through_a_router { sender } else { client(request) };
        return Ok(Destination { mac, address: bootp.ciaddr, port: port::DHCP_CLIENT });
    }
    Ok(if bootp.flags.get() & 0x8000 != 0 {
        Destination { mac: Mac::BROADCAST, address: [255; 4], port: port::DHCP_CLIENT }
    } else {
        Destination { mac: client(request), address: yiaddr, port: port::DHCP_CLIENT }
    })
}

/// The port of the request's relay (RFC 2131 section 4.1, RFC 8357).
#[inline(always)]
#[must_use]
pub fn relay_port(request: &Request, facts: &Facts) -> u16 {
    if facts.relay_source_port != 0 { request.udp.source.get() } else { port::DHCP_SERVER }
}
