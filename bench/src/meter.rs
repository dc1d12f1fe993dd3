//! Who spent how much CPU.
//!
//! - *server*: user and system time of the server's process, to the nanosecond (`CLOCK_PROCESS_CPUTIME_ID` of that
//!   process) or of its control group, and the run time of xpxe's programs as the kernel counts it (`BPF_ENABLE_STATS`). It lacks what the
//!   kernel does for a socket before the server wakes up, and for XDP what the driver does.
//! - *machine*: everything the machine did (`/proc/stat`) but the generator's process. It has the interrupts' work
//!   that ran while the server or nobody ran, but lacks those that ran while the generator did.
//! - *all*: everything the machine did. The reflector's row says what of it is the generator and the cable.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::programs::{ProgramInfo, loaded_programs};
use aya::sys::{Stats, enable_stats};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::group::{Group, used};

const PROGRAMS: [&str; 2] = ["xpxe_xdp", "xpxe_tc"];

/// Those of xpxe's programs that use a table which a process has open: other servers may run beside ours. The
/// programs themselves no process has open.
fn programs(pid: u32) -> Result<Vec<ProgramInfo>> {
    let open = numbers(pid, "map_id:")?;
    let uses = |info: &ProgramInfo| {
        let tables = info.map_ids().ok().flatten().unwrap_or_default();
        tables.iter().any(|table| open.contains_key(table))
    };
    let is_ours = |info: &ProgramInfo| info.name_as_str().is_some_and(|name| PROGRAMS.contains(&name));
    Ok(loaded_programs().filter_map(Result::ok).filter(|info| is_ours(info) && uses(info)).collect())
}

fn ids(programs: &[ProgramInfo]) -> HashSet<u32> {
    programs.iter().map(ProgramInfo::id).collect()
}

/// xpxe's XDP program, if a process answers with one.
///
/// # Errors
/// When the process is gone.
pub fn xdp_of(pid: u32) -> Result<Option<ProgramInfo>> {
    Ok(programs(pid)?.into_iter().find(|info| info.name_as_str() == Some(PROGRAMS[0])))
}

/// Where a server's CPU time is read.
#[derive(Debug)]
enum Source {
    Process(ClockId),
    Group(PathBuf),
}

/// What a server is made of.
#[derive(Debug)]
pub struct Meter {
    source: Option<Source>,
    programs: HashSet<u32>,
    _stats: OwnedFd,
}

/// How much was spent: up to now, or in between.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// The server's process, or its group.
    pub process: Duration,
    /// Its programs in the kernel.
    pub programs: Duration,
    /// How often each of them ran, XDP and TC.
    pub runs: [u64; 2],
    /// The generator's process.
    pub generator: Duration,
    /// The whole machine.
    pub all: Duration,
}

impl Spent {
    /// What was spent since an earlier reading.
    pub fn since(&self, before: &Self) -> Self {
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
    pub fn server(&self) -> Duration {
        self.process + self.programs
    }

    /// By all but the generator.
    pub fn machine(&self) -> Duration {
        self.all.saturating_sub(self.generator)
    }

    /// One run of a program.
    pub fn nanoseconds_per_run(&self) -> f64 {
        self.programs.as_nanos() as f64 / self.runs.iter().sum::<u64>().max(1) as f64
    }
}

impl Meter {
    /// Measures a process and its programs.
    ///
    /// # Errors
    /// When there is no such process, or the kernel takes no statistics of programs.
    pub fn new(pid: u32) -> Result<Self> {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed()))?;
        Self::of(Some(Source::Process(clock)), ids(&programs(pid)?))
    }

    /// Measures the group of a process and that process's programs.
    ///
    /// # Errors
    /// As for [`Meter::new`].
    pub fn of_group(pid: u32, group: &Group) -> Result<Self> {
        Self::of(Some(Source::Group(group.stat())), ids(&programs(pid)?))
    }

    /// Measures the machine only.
    ///
    /// # Errors
    /// When the kernel takes no statistics of programs.
    pub fn of_machine() -> Result<Self> {
        Self::of(None, HashSet::new())
    }

    fn of(source: Option<Source>, programs: HashSet<u32>) -> Result<Self> {
        let stats = enable_stats(Stats::RunTime).context("enable the run time statistics of BPF programs")?;
        Ok(Self { source, programs, _stats: stats })
    }

    /// What was spent up to now.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn read(&self) -> Result<Spent> {
        let mut spent = Spent {
            generator: clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into(),
            all: busy()?,
            ..Spent::default()
        };
        match &self.source {
            Some(Source::Process(clock)) => spent.process = clock.now()?.into(),
            Some(Source::Group(stat)) => spent.process = used(stat)?,
            None => {}
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
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).filter_map(|word| word.parse::<u64>().ok()).collect();
    // user, nice, system, (idle, iowait,) irq, softirq
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum();
    Ok(Duration::from_millis(busy * 10))
}

/// A process's resident memory in bytes.
///
/// # Errors
/// When it is gone.
pub fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// The kernel memory of the tables that a process has open, in bytes, and that of the largest one.
///
/// # Errors
/// When it is gone.
pub fn tables(pid: u32) -> Result<(u64, u64)> {
    let mut tables = HashMap::new();
    for (id, text) in numbers(pid, "map_id:")? {
        if let Some(bytes) = number(&text, "memlock:") {
            tables.insert(id, bytes);
        }
    }
    Ok((tables.values().sum(), tables.values().copied().max().unwrap_or(0)))
}

/// What a process has open that has a number of this kind, with everything that is said of it.
fn numbers(pid: u32, key: &str) -> Result<HashMap<u32, String>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo"))?.filter_map(Result::ok);
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    Ok(texts.filter_map(|text| Some((u32::try_from(number(&text, key)?).ok()?, text))).collect())
}

fn number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok()
}
