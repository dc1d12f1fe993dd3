//! Hears the switch at the other end of an interface: spanning tree and LLDP.
//!
//! Its sockets are of these kinds of frames only, so no other packet costs anything. Of what comes, a hundred frames a second
//! are read; what says nothing new is told once an hour. Anybody can invent ports of switches: who keeps speaking is told
//! before those who spoke once.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::time::Duration;

use boot_common::Mac;
use socket2::{SockFilter, Socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use super::packet;
use crate::host::clock;
use crate::host::link::Link;
use crate::host::socket::filter::{LOAD_HALF, LOAD_WORD, RETURN, instruction, jump};
use crate::host::socket::{join, register};
use boot_engine::events::{BootEvent, Events, LLDP, LinkName, NEIGHBOURS, Step, SwitchFrame, TREES};

/// Frames with a length in place of an EtherType (packet(7)).
const LLC: u16 = libc::ETH_P_802_2 as u16;
/// The time that each frame takes, at least.
const PAUSE: Duration = Duration::from_millis(10);
/// What says nothing new is told again after this.
const AGAIN: Duration = Duration::from_secs(3600);
/// How many ports are remembered. One that is read again within 40 s is remembered until then, whatever else comes:
/// switches send LLDP each 30 s and BPDUs each 2 s.
const MOST: usize = 4096;
/// So many new ports are told at once, and then one in each [`REFILL`]. A switch has one port here.
const BURST: u32 = 16;
/// The last of the burst are for ports that keep speaking.
const SPARED: u32 = 8;
/// After so long one more new port is told.
const REFILL: Duration = Duration::from_secs(60);
/// Who speaks again after so long keeps speaking.
const STEADY: Duration = Duration::from_secs(10);
/// More of a frame is not read.
const LONGEST: usize = 1600;

/// Tells what the switch says, as long as the interface is there.
///
/// # Errors
/// The sockets cannot be opened, or the interface is gone.
pub async fn hear(link: Link, events: Events) -> io::Result<()> {
    let trees = open(&link, LLC, &TREES)?;
    let lldp = open(&link, LLDP, &[NEIGHBOURS])?;
    let mut told = Told::default();
    let (mut tree, mut neighbour) = ([0; LONGEST], [0; LONGEST]);
    loop {
        let frame = tokio::select! {
            length = recv(&trees, &mut tree) => tree.get(..length?),
            length = recv(&lldp, &mut neighbour) => neighbour.get(..length?),
        };
        if let Some(frame) = frame.and_then(SwitchFrame::parse) {
            let at = clock::boot();
            if told.is_news(&frame, at) {
                let event = BootEvent::new(at, Step::Switch(Box::new(frame)));
                let name = LinkName { index: link.index, name: link.name.as_str().into() };
                events.emit(BootEvent { link: Some(name), ..event });
            }
        }
        sleep(PAUSE).await;
    }
}

fn open(link: &Link, ether_type: u16, groups: &[Mac]) -> io::Result<AsyncFd<Socket>> {
    let socket = packet::open(link, ether_type)?;
    socket.attach_filter(&to_one_of(groups))?;
    for group in groups {
        join(&socket, link.index, *group)?;
    }
    // What came before the filter was there.
    while (&socket).read(&mut [0; 1]).is_ok() {}
    register(socket)
}

async fn recv(socket: &AsyncFd<Socket>, buf: &mut [u8]) -> io::Result<usize> {
    socket.async_io(Interest::READABLE, |mut socket| socket.read(buf)).await
}

/// Classic BPF: frames to one of these groups.
fn to_one_of(groups: &[Mac]) -> Vec<SockFilter> {
    let mut program = Vec::new();
    for Mac([a, b, c, d, e, f]) in groups {
        program.extend([
            instruction(LOAD_WORD, 0),
            jump(u32::from_be_bytes([*a, *b, *c, *d]), 0, 3),
            instruction(LOAD_HALF, 4),
            jump(u32::from(u16::from_be_bytes([*e, *f])), 0, 1),
            instruction(RETURN, u32::MAX),
        ]);
    }
    program.push(instruction(RETURN, 0));
    program
}

/// The ports that were heard, by the kind of the frame, and what was told of them.
struct Told {
    ports: HashMap<(Mac, bool), Port>,
    /// How many new ports may be told now.
    room: u32,
    /// When `room` grew last.
    filled: Duration,
}

struct Port {
    first: Duration,
    last: Duration,
    told: Option<(SwitchFrame, Duration)>,
}

impl Default for Told {
    fn default() -> Self {
        Self { ports: HashMap::new(), room: BURST, filled: Duration::ZERO }
    }
}

impl Told {
    fn is_news(&mut self, frame: &SwitchFrame, at: Duration) -> bool {
        let key = (frame.station(), matches!(frame, SwitchFrame::Tree { .. }));
        if !self.ports.contains_key(&key) {
            self.make_room(at);
        }
        let port = self.ports.entry(key).or_insert(Port { first: at, last: at, told: None });
        port.last = at;
        match &mut port.told {
            Some((before, told)) => {
                // One that says something else each time is told once an hour, too.
                let is_due = at >= *told + AGAIN;
                before.clone_from(frame);
                if is_due {
                    *told = at;
                }
                is_due
            }
            None => {
                let is_steady = at >= port.first + STEADY;
                let is_told = self.take(if is_steady { 0 } else { SPARED }, at);
                if is_told && let Some(port) = self.ports.get_mut(&key) {
                    port.told = Some((frame.clone(), at));
                }
                is_told
            }
        }
    }

    /// Takes room for one more new port, and leaves `spared`.
    fn take(&mut self, spared: u32, at: Duration) -> bool {
        let more = at.saturating_sub(self.filled).as_secs() / REFILL.as_secs();
        if more > 0 {
            self.room = BURST.min(self.room.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)));
            self.filled = at;
        }
        let is_there = self.room > spared;
        self.room -= u32::from(is_there);
        is_there
    }

    /// Forgets the port that was silent for the longest, if there are too many. One that was told stays for an hour:
    /// so few are told that others always have room.
    fn make_room(&mut self, at: Duration) {
        if self.ports.len() < MOST {
            return;
        }
        let spare = |port: &Port| port.told.is_none() || at >= port.last + AGAIN;
        let silent = self.ports.iter().filter(|(_, port)| spare(port)).min_by_key(|(_, port)| port.last);
        if let Some(key) = silent.map(|(key, _)| *key) {
            self.ports.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(port: u32, delay: u16) -> SwitchFrame {
        let [a, b, c, d] = port.to_be_bytes();
        SwitchFrame::Tree {
            station: Mac([2, 0, a, b, c, d]),
            version: 2,
            forward_delay: delay,
            forwards: Some(true),
        }
    }

    const START: Duration = Duration::from_secs(5);

    #[test]
    fn each_port_is_told_of_once_an_hour_and_not_all_that_somebody_invents() {
        let mut told = Told::default();
        assert!(told.is_news(&tree(1, 15), START));
        assert!(!told.is_news(&tree(1, 15), START + Duration::from_secs(2)));
        assert!(!told.is_news(&tree(1, 4), START + Duration::from_secs(4)));
        assert!(told.is_news(&tree(1, 4), START + AGAIN));
        let new = (2..200).filter(|port| told.is_news(&tree(*port, 15), START + AGAIN)).count();
        assert_eq!(new, (BURST - SPARED) as usize);
        assert!(told.is_news(&tree(200, 15), START + 2 * AGAIN), "there is room again");
    }

    /// Invented ports, a hundred a second for ten minutes: those that speak once, and some that keep speaking.
    #[test]
    fn a_flood_of_invented_ports_neither_hides_a_switch_nor_pushes_it_out() {
        let second = Duration::from_secs(1);
        let mut told = Told::default();
        assert!(told.is_news(&tree(1, 15), START));
        let (mut invented, mut count, mut heard_at) = (1000, 0, None);
        for tick in 0..60_000_u32 {
            let at = START + second + tick * PAUSE;
            let frame = match tick % 3000 {
                1 => tree(1, 15),
                // A switch that is plugged in while the flood lasts; it speaks each 30 s.
                2 if tick > 6000 => tree(2, 15),
                _ => {
                    invented += 1;
                    tree(invented, 15)
                }
            };
            if told.is_news(&frame, at) {
                count += 1;
                assert_ne!(frame, tree(1, 15), "it was told already");
                if frame == tree(2, 15) {
                    heard_at.get_or_insert(tick);
                }
            }
        }
        assert_eq!(heard_at, Some(9_002), "told when it spoke for the second time");
        // Ten minutes give ten more.
        assert!(count < BURST + 10, "{count} were told");
        assert!(told.ports.len() <= MOST);
        assert!(told.is_news(&tree(1, 15), START + AGAIN), "the first one is still known, and is told again");
    }
}
