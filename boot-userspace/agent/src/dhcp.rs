//! An address by DHCP (RFC 2131), for as long as the agent runs.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use dhcproto::v4::{
    Decodable, Decoder, DhcpOption, Encodable, Encoder, Flags, Message, MessageType, Opcode, OptionCode,
};
use socket2::{Domain, Protocol, Socket, Type};

/// How long an answer is waited for, first and last.
const WAIT: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(16)];
/// So long an address is asked for.
const PATIENCE: Duration = Duration::from_secs(180);

/// An address of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    pub(crate) mask: Ipv4Addr,
    pub(crate) router: Option<Ipv4Addr>,
    pub(crate) seconds: u32,
    server: Option<Ipv4Addr>,
}

/// Asks for an address on an interface.
pub(crate) fn ask(interface: &str, mac: [u8; 6]) -> Result<Lease> {
    let socket = open(interface)?;
    let began = Instant::now();
    let mut wait = WAIT[0];
    let mut number = u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]]);
    while began.elapsed() < PATIENCE {
        number = number.wrapping_add(1);
        let discover = message(mac, number, MessageType::Discover);
        if let Some(offer) = exchange(&socket, &discover, MessageType::Offer, wait)? {
            let mut request = message(mac, number, MessageType::Request);
            request.opts_mut().insert(DhcpOption::RequestedIpAddress(offer.address));
            if let Some(server) = offer.server {
                request.opts_mut().insert(DhcpOption::ServerIdentifier(server));
            }
            if let Some(lease) = exchange(&socket, &request, MessageType::Ack, wait)? {
                return Ok(lease);
            }
        }
        wait = (wait * 2).min(WAIT[1]);
    }
    bail!("no DHCP server has given {interface} an address within {} s", PATIENCE.as_secs())
}

/// Asks for more time. Without an answer the address stays what it is: it is its machine's until another one needs it.
pub(crate) fn renew(interface: &str, mac: [u8; 6], lease: &Lease) -> Result<Option<Lease>> {
    let socket = open(interface)?;
    let mut request = message(mac, u32::from(lease.address), MessageType::Request);
    request.set_ciaddr(lease.address);
    exchange(&socket, &request, MessageType::Ack, WAIT[0])
}

fn open(interface: &str) -> Result<Socket> {
    let socket =
        Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).context("open a socket for DHCP")?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(interface.as_bytes())).with_context(|| format!("bind to {interface}"))?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68).into()).context("bind to port 68")?;
    Ok(socket)
}

fn message(mac: [u8; 6], number: u32, kind: MessageType) -> Message {
    let mut message = Message::default();
    message.set_opcode(Opcode::BootRequest).set_xid(number).set_chaddr(&mac);
    // The answer comes to everybody, because the interface has no address yet.
    message.set_flags(Flags::default().set_broadcast());
    let wanted = vec![OptionCode::SubnetMask, OptionCode::Router, OptionCode::AddressLeaseTime];
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    message.opts_mut().insert(DhcpOption::ParameterRequestList(wanted));
    message
}

fn exchange(
    socket: &Socket,
    request: &Message,
    wanted: MessageType,
    wait: Duration,
) -> Result<Option<Lease>> {
    let mut bytes = Vec::new();
    request.encode(&mut Encoder::new(&mut bytes)).context("write a DHCP message")?;
    let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
    socket.send_to(&bytes, &everybody.into()).context("send a DHCP message")?;
    let until = Instant::now() + wait;
    let mut buffer = [0; 1500];
    let mut socket = socket;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left))?;
        let Ok(got) = std::io::Read::read(&mut socket, &mut buffer) else { continue };
        if let Some(lease) = buffer.get(..got).and_then(|answer| read(answer, request, wanted)) {
            return Ok(Some(lease));
        }
    }
    Ok(None)
}

/// The lease in an answer to a request; nothing if it is another message.
fn read(answer: &[u8], request: &Message, wanted: MessageType) -> Option<Lease> {
    // What dhcproto reads of a longer address would be out of its bounds.
    if answer.get(1..3) != Some(&[1, 6]) {
        return None;
    }
    let answer = Message::decode(&mut Decoder::new(answer)).ok()?;
    let is_ours = answer.opcode() == Opcode::BootReply
        && answer.xid() == request.xid()
        && answer.chaddr() == request.chaddr()
        && answer.opts().msg_type() == Some(wanted)
        && !answer.yiaddr().is_unspecified();
    if !is_ours {
        return None;
    }
    let option = |code| answer.opts().get(code);
    Some(Lease {
        address: answer.yiaddr(),
        mask: match option(OptionCode::SubnetMask) {
            Some(DhcpOption::SubnetMask(mask)) => *mask,
            _ => Ipv4Addr::new(255, 255, 255, 0),
        },
        router: match option(OptionCode::Router) {
            Some(DhcpOption::Router(routers)) => routers.first().copied(),
            _ => None,
        },
        seconds: match option(OptionCode::AddressLeaseTime) {
            Some(DhcpOption::AddressLeaseTime(seconds)) => *seconds,
            _ => 3600,
        },
        server: match option(OptionCode::ServerIdentifier) {
            Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
            _ => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];

    fn answer(kind: MessageType, number: u32) -> Vec<u8> {
        let mut answer = message(MAC, number, kind);
        answer.set_opcode(Opcode::BootReply).set_yiaddr([10, 1, 1, 50]);
        answer.opts_mut().insert(DhcpOption::SubnetMask([255, 255, 0, 0].into()));
        answer.opts_mut().insert(DhcpOption::Router(vec![[10, 1, 0, 1].into()]));
        answer.opts_mut().insert(DhcpOption::AddressLeaseTime(600));
        answer.to_vec().unwrap()
    }

    #[test]
    fn only_the_answer_to_the_request_is_a_lease() {
        let request = message(MAC, 7, MessageType::Discover);
        let lease = read(&answer(MessageType::Offer, 7), &request, MessageType::Offer).unwrap();
        let router = Some(Ipv4Addr::new(10, 1, 0, 1));
        assert_eq!((lease.address, lease.router, lease.seconds), ([10, 1, 1, 50].into(), router, 600));
        assert_eq!(lease.mask, Ipv4Addr::new(255, 255, 0, 0));
        assert_eq!(read(&answer(MessageType::Offer, 8), &request, MessageType::Offer), None);
        assert_eq!(read(&answer(MessageType::Nak, 7), &request, MessageType::Offer), None);
        let mut long = answer(MessageType::Offer, 7);
        long[2] = 255;
        assert_eq!(read(&long, &request, MessageType::Offer), None);
        assert_eq!(read(&[], &request, MessageType::Offer), None);
    }
}
