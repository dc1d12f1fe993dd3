//! Records one machine's packets on an interface.

use std::io::{self, Read as _};
use std::time::Duration;

use boot_common::Mac;
use boot_common::wire::{IP_UDP, port};
use socket2::{SockFilter, Socket};

use super::packet;
use crate::host::link::Link;
use crate::host::socket::enlarge_receive_buffer;
use crate::host::socket::filter::{
    LOAD_BYTE, LOAD_HALF, LOAD_HALF_BEHIND_X, LOAD_HEADER_LEN_TO_X, LOAD_WORD, RETURN, instruction, jump,
};

/// Every EtherType, sent or received.
const ALL: u16 = libc::ETH_P_ALL as u16;
/// Bytes of a frame that are kept.
pub const SNAP: usize = 2048;
/// What may wait to be read: a download comes faster than it is looked at.
const BUFFER: usize = 32 << 20;
/// How many frames are dropped at the beginning, at most.
const DRAINED: usize = 65_536;
/// Where a DHCP message has its client's MAC, behind the IP header's own length.
const CHADDR: usize = 14 + 8 + 28;

/// A machine's packets on one interface.
#[derive(Debug)]
pub struct Recorder {
    socket: Socket,
    mac: Mac,
}

impl Recorder {
    /// Begins. What is read waits for `patience` at most.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub fn open(link: &Link, mac: Mac, patience: Duration) -> io::Result<Self> {
        let socket = packet::open(link, ALL)?;
        socket.attach_filter(&of(mac))?;
        enlarge_receive_buffer(&socket, BUFFER);
        // What was there before the filter; where much comes, this would never end.
        (0..DRAINED).take_while(|_| (&socket).read(&mut [0; 1]).is_ok()).for_each(drop);
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(patience))?;
        Ok(Self { socket, mac })
    }

    /// The next frame; none if none comes in time, or another machine's: those may come without an end, and the caller
    /// has to see when to stop.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn next(&self, buf: &mut [u8; SNAP]) -> io::Result<Option<usize>> {
        use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        match (&self.socket).read(buf) {
            Ok(length) => {
                let is_its = buf.get(..length).is_some_and(|frame| self.is_its(frame));
                Ok(is_its.then_some(length))
            }
            Err(error) if matches!(error.kind(), Interrupted | TimedOut | WouldBlock) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// To or from the machine itself, or a DHCP message about it: an answer that is broadcast, or what a relay sends.
    fn is_its(&self, frame: &[u8]) -> bool {
        let own = Some(&self.mac.0[..]);
        if frame.get(..6) == own || frame.get(6..12) == own {
            return true;
        }
        let header = usize::from(frame.get(14).copied().unwrap_or(0) & 0x0f) * 4;
        frame.get(CHADDR + header..CHADDR + header + 6) == own
    }
}

/// Classic BPF: frames to or from a MAC, and DHCP.
fn of(Mac([a, b, c, d, e, f]): Mac) -> Vec<SockFilter> {
    let (high, low) = (u32::from_be_bytes([a, b, c, d]), u32::from(u16::from_be_bytes([e, f])));
    let ports = [port::DHCP_SERVER, port::DHCP_CLIENT, port::PXE].map(u32::from);
    vec![
        instruction(LOAD_WORD, 0),
        jump(high, 0, 2),
        instruction(LOAD_HALF, 4),
        jump(low, 13, 0),
        instruction(LOAD_WORD, 6),
        jump(high, 0, 2),
        instruction(LOAD_HALF, 10),
        jump(low, 9, 0),
        instruction(LOAD_HALF, 12),
        jump(0x0800, 0, 8),
        instruction(LOAD_BYTE, 23),
        jump(u32::from(IP_UDP), 0, 6),
        instruction(LOAD_HEADER_LEN_TO_X, 14),
        instruction(LOAD_HALF_BEHIND_X, 16),
        jump(ports[0], 2, 0),
        jump(ports[1], 1, 0),
        jump(ports[2], 0, 1),
        instruction(RETURN, u32::MAX),
        instruction(RETURN, 0),
    ]
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_frame_of_another_machine_gives_the_caller_its_turn() {
        let (ours, kernel) = UnixDatagram::pair().unwrap();
        let recorder = Recorder { socket: OwnedFd::from(ours).into(), mac: Mac([2, 0, 0, 0, 0, 1]) };
        let mut own = [0; 60];
        own[6..12].copy_from_slice(&recorder.mac.0);
        kernel.send(&[0xff; 60]).unwrap();
        kernel.send(&own).unwrap();
        let mut buf = [0; SNAP];
        assert_eq!(recorder.next(&mut buf).unwrap(), None);
        assert_eq!(recorder.next(&mut buf).unwrap(), Some(60));
    }
}
