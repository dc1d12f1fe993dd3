//! The switches that are heard (IEEE 802.1AB).

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::spawn;
use std::time::Duration;

use anyhow::Result;
use boot_agent_protocol::Lldp;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

use crate::network::{NET, cards};
use crate::sys;

/// The protocol's number on Ethernet.
const LLDP: u16 = 0x88cc;
/// What is waited for a frame before it is looked whether somebody still wants one.
const WAIT: Duration = Duration::from_secs(1);

/// The switches that were heard so far, by card.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Mutex<BTreeMap<String, Lldp>>>);

impl Heard {
    /// Begins to listen on every card. Switches say who they are every half a minute: who asks early hears few of them.
    pub(crate) fn listen() -> Self {
        let heard = Self::default();
        for card in cards(Path::new(NET)) {
            let heard = heard.clone();
            // A card that cannot be listened on is one without a switch.
            spawn(move || drop(heard.follow(&card)));
        }
        heard
    }

    /// The switch that was heard on a card.
    pub(crate) fn on(&self, card: &str) -> Option<Lldp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(card).cloned()
    }

    fn follow(&self, card: &str) -> Result<()> {
        let index = if_nametoindex(card)?;
        let mut socket =
            Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(LLDP.to_be()))))?;
        sys::bind_packets(socket.as_fd(), index, LLDP)?;
        sys::all_multicast(socket.as_fd(), index)?;
        socket.set_read_timeout(Some(WAIT))?;
        let mut frame = [0; 1600];
        loop {
            let Ok(got) = socket.read(&mut frame) else { continue };
            if let Some(switch) = frame.get(..got).and_then(read) {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(card.to_owned(), switch);
            }
        }
    }
}

/// Who has sent a frame.
fn read(frame: &[u8]) -> Option<Lldp> {
    if frame.get(12..14) != Some(&LLDP.to_be_bytes()) {
        return None;
    }
    let mut found = Lldp::default();
    let mut rest = frame.get(14..)?;
    while let Some(head) = rest.get(..2) {
        // Seven bits of type, nine of length.
        let head = u16::from_be_bytes(head.try_into().ok()?);
        let (kind, length) = (head >> 9, usize::from(head & 0x1ff));
        let value = rest.get(2..2 + length)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match (kind, value.split_first()) {
            (0, _) => break,
            // A MAC address in either is subtype 4 or 3.
            (1, Some((&4, mac))) | (2, Some((&3, mac))) if mac.len() == 6 => {
                let mac = mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
                if kind == 1 { found.chassis = mac } else { found.port = mac }
            }
            (1, Some((_, id))) => found.chassis = text(id),
            (2, Some((_, id))) => found.port = text(id),
            (4, _) => found.port_description = text(value),
            (5, _) => found.name = text(value),
            _ => {}
        }
        rest = rest.get(2 + length..)?;
    }
    (!found.chassis.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(kind: u16, value: &[u8]) -> Vec<u8> {
        [&(kind << 9 | value.len() as u16).to_be_bytes()[..], value].concat()
    }

    #[test]
    fn a_switch_says_who_it_is_and_which_port_it_was() {
        let head = [[1, 0x80, 0xc2, 0, 0, 0x0e, 2, 0, 0, 0, 0, 1].as_slice(), &LLDP.to_be_bytes()].concat();
        let frame = [
            head,
            tlv(1, &[4, 2, 0, 0, 0, 0, 0xab]),
            tlv(2, b"\x05Ethernet7"),
            tlv(3, &[0, 120]),
            tlv(4, b"to node1"),
            tlv(5, b"leaf1"),
            tlv(0, &[]),
            vec![0; 20],
        ]
        .concat();
        let switch = read(&frame).unwrap();
        assert_eq!(
            [&switch.chassis, &switch.port, &switch.port_description, &switch.name].map(String::as_str),
            ["02:00:00:00:00:ab", "Ethernet7", "to node1", "leaf1"]
        );
        for length in 0..frame.len() - 20 {
            drop(read(&frame[..length]));
        }
        assert_eq!(read(&[0; 60]), None);
    }
}
