//! A row powers on: all machines begin within one second; some of them fetch a boot file by TFTP and a kernel's worth of
//! bytes over HTTP as soon as they have their address, the others ask for an address only.
//!
//! | file | gives |
//! | --- | --- |
//! | [`machine`] | what a machine does once it has its address |
//! | [`servers`] | xpxe alone, and Kea, tftpd-hpa and nginx together |
//! | [`ground`] | the cables, and the addresses at their ends |
//! | [`outcome`] | what became of the machines, and the table |

mod ground;
mod machine;
mod outcome;
mod servers;

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use boot_bench::content::content;
use boot_bench::machine::Machine;
use boot_bench::place::Place;
use boot_tests::sandbox::Sandbox;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::mpsc;

use crate::http::beside::prefer_this_thread;
use crate::http::lane::pin_generator;
use crate::storm::generator::{Pace, Plan, Work};
use ground::Ground;
use outcome::Outcome;
use servers::{Files, Set};

/// EDK2's windows: who gets nothing in the first was not answered at the first try.
const EDK2: [Duration; 3] = [Duration::from_secs(4), Duration::from_secs(8), Duration::from_secs(16)];
const BOOT_FILE: usize = 256 << 10;

/// A row of machines that power on at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many machines boot
    #[arg(long, default_value_t = 2000)]
    machines: u32,
    /// How many more ask for an address only
    #[arg(long, default_value_t = 20_000)]
    others: u32,
    /// MiB that each fetches over HTTP
    #[arg(long, default_value_t = 20)]
    size: usize,
    /// How often; the run in the middle by when the last machine was done counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Which servers
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Set::Xpxe, Set::Others])]
    servers: Vec<Set>,
    /// Seconds after which a run ends
    #[arg(long, default_value_t = 300)]
    at_most: u64,
    /// Where servers keep files and leases [default: a tmpfs]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Measures, and prints what was measured.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !(1..=8000).contains(&args.machines) || args.others > 100_000 || args.runs == 0 || args.size == 0 {
        bail!("there must be 1 to 8,000 machines that boot, up to 100,000 others, a run, and a MiB to fetch");
    }
    // Each machine that boots has a socket, and the server one for it.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raise the limit of open files")?;
    let sandbox = Sandbox::enter()?;
    let dir = args.state.clone().unwrap_or_else(|| sandbox.dir().to_owned());
    let place = Place { dir, pins: sandbox.pin_dir() };
    let mut versions = Vec::new();
    for set in &args.servers {
        versions.extend(set.versions()?);
    }
    Machine::look(versions)?.print();
    crate::http::lane::print_cores();
    let files = Files { boot_file: content(BOOT_FILE).into(), image: content(args.size << 20).into() };
    let mut medians = Vec::new();
    for set in &args.servers {
        let mut runs = Vec::new();
        for number in 0..args.runs {
            eprintln!("{}, run {}", set.name(), number + 1);
            let place = place.join(&format!("{set:?}-{number}"));
            runs.push(power_on(*set, &place, &files, args)?);
        }
        runs.sort_by_key(Outcome::last);
        medians.push((*set, runs.swap_remove(runs.len() / 2)));
    }
    outcome::print(args.machines, args.others, args.size, &medians);
    Ok(())
}

fn power_on(set: Set, place: &Place, files: &Files, args: &Args) -> Result<Outcome> {
    let mut ground = Ground::new(args.machines, &place.dir)?;
    let all = args.machines + args.others;
    let servers = servers::start(set, &mut ground, place, files, all)?;
    let meter = servers.meter()?;
    let (told, mut up) = mpsc::unbounded_channel();
    let Ground { lane, downloads, .. } = &mut ground;
    lane.generator.tell(Some(told));
    let at_most = Duration::from_secs(args.at_most);
    let plan = Plan {
        work: Work::Exchange,
        pace: Pace::PerSecond(all),
        machines: 0..all,
        once: true,
        during: Duration::from_secs(5),
        patience: &EDK2,
        at_most: Duration::from_secs(30).min(at_most),
    };
    let tftp = &lane.cable.clients;
    let before = meter.read()?;
    let started = Instant::now();
    let (exchanges, machines) = std::thread::scope(|scope| -> Result<_> {
        let boots = scope.spawn(|| {
            pin_generator()?;
            machine::boot_all(&mut up, tftp, downloads, (args.machines, started + at_most), files)
        });
        let exchanges = scope.spawn(|| {
            pin_generator()?;
            // Machines are cores of their own: one that downloads keeps none from asking.
            prefer_this_thread()?;
            let outcome = lane.generator.run(&plan);
            // Nobody comes any more.
            lane.generator.tell(None);
            anyhow::Ok(outcome)
        });
        Ok((
            exchanges.join().unwrap_or_else(|panic| resume_unwind(panic))?,
            boots.join().unwrap_or_else(|panic| resume_unwind(panic))?,
        ))
    })?;
    let spent = meter.read()?.since(&before);
    ensure!(exchanges.begun == u64::from(all), "only {} of {all} machines began", exchanges.begun);
    let memory = servers.peak_memory()?;
    Ok(Outcome { exchanges, machines, spent, memory, started })
}
