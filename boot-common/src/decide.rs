//! What to answer: look-ups in the tables, and nothing else.

use crate::class::{Class, Stage};
use crate::classify::{Kind, client};
use crate::facts::Facts;
use crate::tables::{Answer, AnswerKey, Host, HostKey, Link, Tables, role};
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
    /// Client gives its address back.
    pub const RELEASE: u8 = 7;
    /// Client has an address and wants options only.
    pub const INFORM: u8 = 8;
}

/// An answer that is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'t> {
    /// The prepared part.
    pub answer: &'t Answer,
    /// The machine's own options, when it has an entry.
    pub host: Option<&'t Host>,
    /// Address given; 0.0.0.0 from a proxy.
    pub yiaddr: [u8; 4],
    /// Copied from an acknowledged request, else 0.
    pub ciaddr: [u8; 4],
    /// Where the frame goes.
    pub to: Destination,
    /// Our address on the interface.
    pub source: [u8; 4],
    /// Our port.
    pub source_port: u16,
    /// Our Ethernet address.
    pub source_mac: Mac,
    /// The client's class.
    pub class: Class,
    /// How the packet will have ended.
    pub reason: Reason,
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
/// Why it is not answered from the tables: the daemon goes on from there.
#[inline(always)]
pub fn decide<'t, T: Tables>(
    request: &Request,
    kind: Kind,
    facts: &Facts,
    link: &Link,
    ifindex: u32,
    tables: &'t T,
    now: u64,
) -> Result<Decision<'t>, Reason> {
    if facts.message == 0 {
        return Err(Reason::NoMessageType);
    }
    if request.bootp.giaddr != [0; 4] || facts.relay.length != 0 {
        return Err(Reason::Relayed);
    }
    match (link.role, kind) {
        (role::SERVER | role::PROXY, Kind::Pxe) => boot_server(request, facts, link, tables),
        (role::SERVER, Kind::Dhcp) => serve(request, facts, link, ifindex, tables, now),
        (role::PROXY, Kind::Dhcp) => proxy(facts, link, tables),
        (_, Kind::Tftp) => Err(Reason::Tftp),
        _ => Err(Reason::RoleOff),
    }
}

/// An offer, or the ACK of one, with an address.
#[inline(always)]
fn serve<'t, T: Tables>(
    request: &Request,
    facts: &Facts,
    link: &Link,
    ifindex: u32,
    tables: &'t T,
    now: u64,
) -> Result<Decision<'t>, Reason> {
    let (message, reason) = match facts.message {
        message::DISCOVER => (message::OFFER, Reason::Offered),
        message::REQUEST => (message::ACK, Reason::Acked),
        _ => return Err(Reason::OtherMessage),
    };
    if request.bootp.ciaddr != [0; 4] {
        return Err(Reason::HasAddress);
    }
    let host = tables.host(&HostKey::from(client(request))).ok_or(Reason::UnknownHost)?;
    if host.ifindex != ifindex {
        return Err(Reason::OtherSubnet);
    }
    if message == message::ACK {
        // SELECTING only (RFC 2131 table 4): the states without a server identifier are the daemon's.
        if facts.server_id != link.address {
            return Err(Reason::OtherServer);
        }
        if facts.requested != host.address {
            return Err(Reason::OtherAddress);
        }
        if now.saturating_add(u64::from(host.lease) * 1_000_000_000) > host.durable_until {
            return Err(Reason::NotDurable);
        }
    }
    let class = facts.class();
    let key = AnswerKey { set: host.answer_set, class: class.key(), message, reserved: [0; 2] };
    let answer = tables.answer(&key).ok_or(Reason::NoAnswer)?;
    Ok(Decision {
        answer,
        host: Some(host),
        yiaddr: host.address,
        ciaddr: [0; 4],
        to: to_client(request, host.address),
        source: link.address,
        source_port: port::DHCP_SERVER,
        source_mac: link.mac,
        class,
        reason,
    })
}

/// An offer of boot files only, beside the server that gives addresses (PXE 2.1 section 2.2).
#[inline(always)]
fn proxy<'t, T: Tables>(facts: &Facts, link: &Link, tables: &'t T) -> Result<Decision<'t>, Reason> {
    let class = facts.class();
    if class.stage == Stage::Os {
        return Err(Reason::NotPxe);
    }
    // A REQUEST on port 67 is for the server whose offer was taken. Ours is never taken: it has no address.
    if facts.message != message::DISCOVER {
        return Err(Reason::OtherMessage);
    }
    let key =
        AnswerKey { set: link.proxy_set, class: class.key(), message: message::OFFER, reserved: [0; 2] };
    let answer = tables.answer(&key).ok_or(Reason::NoAnswer)?;
    // There is no address to send to, whatever the broadcast flag says.
    let to = Destination { mac: Mac::BROADCAST, address: [255; 4], port: port::DHCP_CLIENT };
    Ok(Decision {
        answer,
        host: None,
        yiaddr: [0; 4],
        ciaddr: [0; 4],
        to,
        source: link.address,
        source_port: port::DHCP_SERVER,
        source_mac: link.mac,
        class,
        reason: Reason::Offered,
    })
}

/// The boot file for a client that has its address and asks on port 4011 (PXE 2.1 section 2.2).
///
/// iPXE takes the answer only from source port 4011.
#[inline(always)]
fn boot_server<'t, T: Tables>(
    request: &Request,
    facts: &Facts,
    link: &Link,
    tables: &'t T,
) -> Result<Decision<'t>, Reason> {
    let class = facts.class();
    if class.stage == Stage::Os {
        return Err(Reason::NotPxe);
    }
    if !matches!(facts.message, message::REQUEST | message::INFORM) {
        return Err(Reason::OtherMessage);
    }
    let ciaddr = request.bootp.ciaddr;
    if ciaddr == [0; 4] || request.ip.source != ciaddr || !request.eth.source.is_station() {
        return Err(Reason::PxeRequest);
    }
    let key = AnswerKey { set: link.proxy_set, class: class.key(), message: message::ACK, reserved: [0; 2] };
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
        class,
        reason: Reason::BootServer,
    })
}

/// RFC 2131 section 4.1 for a client that is not behind a relay and has no address yet.
#[inline(always)]
#[must_use]
pub fn to_client(request: &Request, yiaddr: [u8; 4]) -> Destination {
    if request.bootp.flags.get() & 0x8000 != 0 {
        Destination { mac: Mac::BROADCAST, address: [255; 4], port: port::DHCP_CLIENT }
    } else {
        Destination { mac: client(request), address: yiaddr, port: port::DHCP_CLIENT }
    }
}
