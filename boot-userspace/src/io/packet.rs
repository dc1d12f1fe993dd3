//! Sends ready Ethernet frames, to machines that have no address yet and so cannot be reached through ARP.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::bind;
use socket2::{Domain, Socket, Type};

use crate::host::link::{self, Link};

/// How many frames leave by one call at most.
pub(crate) const AT_ONCE: usize = 64;

/// A packet socket that only sends.
#[derive(Debug)]
pub struct FrameSocket {
    socket: Socket,
}

impl FrameSocket {
    /// Opens the socket on one interface.
    pub fn open(link: &Link) -> io::Result<Self> {
        // Protocol 0 receives nothing (packet(7)), so no queue fills up behind a socket nobody reads.
        let socket = open(link, 0)?;
        Ok(Self { socket })
    }

    /// Sends one frame, Ethernet header included. Never waits: with a full queue it is `WouldBlock`.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send(frame) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent.map(drop),
            }
        }
    }

    /// Sends at most [`AT_ONCE`] frames by as few calls as it takes, in their order, and says of each whether it has left:
    /// one that cannot be sent keeps none behind it back.
    #[expect(unsafe_code, reason = "nix has no safe sendmmsg(2) that says which message failed")]
    pub(crate) fn send_all(&self, frames: &[&[u8]]) -> Vec<io::Result<()>> {
        let part =
            |frame: &&[u8]| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
        let mut parts: Vec<libc::iovec> = frames.iter().take(AT_ONCE).map(part).collect();
        let message = |part: &mut libc::iovec| {
            // SAFETY: nothing but numbers and pointers, for which zero stands for none.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (&raw mut *part, 1);
            message
        };
        let mut messages: Vec<libc::mmsghdr> = parts.iter_mut().map(message).collect();
        let mut done = Vec::with_capacity(messages.len());
        while let Some(rest) = messages.get_mut(done.len()..).filter(|rest| !rest.is_empty()) {
            // SAFETY: the messages point at the parts and these at the frames, all of which outlive the call; the kernel reads
            // the frames, and writes nothing but the messages' lengths.
            let sent = unsafe {
                libc::sendmmsg(self.socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as libc::c_uint, 0)
            };
            match usize::try_from(sent) {
                Ok(sent @ 1..) => done.extend((0..sent).map(|_| Ok(()))),
                _ => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => done.push(Err(error)),
                },
            }
        }
        done
    }
}

/// A non-blocking packet socket for frames of one EtherType on one interface.
pub(crate) fn open(link: &Link, ether_type: u16) -> io::Result<Socket> {
    let explain = |error: io::Error| {
        let message = match error.kind() {
            io::ErrorKind::PermissionDenied => format!(
                "opening a packet socket on {} needs the capability CAP_NET_RAW: run as root or through the systemd unit",
                link.name
            ),
            _ => format!("cannot open a packet socket on {}: {error}", link.name),
        };
        io::Error::new(error.kind(), message)
    };
    let protocol = i32::from(ether_type.to_be()).into();
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).map_err(explain)?;
    socket.set_nonblocking(true).map_err(explain)?;
    // Protocol 0 in the address keeps the socket's own (packet(7)).
    let address = link::packet_address(link)?;
    bind(socket.as_raw_fd(), &address).map_err(|error| explain(error.into()))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::host::link::{find, lab};

    const EXPERIMENTAL: u16 = 0x88b5; // IEEE 802 local experimental EtherType

    #[test]
    #[ignore = "needs root for a network namespace"]
    fn many_frames_leave_in_order_and_one_that_cannot_keeps_none_back() {
        lab::in_namespace(lab::PAIR, || {
            let sender = FrameSocket::open(&find("srv0").unwrap()).unwrap();
            let mut receiver = open(&find("cli0").unwrap(), EXPERIMENTAL).unwrap();
            let mut frames: Vec<Vec<u8>> = (0..AT_ONCE)
                .map(|number| {
                    let mut frame = vec![0xff; 60];
                    frame[6..14].copy_from_slice(&[2, 0, 0, 0, 0, 10, 0x88, 0xb5]);
                    frame[14] = u8::try_from(number).unwrap();
                    frame
                })
                .collect();
            // Shorter than an Ethernet header.
            for bad in [0, 7, 8, 63] {
                frames[bad].truncate(5);
            }
            let sent = sender.send_all(&frames.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let failed: Vec<usize> = (0..sent.len()).filter(|number| sent[*number].is_err()).collect();
            assert_eq!((sent.len(), failed), (AT_ONCE, vec![0, 7, 8, 63]));
            let mut got = Vec::new();
            let mut frame = [0; 100];
            while let Ok(60) = receiver.read(&mut frame) {
                got.push(usize::from(frame[14]));
            }
            let expected: Vec<usize> =
                (0..AT_ONCE).filter(|number| ![0, 7, 8, 63].contains(number)).collect();
            assert_eq!(got, expected);
        });
    }

    #[test]
    #[ignore = "needs root for a network namespace"]
    fn a_frame_reaches_the_other_end_and_nothing_comes_back() {
        lab::in_namespace(lab::PAIR, || {
            let sender = FrameSocket::open(&find("srv0").unwrap()).unwrap();
            let mut receiver = open(&find("cli0").unwrap(), EXPERIMENTAL).unwrap();
            let answerer = FrameSocket::open(&find("cli0").unwrap()).unwrap();
            let mut frame = [0; 60];
            frame[..6].fill(0xff);
            frame[6..14].copy_from_slice(&[2, 0, 0, 0, 0, 10, 0x88, 0xb5]);
            sender.send(&frame).unwrap();
            answerer.send(&frame).unwrap();
            let mut got = [0; 100];
            assert_eq!(receiver.read(&mut got).unwrap(), 60);
            assert_eq!(got[..60], frame);
            let nothing = (&sender.socket).read(&mut got).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
            assert!(sender.send(&[0; 5]).is_err(), "shorter than an Ethernet header");
        });
    }
}
