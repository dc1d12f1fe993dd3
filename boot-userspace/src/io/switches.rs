//! Hears the switch at the other end of an interface: spanning tree and LLDP.
//!
//! Its sockets are of these kinds of frames only, so no other packet costs anything. Of what comes, ten frames a second are
//! read; what says nothing new is told once an hour.

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
const PAUSE: Duration = Duration::from_millis(100);
/// What says nothing new is told again after this.
const AGAIN: Duration = Duration::from_secs(3600);
/// How many ports are told apart: a switch has one here, and anybody can invent more.
const MOST: usize = 16;
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

/// What was told last of each port, by the kind of the frame.
#[derive(Default)]
struct Told(HashMap<(Mac, bool), (SwitchFrame, Duration)>);

impl Told {
    fn is_news(&mut self, frame: &SwitchFrame, at: Duration) -> bool {
        let key = (frame.station(), matches!(frame, SwitchFrame::Tree { .. }));
        match self.0.get_mut(&key) {
            Some((before, told)) if before == frame && at < *told + AGAIN => return false,
            Some((before, told)) => {
                // One that says something else each time is told once an hour, too.
                let is_due = at >= *told + AGAIN;
                before.clone_from(frame);
                if is_due {
                    *told = at;
                }
                return is_due;
            }
            None => {}
        }
        if self.0.len() >= MOST {
            self.0.retain(|_, (_, told)| at < *told + AGAIN);
        }
        if self.0.len() >= MOST {
            return false;
        }
        self.0.insert(key, (frame.clone(), at));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_is_told_of_once_an_hour_and_not_all_that_somebody_invents() {
        let frame = |port: u8, delay: u16| SwitchFrame::Tree {
            station: Mac([2, 0, 0, 0, 0, port]),
            version: 2,
            forward_delay: delay,
            forwards: Some(true),
        };
        let (mut told, start) = (Told::default(), Duration::from_secs(5));
        assert!(told.is_news(&frame(1, 15), start));
        assert!(!told.is_news(&frame(1, 15), start + Duration::from_secs(2)));
        assert!(!told.is_news(&frame(1, 4), start + Duration::from_secs(4)));
        assert!(told.is_news(&frame(1, 4), start + AGAIN));
        let new = (2..200).filter(|port| told.is_news(&frame(*port, 15), start + AGAIN)).count();
        assert_eq!(new, MOST - 1);
        assert!(told.is_news(&frame(200, 15), start + 3 * AGAIN), "the old ones make room");
    }
}
