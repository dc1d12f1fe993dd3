//! The halves agree about TFTP too: whatever acknowledgement arrives in whatever state of a transfer, `respond` on
//! the host, the XDP program and the TC program end with the same [`Reason`], the same bytes, and leave the transfer
//! in the same state.
//!
//! `XPXE_AGREE_FRAMES` sets how many frames (default 10,000 per hook), `XPXE_AGREE_SEED` which ones.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use boot_common::frame::{Bytes, Copies, Frame};
use boot_common::memory::{Memory, TransferMemory};
use boot_common::respond::respond;
use boot_common::scratch::Scratch;
use boot_common::tables::{Hook, LinkEntry, role};
use boot_common::tftp::{CHUNK, Chunk, Flight, SUMS, Shape, State, Sums, TransferKey};
use boot_common::wire::Sum;
use boot_common::{Mac, Reason};
use boot_engine::tftp::Flights as _;
use boot_tests::netns::Namespace;
use boot_tests::packet::{fix_checksums, fix_lengths};
use boot_tests::random::{Random, number};
use boot_tests::sandbox::Sandbox;
use boot_userspace::fastpath::{FastPath, Sizes, Tables, Temporary, Transfers, load};
use boot_userspace::host::clock;
use nix::net::if_::if_nametoindex;
use zerocopy::FromZeros as _;

const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const US: [u8; 4] = [10, 77, 0, 1];
const CLIENT: [u8; 4] = [10, 77, 0, 9];
const PORT: u16 = 2070;
const SLOT: u32 = 3;
const SIZES: Sizes = Sizes { chunks: 3, sums: 64 };
/// Ends within the second chunk.
const FILE: usize = CHUNK + 70_001;
const SECOND: u64 = 1_000_000_000;

#[test]
fn the_halves_agree_on_every_acknowledgement() -> Result<()> {
    let sandbox = Sandbox::enter()?;
    let pins = Temporary::new(&sandbox.pin_dir())?;
    let namespace = Namespace::new("agree")?;
    namespace.output("ip", &["link", "add", "served", "type", "veth", "peer", "name", "other"])?;
    for interface in ["served", "other"] {
        namespace.output("ip", &["link", "set", interface, "up"])?;
    }
    let seed = number("XPXE_AGREE_SEED").unwrap_or(0x7470_6674);
    let frames = number("XPXE_AGREE_FRAMES").unwrap_or(10_000);
    let compare = || Rig::new(&pins, if_nametoindex("served")?)?.compare(seed, frames);
    namespace.run(compare)?.with_context(|| format!("XPXE_AGREE_SEED={seed} XPXE_AGREE_FRAMES={frames}"))
}

/// A transfer as it stands when an acknowledgement comes.
#[derive(Clone, Copy, Debug)]
struct Situation {
    shape: Shape,
    state: State,
    /// Nanoseconds since the last sending.
    sent_ago: u64,
    /// Nanoseconds since the daemon's last sign of life.
    silent: u64,
}

/// What became of the frame and the transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    reason: Reason,
    frame: Vec<u8>,
    state: State,
}

struct Rig {
    ifindex: u32,
    host: Memory,
    kernel: Tables,
    transfers: Transfers,
    ebpf: aya::Ebpf,
    counted: std::collections::BTreeMap<(&'static str, Reason), u64>,
}

impl Rig {
    fn new(pins: &Temporary, ifindex: u32) -> Result<Self> {
        let (_, mut kernel, transfers) = FastPath::start(pins.path(), false, SIZES)?;
        let ebpf = load(pins.path(), false, SIZES)?;
        let link = LinkEntry { mac: OUR_MAC, role: role::OFF, unknown_ask: 0, address: US, proxy_set: 0 };
        kernel.put_link(ifindex, &link)?;
        transfers.published.put(&key(ifindex), SLOT)?;
        let mut memory = TransferMemory::default();
        memory.slots.insert(key(ifindex), SLOT);
        memory.flights.resize_with(SLOT as usize + 1, Flight::default);
        memory.chunks.resize_with(SIZES.chunks as usize, || Chunk::new_box_zeroed().expect("memory"));
        memory.sums.resize_with(SIZES.sums as usize, || Sums::new_box_zeroed().expect("memory"));
        let file: Vec<u8> =
            (0..FILE).map(|at| (at as u32).wrapping_mul(0x9e37_79b9).to_be_bytes()[0]).collect();
        for (nth, chunk) in memory.chunks.iter_mut().enumerate() {
            let piece = file.get(nth * CHUNK..).unwrap_or_default();
            let piece = &piece[..piece.len().min(chunk.bytes.len())];
            chunk.bytes[..piece.len()].copy_from_slice(piece);
            ensure!(transfers.images.write(nth, 0, piece));
        }
        let mut host = Memory { transfers: Arc::new(memory), ..Memory::default() };
        host.links.insert(ifindex, link);
        let mut rig = Self { ifindex, host, kernel, transfers, ebpf, counted: Default::default() };
        for block_size in BLOCK_SIZES {
            rig.put_sums(&file, block_size);
        }
        Ok(rig)
    }

    /// Sums of every block size, one after the other.
    fn put_sums(&mut self, file: &[u8], block_size: u16) {
        let memory = Arc::get_mut(&mut self.host.transfers).expect("not shared");
        for (nth, block) in file.chunks(block_size.into()).enumerate() {
            let at = first_sum(block_size) as usize + nth;
            let sum = Sum::ZERO.bytes(block).folded();
            memory.sums[at / SUMS].folded[at % SUMS] = sum;
            assert!(self.transfers.sums.write(at / SUMS, at % SUMS * 2, &sum.to_ne_bytes()));
        }
    }

    fn compare(mut self, seed: u64, frames: u64) -> Result<()> {
        let mut random = Random(seed);
        for number in 0..frames {
            let situation = Situation::any(&mut random);
            let frame = acknowledgement(&situation, &mut random);
            for hook in Hook::KERNEL {
                let what = || format!("frame {number}, {situation:?}, at {}", hook.name());
                let expected = self.on_host(hook, &situation, &frame)?;
                let found = self.in_kernel(hook, &situation, &frame, expected.reason).with_context(what)?;
                if found != expected {
                    bail!("{}\nrequest {frame:02x?}\nhost   {expected:02x?}\nkernel {found:02x?}", what());
                }
            }
        }
        for hook in Hook::KERNEL {
            let met: Vec<String> = Reason::ALL
                .iter()
                .filter_map(|reason| Some((reason, self.counted.get(&(hook.name(), *reason))?)))
                .map(|(reason, count)| format!("{} {count}", reason.name()))
                .collect();
            println!("{}: {frames} frames: {}", hook.name(), met.join(", "));
            let blocks = self.counted.get(&(hook.name(), Reason::TftpBlock)).copied().unwrap_or(0);
            ensure!(blocks * 10 > frames && met.len() >= 11, "no fair trial at {}", hook.name());
        }
        Ok(())
    }

    fn on_host(&mut self, hook: Hook, situation: &Situation, frame: &[u8]) -> Result<Outcome> {
        let memory = Arc::get_mut(&mut self.host.transfers).context("not shared")?;
        // Far from any boot clock, so that what is compared are differences.
        memory.now = 1_000_000 * SECOND;
        memory.heartbeat = memory.now - situation.silent;
        situation.set(&memory.flights[SLOT as usize], self.ifindex, memory.now);
        let (reason, frame) = match hook {
            Hook::Xdp => {
                let mut bytes = Bytes(frame.to_vec());
                (answer(&mut bytes, &self.host, self.ifindex), bytes.0)
            }
            _ => {
                let mut copies = Copies { frame: Bytes(frame.to_vec()), sent: Vec::new() };
                (answer(&mut copies, &self.host, self.ifindex), copies.frame.0)
            }
        };
        Ok(Outcome { reason, frame, state: self.host.transfers.flights[SLOT as usize].state() })
    }

    fn in_kernel(
        &mut self,
        hook: Hook,
        situation: &Situation,
        frame: &[u8],
        expected: Reason,
    ) -> Result<Outcome> {
        let now = u64::try_from(clock::boot().as_nanos())?;
        self.kernel.beat(now.saturating_sub(situation.silent))?;
        let flight = &self.transfers.flights.all()[SLOT as usize];
        situation.set(flight, self.ifindex, now);
        let mut out = vec![0; 4096];
        let length = u32::try_from(frame.len())?;
        let (context, verdicts) = match hook {
            Hook::Xdp => ([0, length, 0, self.ifindex, 0, 0].map(u32::to_ne_bytes).concat(), [1, 2, 3]),
            _ => {
                let mut context = vec![0; 192];
                context[40..44].copy_from_slice(&self.ifindex.to_ne_bytes());
                (context, [2, -1, 7])
            }
        };
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = match hook {
            Hook::Xdp => {
                let program: &Xdp = self.ebpf.program("xpxe_xdp").context("loaded")?.try_into()?;
                program.test_run(options)?
            }
            _ => {
                let program: &SchedClassifier = self.ebpf.program("xpxe_tc").context("loaded")?.try_into()?;
                program.test_run(options)?
            }
        };
        out.truncate(usize::try_from(result.data_size_out)?);
        let state = flight.state();
        let reason = self.counted_now(hook, expected)?;
        let [drop, pass, send] = verdicts;
        let verdict = match reason {
            Reason::TftpDone => drop,
            Reason::TftpBlock => send,
            _ => pass,
        };
        ensure!(
            result.return_value.cast_signed() == verdict,
            "verdict {} after {reason:?}",
            result.return_value
        );
        Ok(Outcome { reason, frame: out, state })
    }

    /// Which counter has moved; `guess` is looked at first.
    fn counted_now(&mut self, hook: Hook, guess: Reason) -> Result<Reason> {
        for reason in std::iter::once(&guess).chain(Reason::ALL) {
            let counted = self.counted.entry((hook.name(), *reason)).or_default();
            if self.kernel.counter(hook, *reason)? == *counted + 1 {
                *counted += 1;
                return Ok(*reason);
            }
        }
        bail!("no counter has moved by one")
    }
}

fn answer<F: Frame>(frame: &mut F, tables: &Memory, ifindex: u32) -> Reason {
    match respond(frame, &mut Scratch::new(), tables, ifindex, || 0) {
        Ok(answered) => answered.reason,
        Err(reason) => reason,
    }
}

const BLOCK_SIZES: [u16; 7] = [8, 15, 512, 1024, 1408, 1432, 1468];

fn first_sum(block_size: u16) -> u32 {
    let before = BLOCK_SIZES.iter().take_while(|other| **other != block_size);
    before.map(|size| FILE as u32 / u32::from(*size) + 2).sum()
}

fn key(ifindex: u32) -> TransferKey {
    TransferKey { client: CLIENT, local: US, ifindex, port: PORT, reserved: 0 }
}

impl Situation {
    fn any(random: &mut Random) -> Self {
        let block_size = *random.of(&BLOCK_SIZES);
        let last = FILE as u32 / u32::from(block_size) + 2;
        let window = *random.of(&[1, 1, 1, 2, 4, 16]);
        let shape =
            Shape { size: FILE as u64, block_size, window, last, chunk: 0, sums: first_sum(block_size) };
        let acked = match random.below(4) {
            0 => 0,
            1 => last - random.below(window as usize + 2).min(last as usize) as u32,
            _ => random.below(last as usize) as u32,
        };
        let sent = if acked == 0 { 1 } else { (acked + 1 + random.below(window.into()) as u32).min(last) };
        let silent = *random.of(&[0, SECOND, 5 * SECOND, 60 * SECOND]);
        // Far from the limits, because the host's and the kernel's clock do not stand still together.
        let sent_ago = *random.of(&[0, SECOND / 100, 10 * SECOND]);
        Self { shape, state: State { sent, acked }, sent_ago, silent }
    }

    fn set(&self, flight: &Flight, ifindex: u32, now: u64) {
        flight.begin(&key(ifindex), &self.shape, self.state, "file", now);
        flight.sent_at.set(now - self.sent_ago);
    }
}

/// An acknowledgement, most often one that fits, and sometimes damaged.
fn acknowledgement(situation: &Situation, random: &mut Random) -> Vec<u8> {
    let State { sent, acked } = situation.state;
    let position = match random.below(8) {
        0 => acked,
        1 => acked + random.below((sent - acked) as usize + 1) as u32,
        2 => random.below(70_000) as u32,
        _ => sent,
    };
    let block = (position as u16).wrapping_sub(1);
    let mut frame =
        [&OUR_MAC.0[..], &CLIENT_MAC, &[8, 0, 0x45, 0, 0, 32, 0, 7, 0x40, 0, 64, 17, 0, 0]].concat();
    frame.extend([CLIENT, US].concat());
    frame.extend([PORT, 69, 12, 0, 4, block].map(u16::to_be_bytes).concat());
    // Ethernet's padding, or a frame that somebody made full.
    frame.resize(*random.of(&[46, 60, 60, 64, 1514]), *random.of(&[0, 0xaa]));
    fix_checksums(&mut frame);
    if random.below(4) == 0 {
        for _ in 0..=random.below(3) {
            let at = random.below(46);
            frame[at] = match random.below(3) {
                0 => frame[at] ^ (1 << random.below(8)),
                1 => *random.of(&[0, 1, 4, 5, 69, 255]),
                _ => random.byte(),
            };
        }
        if random.below(2) == 0 {
            frame.truncate(random.below(frame.len()).max(54));
        }
        if random.below(4) == 0 {
            fix_lengths(&mut frame);
        }
        if random.below(4) != 0 {
            fix_checksums(&mut frame);
        }
    }
    frame
}
