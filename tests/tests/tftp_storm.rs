//! A rack row that powers on at once: 2,000 TFTP transfers under way at the same time, each from an address and port of
//! its own.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use boot_tests::dhcp_client::{Datagram, Mac, Wire, mac};
use boot_tests::rack::{SERVER_ADDRESS, SERVER_MAC};
use boot_tests::random::Random;
use boot_tests::tftp_client::{PORT, Packet, ack, datagram, received, request};
use boot_tests::tftp_rack::{TftpRack, caller_address};

const CLIENTS: u16 = 2000;
/// Different files, so that a block of another transfer would be noticed.
const FILES: usize = 8;
const BLOCK: usize = 1468;
/// 100 kB, each of them a little longer than the one before.
const SIZE: usize = 100_000;
/// A client that hears nothing for so long repeats itself.
const REPEAT: Duration = Duration::from_secs(1);
/// Far more than it takes.
const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn two_thousand_transfers_at_once_finish_by_the_daemon_alone() -> Result<()> {
    storm("off")
}

#[test]
fn two_thousand_transfers_at_once_finish_with_the_kernel_half_in_tc() -> Result<()> {
    storm("tc")
}

#[test]
fn two_thousand_transfers_at_once_finish_with_the_kernel_half_in_xdp() -> Result<()> {
    storm("xdp")
}

fn storm(fast_path: &'static str) -> Result<()> {
    let Some(place) = TftpRack::build(fast_path)? else { return Ok(()) };
    let files: Vec<Vec<u8>> = (0..FILES)
        .map(|number| place.file(&format!("image-{number}"), SIZE + 700 * number))
        .collect::<Result<_>>()?;
    let xpxe = place.serve()?;
    let mut storm = Storm::new(Wire::open_for_ip(&place.callers, "eth0")?, &files)?;
    let context = || format!("fast_path = {fast_path:?}\n{}", xpxe.last_lines(10));
    storm.negotiate().with_context(context)?;
    let started = Instant::now();
    storm.fetch().with_context(context)?;
    let took = started.elapsed().as_secs_f64();
    let bytes: usize = storm.clients.values().map(|client| client.file.len()).sum();
    println!(
        "fast_path = {fast_path:?}: {CLIENTS} transfers at once, {:.0} MB in {took:.1} s, {} packets repeated by clients, \
         {} blocks came twice",
        bytes as f64 / 1e6,
        storm.repeats,
        storm.twice,
    );
    xpxe.stop()
}

/// One transfer.
struct Client<'files> {
    own: SocketAddrV4,
    name: String,
    file: &'files [u8],
    granted: bool,
    /// Blocks that came, in order, each compared with the file.
    blocks: usize,
    finished: bool,
    last: Instant,
}

/// All transfers, over one packet socket.
struct Storm<'files> {
    wire: Wire,
    server_mac: Mac,
    server: SocketAddrV4,
    clients: HashMap<SocketAddrV4, Client<'files>>,
    random: Random,
    repeats: u64,
    twice: u64,
}

impl<'files> Storm<'files> {
    fn new(wire: Wire, files: &'files [Vec<u8>]) -> Result<Self> {
        let client = |number: u16| {
            let own = caller_address(number);
            let file = usize::from(number) % files.len();
            let client = Client {
                own,
                name: format!("image-{file}"),
                file: &files[file],
                granted: false,
                blocks: 0,
                finished: false,
                last: Instant::now(),
            };
            (own, client)
        };
        Ok(Self {
            wire,
            server_mac: mac(SERVER_MAC)?,
            server: SocketAddrV4::new(SERVER_ADDRESS.parse()?, PORT),
            clients: (0..CLIENTS).map(client).collect(),
            random: Random(1),
            repeats: 0,
            twice: 0,
        })
    }

    /// Every client has its OACK, and none has acknowledged it: all transfers are open.
    fn negotiate(&mut self) -> Result<()> {
        let all: Vec<SocketAddrV4> = self.clients.keys().copied().collect();
        for own in &all {
            self.speak(*own)?;
        }
        self.until("every OACK", |client| client.granted)
    }

    /// Everybody starts at once and fetches in lockstep.
    fn fetch(&mut self) -> Result<()> {
        let all: Vec<SocketAddrV4> = self.clients.keys().copied().collect();
        for own in &all {
            self.say(*own, &ack(0))?;
        }
        self.until("the end of every transfer", |client| client.finished)
    }

    fn until(&mut self, what: &str, done: impl Fn(&Client<'_>) -> bool) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        let mut looked = Instant::now();
        let mut left = self.clients.values().filter(|client| !done(client)).count();
        while left > 0 {
            let server = self.server;
            let heard = self.wire.hear(Duration::from_millis(100), |frame| {
                let (from, to, _) = datagram(frame)?;
                if from != server {
                    return None;
                }
                Some((to, received(frame, to, server)?))
            })?;
            if let Some((own, packet)) = heard {
                let client = self.clients.get_mut(&own).with_context(|| format!("{own} is nobody's"))?;
                let before = done(client);
                let answer = client.hears(packet?).with_context(|| format!("{own}, {}", client.name))?;
                left -= usize::from(!before && done(client));
                match answer {
                    Answer::Block(block) => self.say(own, &ack(block))?,
                    Answer::Twice => self.twice += 1,
                    Answer::Nothing => {}
                }
            }
            if looked.elapsed() > REPEAT / 4 {
                looked = Instant::now();
                let silent =
                    self.clients.values().filter(|client| !done(client) && client.last.elapsed() > REPEAT);
                let silent: Vec<SocketAddrV4> = silent.map(|client| client.own).collect();
                self.repeats += silent.len() as u64;
                for own in silent {
                    self.speak(own)?;
                }
                ensure!(Instant::now() < deadline, "{left} clients wait for {what} after {DEADLINE:?}");
            }
        }
        Ok(())
    }

    /// What a client that heard nothing says (again).
    fn speak(&mut self, own: SocketAddrV4) -> Result<()> {
        let client = self.clients.get_mut(&own).context("one of ours")?;
        client.last = Instant::now();
        let packet = if client.granted {
            ack(client.blocks as u16)
        } else {
            request(&client.name, &[("blksize", "1468"), ("tsize", "0")])
        };
        self.say(own, &packet)
    }

    /// Half of the frames have room for the answer, half have not.
    fn say(&mut self, own: SocketAddrV4, packet: &[u8]) -> Result<()> {
        let datagram = Datagram {
            source_mac: self.wire.mac(),
            to_mac: self.server_mac,
            source: *own.ip(),
            to: *self.server.ip(),
            source_port: own.port(),
            to_port: PORT,
        };
        let mut frame = datagram.frame(packet);
        if self.random.below(2) == 0 {
            frame.resize(1514, 0);
        }
        self.wire.send(&frame)
    }
}

enum Answer {
    Block(u16),
    Twice,
    Nothing,
}

impl Client<'_> {
    fn hears(&mut self, packet: Packet) -> Result<Answer> {
        match packet {
            Packet::Oack(granted) => {
                let pair = |name: &str, value: String| (name.to_owned(), value);
                let expected =
                    [pair("blksize", BLOCK.to_string()), pair("tsize", self.file.len().to_string())];
                ensure!(granted == expected, "granted {granted:?}");
                // The server may repeat it; its ACK is for everybody to send at once.
                self.granted = true;
                self.last = Instant::now();
                Ok(Answer::Nothing)
            }
            Packet::Data { block, bytes } if block == (self.blocks + 1) as u16 && !self.finished => {
                let offset = self.blocks * BLOCK;
                let expected = &self.file[offset..self.file.len().min(offset + BLOCK)];
                ensure!(bytes == expected, "block {block} has {} bytes of something else", bytes.len());
                self.blocks += 1;
                self.finished = bytes.len() < BLOCK;
                self.last = Instant::now();
                Ok(Answer::Block(block))
            }
            Packet::Data { block, .. } => {
                ensure!(usize::from(block) <= self.blocks, "block {block} comes behind {}", self.blocks);
                self.last = Instant::now();
                // The ACK of the last one may have been lost, and nobody else will say it again.
                Ok(if self.finished { Answer::Block(block) } else { Answer::Twice })
            }
            Packet::Error { code, text } => bail!("ERROR {code} {text}"),
        }
    }
}
