//! Wake-on-LAN: a packet that a card waits for while its machine is off.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use boot_common::Mac;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Target, Trouble};

/// The port that such packets have by custom (discard).
const PORT: u16 = 9;
/// How often it is sent: nobody acknowledges it.
const TIMES: usize = 3;

/// From where a machine is woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WakeFrom {
    /// The interface in whose network it is; none behind a router.
    pub interface: Option<String>,
    /// Where to: a broadcast address.
    pub to: Ipv4Addr,
}

/// Wakes a machine by each of its cards.
pub(super) fn wake(target: &Target) -> Result<(), Trouble> {
    if target.macs.is_empty() || target.wake.is_empty() {
        let why =
            "Wake-on-LAN needs the machine's MAC, and an interface in its network: add mac to the machine";
        return Err(Trouble::Lasting(why.to_owned()));
    }
    for from in &target.wake {
        let socket = open(from).map_err(|error| {
            let interface = from.interface.as_deref().unwrap_or("any interface");
            Trouble::Passing(format!("Wake-on-LAN cannot be sent through {interface}: {error}"))
        })?;
        for mac in &target.macs {
            for _ in 0..TIMES {
                socket.send_to(&packet(*mac), &SocketAddr::from((from.to, PORT)).into()).map_err(
                    |error| Trouble::Passing(format!("Wake-on-LAN cannot be sent to {}: {error}", from.to)),
                )?;
            }
        }
    }
    Ok(())
}

fn open(from: &WakeFrom) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.set_broadcast(true)?;
    if let Some(interface) = &from.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    Ok(socket)
}

/// Six times 255, then sixteen times the MAC.
fn packet(mac: Mac) -> [u8; 102] {
    let mut packet = [0xff; 102];
    for (at, byte) in packet.iter_mut().enumerate().skip(6) {
        *byte = mac.0[at % 6];
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_finds_its_mac_sixteen_times() {
        let packet = packet(Mac([1, 2, 3, 4, 5, 6]));
        assert_eq!(packet[..6], [0xff; 6]);
        assert!(packet[6..].chunks(6).all(|chunk| chunk == [1, 2, 3, 4, 5, 6]));
        assert_eq!(packet[6..].len() / 6, 16);
    }
}
