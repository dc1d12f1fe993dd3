//! What firmware sends, and what of an answer is looked at.

use std::net::Ipv4Addr;

use boot_bench::frame::{ETH, PAYLOAD, SERVER, SERVER_MAC, UDP, finish, mac, mac_owner};

/// Room for a frame that a client sends.
pub(crate) const ROOM: usize = 512;

const BOOTP: usize = PAYLOAD;
const OPTIONS: usize = BOOTP + 240;

/// A kind of request, complete but for what differs from machine to machine.
pub(crate) struct Template {
    frame: Vec<u8>,
    requested: Option<usize>,
    server: Option<usize>,
    uuid: Option<usize>,
    renews: bool,
}

/// What EDK2 asks for, in its order.
const EDK2_WANTS: [u8; 35] = [
    1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67, 97,
    128, 129, 130, 131, 132, 133, 134, 135,
];
/// What Linux distributions ask for.
const LINUX_WANTS: [u8; 8] = [1, 3, 6, 12, 15, 28, 42, 121];

impl Template {
    /// The firmware's DISCOVER (EDK2 for x64).
    pub(crate) fn discover() -> Self {
        Self::build(&[53, 1, 1], true, false)
    }

    /// The firmware's REQUEST after an offer.
    pub(crate) fn request() -> Self {
        Self::build(&[53, 1, 3, 54, 4, 0, 0, 0, 0, 50, 4, 0, 0, 0, 0], true, false)
    }

    /// An operating system's REQUEST to keep its address, to the server alone.
    pub(crate) fn renew() -> Self {
        Self::build(&[53, 1, 3], false, true)
    }

    fn build(first: &[u8], firmware: bool, renews: bool) -> Self {
        let mut frame = vec![0; OPTIONS];
        frame[..6].copy_from_slice(if renews { &SERVER_MAC } else { &[0xff; 6] });
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[ETH] = 0x45;
        frame[ETH + 8..ETH + 10].copy_from_slice(&[64, 17]);
        frame[ETH + 16..ETH + 20].copy_from_slice(&if renews { SERVER.octets() } else { [255; 4] });
        frame[UDP..UDP + 4].copy_from_slice(&[0, 68, 0, 67]);
        frame[BOOTP..BOOTP + 3].copy_from_slice(&[1, 1, 6]);
        frame[OPTIONS - 4..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        frame.extend(first);
        let mut uuid = None;
        frame.extend(if firmware { [57, 2, 0x05, 0xc0] } else { [57, 2, 0x05, 0xdc] });
        let wants: &[u8] = if firmware { &EDK2_WANTS } else { &LINUX_WANTS };
        frame.extend([55, wants.len() as u8]);
        frame.extend(wants);
        if firmware {
            frame.extend([97, 17, 0]);
            uuid = Some(frame.len());
            frame.extend([0x42; 16]);
            frame.extend([94, 3, 1, 3, 16, 93, 2, 0, 7, 60, 32]);
            frame.extend(b"PXEClient:Arch:00007:UNDI:003016");
        }
        frame.push(255);
        frame.resize(frame.len().max(BOOTP + 300).next_multiple_of(2), 0);
        let (ip, udp) = (frame.len() - ETH, frame.len() - UDP);
        frame[ETH + 2..ETH + 4].copy_from_slice(&(ip as u16).to_be_bytes());
        frame[UDP + 4..UDP + 6].copy_from_slice(&(udp as u16).to_be_bytes());
        let asks = first.len() > 3;
        Self {
            frame,
            requested: asks.then_some(OPTIONS + 11),
            server: asks.then_some(OPTIONS + 5),
            uuid,
            renews,
        }
    }

    /// Writes a machine's frame; gives its length.
    pub(crate) fn write(&self, to: &mut [u8; ROOM], machine: u32, xid: u32, offered: Ipv4Addr) -> usize {
        let length = self.frame.len();
        let frame = &mut to[..length];
        frame.copy_from_slice(&self.frame);
        let mac = mac(machine);
        frame[6..12].copy_from_slice(&mac);
        frame[BOOTP + 4..BOOTP + 8].copy_from_slice(&xid.to_be_bytes());
        frame[BOOTP + 28..BOOTP + 34].copy_from_slice(&mac);
        if let Some(at) = self.uuid {
            frame[at + 10..at + 16].copy_from_slice(&mac);
        }
        if let (Some(requested), Some(server)) = (self.requested, self.server) {
            frame[requested..requested + 4].copy_from_slice(&offered.octets());
            frame[server..server + 4].copy_from_slice(&SERVER.octets());
        }
        if self.renews {
            frame[ETH + 12..ETH + 16].copy_from_slice(&offered.octets());
            frame[BOOTP + 12..BOOTP + 16].copy_from_slice(&offered.octets());
        }
        finish(frame);
        length
    }
}

/// What kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Offer,
    Ack,
    Nak,
    /// A client's own request, which the reflector sends back.
    Echo,
}

/// What of an answer is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    pub(crate) kind: Kind,
    pub(crate) machine: u32,
    pub(crate) xid: u32,
    pub(crate) address: Ipv4Addr,
    /// It names a boot file.
    pub(crate) boots: bool,
}

impl Reply {
    /// Reads a frame; none when it is no answer to a machine of ours.
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        if frame.get(12..ETH + 1)? != [8, 0, 0x45] || frame.get(ETH + 9) != Some(&17) {
            return None;
        }
        let bootp = frame.get(BOOTP..OPTIONS)?;
        let word = |at: usize| bootp.get(at..at + 4)?.try_into().ok();
        let mut reply = Self {
            kind: Kind::Echo,
            machine: mac_owner(bootp.get(28..34)?)?,
            xid: u32::from_be_bytes(word(4)?),
            address: Ipv4Addr::from(word(16)?),
            boots: bootp.get(108) != Some(&0),
        };
        if bootp.first() == Some(&1) {
            return Some(reply);
        }
        let mut kind = None;
        let mut rest = frame.get(OPTIONS..)?;
        while let [code, tail @ ..] = rest {
            rest = match (code, tail) {
                (0, _) => tail,
                (255, _) => break,
                (_, [length, tail @ ..]) => {
                    let (value, tail) = tail.split_at_checked(usize::from(*length))?;
                    match (code, value) {
                        (53, [2]) => kind = Some(Kind::Offer),
                        (53, [5]) => kind = Some(Kind::Ack),
                        (53, [6]) => kind = Some(Kind::Nak),
                        (67, _) => reply.boots = true,
                        _ => {}
                    }
                    tail
                }
                _ => break,
            };
        }
        reply.kind = kind?;
        Some(reply)
    }
}

/// If a frame asks who has an address: who asks, and for which.
pub(crate) fn asks_who_has(frame: &[u8]) -> Option<Ipv4Addr> {
    if frame.get(12..14)? != [8, 6] || frame.get(20..22)? != [0, 1] {
        return None;
    }
    let target: [u8; 4] = frame.get(38..42)?.try_into().ok()?;
    Some(Ipv4Addr::from(target))
}

/// The answer to [`asks_who_has`]; gives its length.
pub(crate) fn has(to: &mut [u8; ROOM], machine: u32, address: Ipv4Addr) -> usize {
    let mac = mac(machine);
    to[..6].copy_from_slice(&SERVER_MAC);
    to[6..12].copy_from_slice(&mac);
    to[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    to[22..28].copy_from_slice(&mac);
    to[28..32].copy_from_slice(&address.octets());
    to[32..38].copy_from_slice(&SERVER_MAC);
    to[38..42].copy_from_slice(&SERVER.octets());
    42
}

#[cfg(test)]
mod tests {
    use boot_bench::frame::{address, is_intact};

    use super::*;

    #[test]
    fn a_request_has_right_checksums_and_names_its_machine() {
        for template in [Template::discover(), Template::request(), Template::renew()] {
            let mut frame = [0xaa; ROOM];
            let length = template.write(&mut frame, 0x0001_e240, 7, address(3));
            assert!(is_intact(&frame[..length]));
            let reply = Reply::read(&frame[..length]).unwrap();
            assert_eq!((reply.kind, reply.machine, reply.xid), (Kind::Echo, 0x0001_e240, 7));
        }
    }

    #[test]
    fn an_offer_is_read() {
        let mut frame = [0; ROOM];
        let length = Template::discover().write(&mut frame, 5, 9, address(0));
        frame[BOOTP] = 2;
        frame[BOOTP + 16..BOOTP + 20].copy_from_slice(&address(5).octets());
        frame[OPTIONS + 2] = 2;
        let reply = Reply::read(&frame[..length]).unwrap();
        assert_eq!((reply.kind, reply.address, reply.boots), (Kind::Offer, address(5), false));
    }
}
