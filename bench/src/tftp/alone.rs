//! xpxe's XDP without a cable: the ACKs of one transfer, one after the other, each run once by BPF_PROG_TEST_RUN.
//!
//! The kernel's own repetition would repeat the frame, and a repeated ACK is not answered. So the kernel's run time
//! statistics say what the program took; what taking them costs is measured with a foreign frame, and subtracted.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, ensure};
use aya::programs::{ProgramInfo, loaded_programs};
use aya::sys::{Stats, enable_stats};
use bench_ebpf::BLOCK;
use boot_bench::cable::{Cable, SERVER_INTERFACE};
use boot_bench::socket::{Ran, test_run};
use boot_common::Mac;
use boot_tests::packet::foreign;
use nix::net::if_::if_nametoindex;

use super::kernel::context;
use super::packet::{self, Line, ROOM, Said};

const XDP_TX: u32 = 3;
/// Repetitions of a frame that comes out as it went in.
const REPEAT: u32 = 1_000_000;

/// What one block takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Alone {
    /// XDP leaves these packets to others.
    Passed,
    Answered {
        blocks: u32,
        /// For a block, without the statistics.
        nanoseconds: f64,
        /// What the statistics take.
        statistics: f64,
    },
}

/// Runs a server's program, which has just sent the OACK of a transfer.
pub(crate) fn measure(cable: &Cable, program: &ProgramInfo, line: Line, file: &[u8]) -> Result<Alone> {
    let fd = program.fd()?;
    cable.server.run(|| {
        let bench =
            Bench { program: fd.as_fd(), id: program.id(), ifindex: if_nametoindex(SERVER_INTERFACE)? };
        let statistics = bench.statistics()?;
        let _on = enable_stats(Stats::RunTime)?;
        let before = bench.info()?;
        let last = file.len() as u32 / BLOCK;
        for block in 0..=last {
            let answered = bench.block(line, block, file)?;
            if !answered && block == 0 {
                return Ok(Alone::Passed);
            }
            ensure!(answered, "XDP does not answer the ACK of block {block}");
        }
        let after = bench.info()?;
        let (blocks, runs) = (last + 1, after.run_count() - before.run_count());
        ensure!(runs == u64::from(blocks), "{runs} runs were counted instead of {blocks}");
        let spent = (after.run_time() - before.run_time()).as_nanos() as f64 / f64::from(blocks);
        Ok(Alone::Answered { blocks, nanoseconds: spent - statistics, statistics })
    })?
}

struct Bench<'p> {
    program: BorrowedFd<'p>,
    id: u32,
    ifindex: u32,
}

impl Bench<'_> {
    /// Whether an ACK is answered, with the block after it.
    fn block(&self, line: Line, acknowledged: u32, file: &[u8]) -> Result<bool> {
        let (mut frame, mut answer) = ([0; ROOM], [0; 2 * ROOM]);
        let length = line.ack(&mut frame, acknowledged as u16);
        let ran = self.run(&frame[..length], &mut answer, 1)?;
        if ran.verdict != XDP_TX {
            return Ok(false);
        }
        let answer = &answer[..ran.length];
        let begin = (acknowledged * BLOCK) as usize;
        let wanted = &file[begin..file.len().min(begin + BLOCK as usize)];
        let block = (acknowledged + 1) as u16;
        ensure!(
            packet::read(answer) == Some((line, Said::Block(block, wanted))),
            "XDP answers the ACK of block {acknowledged} with something else than the next block"
        );
        Ok(true)
    }

    /// What the statistics add to a run.
    fn statistics(&self) -> Result<f64> {
        let frame = foreign(Mac([2, 0, 0, 0, 0, 9]));
        let alone = f64::from(self.run(&frame, &mut [0; ROOM], REPEAT)?.nanoseconds);
        let _on = enable_stats(Stats::RunTime)?;
        let before = self.info()?;
        self.run(&frame, &mut [0; ROOM], REPEAT)?;
        let spent = self.info()?.run_time() - before.run_time();
        Ok(spent.as_nanos() as f64 / f64::from(REPEAT) - alone)
    }

    fn run(&self, frame: &[u8], answer: &mut [u8], repeat: u32) -> Result<Ran> {
        let context = context(frame.len(), self.ifindex);
        test_run(self.program, frame, &context, answer, repeat).context("run xpxe's XDP program")
    }

    /// What the kernel counted up to now.
    fn info(&self) -> Result<ProgramInfo> {
        let mut programs = loaded_programs().filter_map(Result::ok);
        programs.find(|info| info.id() == self.id).context("xpxe's XDP program is gone")
    }
}
