//! Clients in the kernel: on their interface every DATA packet becomes its ACK and goes back.
//!
//! Each begins with an ACK that is put in as a frame of a whole page, as a physical driver's are, so that the server's
//! XDP can make it longer. Now and then a block comes up to this process, which compares the whole of it and
//! lets the client go on in the same way.

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::xdp::XdpMode;
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use bench_ebpf::{BLOCK, MOST, MOST_BLOCKS, count, waiting};
use boot_bench::cable::Cable;

use super::outcome::Outcome;
use super::packet::{Line, ROOM};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tftp-clients"));
const PROGRAM: &str = "tftp_clients";

/// The clients' program on their interface.
pub(crate) struct InKernel {
    ebpf: Ebpf,
    states: Array<MapData, u64>,
    counts: PerCpuArray<MapData, u64>,
    ifindex: u32,
}

/// What was counted up to now, and how far each client was.
pub(crate) struct Counted {
    counts: Vec<u64>,
    states: Vec<u64>,
}

impl InKernel {
    /// Loads the program for a file and puts it on the clients' interface.
    pub(crate) fn attach(cable: &Cable, file: &[u8]) -> Result<Self> {
        let last = file.len() as u32 / BLOCK + 1;
        ensure!(last <= MOST_BLOCKS, "a file of {last} blocks is too large for the clients in the kernel");
        let mut loader = EbpfLoader::new();
        let last_length = file.len() as u32 % BLOCK;
        loader.override_global("LAST_BLOCK", &last, true);
        loader.override_global("LAST_LENGTH", &last_length, true);
        let mut ebpf = loader.load(OBJECT).context("load the clients in the kernel")?;
        let mut words: Array<_, [u8; 8]> = ebpf.map_mut("WORDS").context("no table WORDS")?.try_into()?;
        for (block, bytes) in (1..).zip(file.chunks(BLOCK as usize)) {
            if let Some(word) = bytes.first_chunk() {
                words.set(block, word, 0)?;
            }
        }
        let program: &mut Xdp = ebpf.program_mut(PROGRAM).context("no program")?.try_into()?;
        program.load().context("load the clients in the kernel")?;
        cable.clients.run(|| program.attach_to_if_index(cable.ifindex, XdpMode::Driver))??;
        let states = ebpf.take_map("CLIENTS").context("no table CLIENTS")?.try_into()?;
        let counts = ebpf.take_map("COUNTS").context("no table COUNTS")?.try_into()?;
        Ok(Self { ebpf, states, counts, ifindex: cable.ifindex })
    }

    /// Sends a client's ACK; that of block 0 starts it. Works on a thread in the clients' namespace only.
    pub(crate) fn acknowledge(&mut self, line: Line, block: u16) -> Result<()> {
        if block == 0 {
            self.states.set(line.client, waiting(line.port), 0)?;
        }
        let mut frame = [0; ROOM];
        let length = line.ack_to_turn(&mut frame, block);
        let context = context(length, self.ifindex);
        let options = TestRunOptions {
            data_in: Some(&frame[..length]),
            ctx_in: Some(&context),
            attrs: TestRunAttrs::new().xdp_live_frames(1),
            ..TestRunOptions::default()
        };
        let program: &Xdp = self.ebpf.program(PROGRAM).context("no program")?.try_into()?;
        program.test_run(options).context("put a frame in (this needs Linux 5.18)")?;
        Ok(())
    }

    /// Lets every block through from now on.
    pub(crate) fn stop(&mut self) -> Result<()> {
        (0..MOST)
            .try_for_each(|client| self.states.set(client, 0, 0))
            .context("stop the clients in the kernel")
    }

    pub(crate) fn counted(&self, clients: u32) -> Result<Counted> {
        let sum = |what: u32| Ok(self.counts.get(&what, 0)?.iter().sum());
        Ok(Counted {
            counts: (0..count::ALL).map(sum).collect::<Result<_>>()?,
            states: (0..clients).map(|client| Ok(self.states.get(&client, 0)?)).collect::<Result<_>>()?,
        })
    }
}

impl Counted {
    /// Adds what came after `before`.
    pub(crate) fn add_since(&self, before: &Self, to: &mut Outcome) -> Result<()> {
        let more = |what: u32| self.counts[what as usize] - before.counts[what as usize];
        if more(count::WRONG) > 0 {
            bail!("the server sent something else than the file: {} blocks", more(count::WRONG));
        }
        to.blocks += more(count::BLOCKS);
        to.bytes += more(count::BYTES);
        to.repeated += more(count::REPEATED);
        to.stray += more(count::STRAY) + more(count::STUCK);
        to.starved = self.states.iter().zip(&before.states).filter(|(now, then)| now == then).count() as u64;
        Ok(())
    }
}

/// A `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
pub(crate) fn context(length: usize, ifindex: u32) -> [u8; 24] {
    let mut context = [0; 24];
    context[4..8].copy_from_slice(&(length as u32).to_ne_bytes());
    context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
    context
}
