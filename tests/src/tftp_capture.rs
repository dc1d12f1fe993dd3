//! The files that a client fetched by TFTP, from the frames at its switch port: every byte that the client acknowledged.
//!
//! A [`Fetch`] has the blocks that a client can have: in their order, once each, with right checksums. A capture in
//! which one of them is missing is an error, and so is a block that is repeated with other bytes.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::pcap::Frames;
use crate::rack::SERVER_ADDRESS;
use crate::tftp_client::{PORT, Packet, checked, datagram};
use crate::wait::eventually;

/// RFC 1350 section 2.
const DEFAULT_BLOCK: usize = 512;

/// One request of a client, and its result.
#[derive(Debug)]
pub struct Fetch {
    /// The file it asked for.
    pub name: String,
    /// The client's port.
    pub port: u16,
    /// Bytes in a block.
    pub block_size: usize,
    /// The size (tsize) that the server sent, if any.
    pub announced: Option<usize>,
    /// The bytes that arrived.
    pub bytes: Vec<u8>,
    /// The number of blocks, which may be beyond 65,535.
    pub blocks: u64,
    /// The last of them that the client acknowledged.
    pub acknowledged: u64,
    /// Whether the last block was the file's last one.
    pub ended: bool,
    /// Code and text of the client's ERROR.
    pub error: Option<(u16, String)>,
    /// The time from the request to the last packet of either side.
    pub took: Duration,
    began: Duration,
}

impl Fetch {
    /// Whether the client acknowledged the file's last block.
    pub fn is_whole(&self) -> bool {
        self.ended && self.acknowledged == self.blocks
    }

    fn new(name: String, port: u16, began: Duration) -> Self {
        Self {
            name,
            port,
            block_size: DEFAULT_BLOCK,
            announced: None,
            bytes: Vec::new(),
            blocks: 0,
            acknowledged: 0,
            ended: false,
            error: None,
            took: Duration::ZERO,
            began,
        }
    }

    fn client_said(&mut self, packet: &[u8]) -> Result<()> {
        match packet {
            [0, 4, high, low] => {
                let number = u16::from_be_bytes([*high, *low]);
                match self.distance(number) {
                    1.. => {
                        bail!("ACK {number} is for a block behind {}, which the capture has not", self.blocks)
                    }
                    behind => {
                        let block = self.blocks.checked_add_signed(behind.into());
                        let block =
                            block.with_context(|| format!("ACK {number} after {} blocks", self.blocks))?;
                        self.acknowledged = self.acknowledged.max(block);
                    }
                }
            }
            [0, 5, high, low, text @ ..] => {
                let text = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
                self.error = Some((u16::from_be_bytes([*high, *low]), text));
            }
            _ => bail!("a client does not say {:02x?}", &packet[..packet.len().min(8)]),
        }
        Ok(())
    }

    fn server_said(&mut self, packet: &[u8]) -> Result<()> {
        let [0, 3, high, low, data @ ..] = packet else {
            if let Packet::Oack(options) = Packet::parse(packet)? {
                let granted = |name: &str| {
                    let option = options.iter().find(|(option, _)| option == name);
                    option.map(|(_, value)| value.parse()).transpose()
                };
                self.block_size = granted("blksize")?.unwrap_or(DEFAULT_BLOCK);
                self.announced = granted("tsize")?;
            }
            return Ok(());
        };
        let number = u16::from_be_bytes([*high, *low]);
        match self.distance(number) {
            1 => {
                ensure!(!self.ended, "block {number} comes after the last one");
                ensure!(data.len() <= self.block_size, "{} bytes in block {number}", data.len());
                self.bytes.extend_from_slice(data);
                self.blocks += 1;
                self.ended = data.len() < self.block_size;
            }
            // Firmware discards it and acknowledges the blocks before it: the block comes again.
            2.. => {}
            behind => {
                let from = self.blocks.checked_add_signed(i64::from(behind) - 1);
                let from = from.with_context(|| format!("block {number} after {} blocks", self.blocks))?;
                let from = usize::try_from(from)? * self.block_size;
                let before = &self.bytes[from..self.bytes.len().min(from + self.block_size)];
                ensure!(before == data, "block {number} is repeated with other bytes");
            }
        }
        Ok(())
    }

    /// The distance of a block behind the last one; block numbers begin again after 65,535.
    fn distance(&self, number: u16) -> i16 {
        number.wrapping_sub(self.blocks as u16).cast_signed()
    }
}

/// A capture at a client's port of the switch.
#[derive(Debug)]
pub struct Fetches {
    frames: Frames<File>,
    seen: Seen,
}

impl Fetches {
    /// The files that the client with this address fetches, from a capture that may still grow.
    pub fn follow(file: &Path, client: Ipv4Addr) -> Result<Self> {
        Ok(Self { frames: Frames::open(file)?, seen: Seen { client, all: Vec::new() } })
    }

    /// Every request so far, in their order; repeated ones once.
    pub fn all(&mut self) -> Result<&[Fetch]> {
        let Self { frames, seen } = self;
        frames.each(|at, frame| seen.look_at(at, frame))?;
        Ok(&self.seen.all)
    }

    /// Waits for the first request for which `wanted` holds.
    pub fn wait_for(
        &mut self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Fetch) -> bool,
    ) -> Result<&Fetch> {
        let mut found = Ok(None);
        let client = self.seen.client;
        eventually(within, &format!("{what} for {client}"), || {
            found = self.all().map(|all| all.iter().position(&wanted));
            !matches!(found, Ok(None))
        })?;
        found?.and_then(|at| self.seen.all.get(at)).context("it was there")
    }
}

#[derive(Debug)]
struct Seen {
    client: Ipv4Addr,
    all: Vec<Fetch>,
}

impl Seen {
    fn look_at(&mut self, at: Duration, frame: &[u8]) -> Result<()> {
        let server = SocketAddrV4::new(SERVER_ADDRESS.parse()?, PORT);
        match datagram(frame) {
            Some((from, to, packet)) if *from.ip() == self.client && to == server => {
                self.client_said(at, from.port(), packet)
            }
            Some((from, to, packet)) if from == server && *to.ip() == self.client => {
                checked(frame).with_context(|| format!("a frame of {} bytes for {to}", frame.len()))?;
                let Some(fetch) = self.at(to.port()) else { bail!("{to} asked for nothing") };
                fetch.took = at.saturating_sub(fetch.began);
                fetch.server_said(packet).with_context(|| format!("{} for {to}", fetch.name))
            }
            _ => Ok(()),
        }
    }

    fn client_said(&mut self, at: Duration, port: u16, packet: &[u8]) -> Result<()> {
        if let [0, 1, request @ ..] = packet {
            let name = request.split(|byte| *byte == 0).next().unwrap_or_default();
            let name = String::from_utf8_lossy(name).into_owned();
            let same = |fetch: &mut Fetch| fetch.name == name && fetch.blocks == 0 && fetch.error.is_none();
            let repeated = self.at(port).is_some_and(same);
            if !repeated {
                self.all.push(Fetch::new(name, port, at));
            }
            return Ok(());
        }
        let Some(fetch) = self.at(port) else { bail!("port {port} of {} asked for nothing", self.client) };
        fetch.took = at.saturating_sub(fetch.began);
        fetch.client_said(packet).with_context(|| format!("{} for port {port}", fetch.name))
    }

    /// The last request from a port.
    fn at(&mut self, port: u16) -> Option<&mut Fetch> {
        self.all.iter_mut().rev().find(|fetch| fetch.port == port)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::{Fetch, Seen};
    use crate::dhcp_client::Datagram;
    use crate::rack::SERVER_ADDRESS;
    use crate::tftp_client::{PORT, ack, request};

    fn data(number: u16, bytes: &[u8]) -> Vec<u8> {
        [&[0, 3][..], &number.to_be_bytes(), bytes].concat()
    }

    fn fetch() -> Fetch {
        let mut fetch = Fetch::new("file".to_owned(), 1024, Duration::ZERO);
        fetch.server_said(b"\0\x06blksize\x002\0tsize\x003\0").unwrap();
        fetch
    }

    #[test]
    fn blocks_are_joined_and_whole_when_the_last_one_is_acknowledged() {
        let mut fetch = fetch();
        assert_eq!((fetch.block_size, fetch.announced), (2, Some(3)));
        fetch.client_said(&ack(0)).unwrap();
        fetch.server_said(&data(1, b"ab")).unwrap();
        fetch.server_said(&data(3, b"?")).unwrap();
        fetch.server_said(&data(1, b"ab")).unwrap();
        fetch.server_said(&data(2, b"c")).unwrap();
        fetch.client_said(&ack(1)).unwrap();
        assert!(fetch.ended && !fetch.is_whole());
        fetch.client_said(&ack(2)).unwrap();
        assert!(fetch.is_whole());
        assert_eq!((&fetch.bytes[..], fetch.blocks), (&b"abc"[..], 2));
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let mut fetch = fetch();
        fetch.server_said(&data(1, b"ab")).unwrap();
        assert!(fetch.server_said(&data(1, b"xy")).is_err(), "other bytes");
        assert!(fetch.server_said(&data(2, b"abc")).is_err(), "more than a block");
        assert!(fetch.client_said(&ack(2)).is_err(), "a block that is not in the capture");
        assert!(fetch.client_said(&ack(0xffff)).is_err(), "a block before the first");
        fetch.server_said(&data(2, b"")).unwrap();
        assert!(fetch.server_said(&data(3, b"")).is_err(), "behind the end");
    }

    #[test]
    fn block_numbers_begin_again() {
        let mut fetch = fetch();
        for block in 1..=70_000_u64 {
            fetch.server_said(&data(block as u16, b"ab")).unwrap();
            fetch.client_said(&ack(block as u16)).unwrap();
        }
        fetch.server_said(&data(70_000_u64 as u16, b"ab")).unwrap();
        fetch.server_said(&data(70_001_u64 as u16, b"")).unwrap();
        fetch.client_said(&ack(70_001_u64 as u16)).unwrap();
        assert!(fetch.is_whole());
        assert_eq!((fetch.bytes.len(), fetch.blocks, fetch.acknowledged), (140_000, 70_001, 70_001));
    }

    #[test]
    fn frames_are_told_apart_and_a_wrong_checksum_is_an_error() {
        let client = Ipv4Addr::new(10, 77, 0, 2);
        let mut seen = Seen { client, all: Vec::new() };
        let server = SERVER_ADDRESS.parse().unwrap();
        let frame = |source, source_port, to, to_port, packet: &[u8]| {
            Datagram { source, source_port, to, to_port, ..Datagram::default() }.frame(packet)
        };
        let asked = |port| frame(client, port, server, PORT, &request("file", &[]));
        let answer = |port| frame(server, PORT, client, port, &data(1, b"abc"));
        let mut look = |frame: &[u8]| seen.look_at(Duration::from_secs(1), frame);
        assert!(look(&answer(1024)).is_err(), "nobody asked");
        look(&asked(1024)).unwrap();
        look(&asked(1024)).unwrap();
        look(&asked(1025)).unwrap();
        look(&answer(1024)).unwrap();
        let mut wrong = answer(1025);
        *wrong.last_mut().unwrap() ^= 1;
        assert!(look(&wrong).is_err(), "a wrong checksum");
        // A frame of another client.
        look(&frame(server, PORT, Ipv4Addr::new(10, 77, 0, 3), 1025, &data(1, b"abc"))).unwrap();
        look(&frame(client, 1024, server, PORT, &ack(1))).unwrap();
        let fetched: Vec<_> = seen.all.iter().map(|fetch| (fetch.port, fetch.is_whole())).collect();
        assert_eq!(fetched, [(1024, true), (1025, false)]);
    }
}
