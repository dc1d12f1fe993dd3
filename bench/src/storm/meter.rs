//! Who spent how much CPU.
//!
//! - *server*: user and system time of the server's process, to the nanosecond (`CLOCK_PROCESS_CPUTIME_ID` of that
//!   process), and the run time of xpxe's programs as the kernel counts it (`BPF_ENABLE_STATS`). It lacks what the
//!   kernel does for a socket before the server wakes up, and for XDP what the driver does.
//! - *machine*: everything the machine did (`/proc/stat`) but the generator's process. It has the interrupts' work
//!   that ran while the server or nobody ran, but lacks those that ran while the generator did.
//! - *all*: everything the machine did. The reflector's row says what of it is the generator and the cable.

use std::collections::HashSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

const PROGRAMS: [&str; 2] = ["xpxe_xdp", "xpxe_tc"];

/// Every program of xpxe's in this kernel: other servers may run beside ours.
pub(crate) fn programs() -> HashSet<u32> {
    loaded_programs()
        .filter_map(Result::ok)
        .filter(|info| info.name_as_str().is_some_and(|name| PROGRAMS.contains(&name)))
        .map(|info| info.id())
        .collect()
}

/// What a server is made of.
pub(crate) struct Meter {
    process: Option<ClockId>,
    programs: HashSet<u32>,
    _stats: OwnedFd,
}

/// How much was spent: up to now, or in between.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// The server's process.
    pub(crate) process: Duration,
    /// Its programs in the kernel.
    pub(crate) programs: Duration,
    /// How often each of them ran, XDP and TC.
    pub(crate) runs: [u64; 2],
    /// The generator's process.
    pub(crate) generator: Duration,
    /// The whole machine.
    pub(crate) all: Duration,
}

impl Spent {
    /// What was spent since an earlier reading.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let [xdp, tc] = self.runs;
        Self {
            process: self.process.saturating_sub(before.process),
            programs: self.programs.saturating_sub(before.programs),
            runs: [xdp.saturating_sub(before.runs[0]), tc.saturating_sub(before.runs[1])],
            generator: self.generator.saturating_sub(before.generator),
            all: self.all.saturating_sub(before.all),
        }
    }

    /// By the server itself.
    pub(crate) fn server(&self) -> Duration {
        self.process + self.programs
    }

    /// By all but the generator.
    pub(crate) fn machine(&self) -> Duration {
        self.all.saturating_sub(self.generator)
    }

    /// One run of a program.
    pub(crate) fn nanoseconds_per_run(&self) -> f64 {
        self.programs.as_nanos() as f64 / self.runs.iter().sum::<u64>().max(1) as f64
    }
}

impl Meter {
    /// Measures a process and those programs that were not there before it.
    pub(crate) fn new(pid: Option<u32>, before: &HashSet<u32>) -> Result<Self> {
        let stats = enable_stats(Stats::RunTime).context("enable the run time statistics of BPF programs")?;
        let process =
            pid.map(|pid| ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed()))).transpose()?;
        let programs = if process.is_some() { &programs() - before } else { HashSet::new() };
        Ok(Self { process, programs, _stats: stats })
    }

    /// What was spent up to now.
    pub(crate) fn read(&self) -> Result<Spent> {
        let mut spent = Spent {
            generator: clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into(),
            all: busy()?,
            ..Spent::default()
        };
        if let Some(process) = self.process {
            spent.process = process.now()?.into();
        }
        for info in loaded_programs().filter_map(Result::ok).filter(|info| self.programs.contains(&info.id()))
        {
            spent.programs += info.run_time();
            spent.runs[usize::from(info.name_as_str() != Some(PROGRAMS[0]))] += info.run_count();
        }
        Ok(spent)
    }
}

/// All CPUs together.
fn busy() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // user, nice, system, (idle, iowait,) irq, softirq
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum();
    Ok(Duration::from_millis(busy * 10))
}

/// A process's resident memory in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// The kernel memory of the tables that a process has open, in bytes, and that of the largest one.
pub(crate) fn tables(pid: u32) -> Result<(u64, u64)> {
    let mut seen = HashSet::new();
    let (mut all, mut largest) = (0, 0);
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.filter_map(Result::ok) {
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let number = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key))?;
            value.trim().parse::<u64>().ok()
        };
        if let (Some(id), Some(bytes)) = (number("map_id:"), number("memlock:"))
            && seen.insert(id)
        {
            all += bytes;
            largest = bytes.max(largest);
        }
    }
    Ok((all, largest))
}
