//! What a client sends, and what of an answer is looked at.

use std::net::Ipv4Addr;

use bench_ebpf::BLOCK;
use boot_bench::frame::{ETH, PAYLOAD, SERVER, SERVER_MAC, UDP, address, finish, mac, owner};

/// Room for a frame that is sent: for a DATA packet, which the reflector gets.
pub(crate) const ROOM: usize = 1536;
/// The file that everybody fetches.
pub(crate) const FILE: &str = "image.bin";
/// Where every transfer begins.
const SERVER_PORT: u16 = 69;
/// The shortest frame on a real wire.
const SHORTEST: usize = 60;

/// A client's transfer: who talks to whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) client: u32,
    pub(crate) port: u16,
    /// Most servers answer from another port than the one that is asked.
    pub(crate) server_port: u16,
}

impl Line {
    /// A new transfer.
    pub(crate) const fn new(client: u32, port: u16) -> Self {
        Self { client, port, server_port: SERVER_PORT }
    }

    /// The request, as firmware makes it: with the options `tsize` and `blksize`. All of these give the frame's
    /// length.
    pub(crate) fn request(self, to: &mut [u8; ROOM]) -> usize {
        let packet = format!("\0\x01{FILE}\0octet\0tsize\x000\0blksize\0{BLOCK}\0");
        self.up(to, &[packet.as_bytes()])
    }

    pub(crate) fn ack(self, to: &mut [u8; ROOM], block: u16) -> usize {
        self.up(to, &[&[0, 4], &block.to_be_bytes()])
    }

    /// Ends the transfer, so that the server is not left waiting.
    pub(crate) fn give_up(self, to: &mut [u8; ROOM]) -> usize {
        self.up(to, &[b"\0\x05\0\0enough\0"])
    }

    /// What the server would answer, for the reflector.
    pub(crate) fn data(self, to: &mut [u8; ROOM], block: u16, bytes: &[u8]) -> usize {
        self.down(to, &[&[0, 3], &block.to_be_bytes(), bytes])
    }

    /// What no server sends: the clients in the kernel turn it around, and have sent the ACK.
    pub(crate) fn ack_to_turn(self, to: &mut [u8; ROOM], block: u16) -> usize {
        self.down(to, &[&[0, 4], &block.to_be_bytes()])
    }

    fn up(self, to: &mut [u8; ROOM], packet: &[&[u8]]) -> usize {
        let client = (mac(self.client), address(self.client), self.port);
        write(to, client, (SERVER_MAC, SERVER, self.server_port), packet)
    }

    fn down(self, to: &mut [u8; ROOM], packet: &[&[u8]]) -> usize {
        let client = (mac(self.client), address(self.client), self.port);
        write(to, (SERVER_MAC, SERVER, self.server_port), client, packet)
    }
}

type End = ([u8; 6], Ipv4Addr, u16);

fn write(frame: &mut [u8; ROOM], from: End, to: End, packet: &[&[u8]]) -> usize {
    let mut length = PAYLOAD;
    for part in packet {
        frame[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    }
    frame[..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&from.0);
    frame[12..ETH + 2].copy_from_slice(&[8, 0, 0x45, 0]);
    frame[ETH + 2..ETH + 4].copy_from_slice(&((length - ETH) as u16).to_be_bytes());
    frame[ETH + 4..ETH + 12].copy_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0]);
    frame[ETH + 12..ETH + 16].copy_from_slice(&from.1.octets());
    frame[ETH + 16..UDP].copy_from_slice(&to.1.octets());
    frame[UDP..UDP + 2].copy_from_slice(&from.2.to_be_bytes());
    frame[UDP + 2..UDP + 4].copy_from_slice(&to.2.to_be_bytes());
    frame[UDP + 4..UDP + 6].copy_from_slice(&((length - UDP) as u16).to_be_bytes());
    frame[UDP + 6..PAYLOAD].copy_from_slice(&[0, 0]);
    finish(&mut frame[..length]);
    frame[length..length.max(SHORTEST)].fill(0);
    length.max(SHORTEST)
}

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said<'f> {
    Options(&'f [u8]),
    Block(u16, &'f [u8]),
    Error,
}

/// Reads a frame; none when it is no TFTP packet to a client of ours.
pub(crate) fn read(frame: &[u8]) -> Option<(Line, Said<'_>)> {
    if frame.get(12..ETH + 1)? != [8, 0, 0x45] || frame.get(ETH + 9) != Some(&17) {
        return None;
    }
    let number = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    let to: [u8; 4] = frame.get(ETH + 16..UDP)?.try_into().ok()?;
    let line = Line { client: owner(Ipv4Addr::from(to))?, port: number(UDP + 2)?, server_port: number(UDP)? };
    let said = match (frame.get(PAYLOAD..UDP + usize::from(number(UDP + 4)?))?, number(PAYLOAD + 2)?) {
        ([0, 3, _, _, bytes @ ..], block) => Said::Block(block, bytes),
        ([0, 5, ..], _) => Said::Error,
        ([0, 6, options @ ..], _) => Said::Options(options),
        _ => return None,
    };
    Some((line, said))
}

/// Whether the server grants the block size that was asked for.
pub(crate) fn is_granted(options: &[u8]) -> bool {
    let mut words = options.split(|byte| *byte == 0);
    let value = words.by_ref().find(|word| word.eq_ignore_ascii_case(b"blksize")).and(words.next());
    value == Some(BLOCK.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use boot_bench::frame::is_intact;

    use super::*;

    #[test]
    fn a_block_is_read_as_it_was_written() {
        let line = Line { client: 511, port: 2000, server_port: 40_000 };
        let mut frame = [0xaa; ROOM];
        for bytes in [&[][..], &[7], &[9; BLOCK as usize]] {
            let length = line.data(&mut frame, 65_535, bytes);
            assert!(length >= SHORTEST && is_intact(&frame[..length]));
            assert_eq!(read(&frame[..length]), Some((line, Said::Block(65_535, bytes))));
        }
    }

    #[test]
    fn what_clients_send_is_intact_and_no_answer() {
        let line = Line::new(3, 1234);
        let mut frame = [0xaa; ROOM];
        for length in [line.request(&mut frame), line.ack(&mut frame, 1), line.give_up(&mut frame)] {
            assert_eq!(read(&frame[..length]), None);
        }
        let length = line.request(&mut frame);
        assert!(is_intact(&frame[..length]));
    }

    #[test]
    fn another_block_size_is_not_what_was_asked_for() {
        assert!(is_granted(b"tsize\x001048576\0BLKSIZE\x001432\0"));
        assert!(!is_granted(b"tsize\x001432\0blksize\x00512\0") && !is_granted(b"tsize\x001432\0"));
    }
}
