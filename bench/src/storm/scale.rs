//! xpxe with many known machines: what one more costs in time and memory.
//!
//! Every machine has a lease, so that an exchange of each is the same work: with a lease it is the kernel half's, and
//! the first one is the daemon's and the disk's.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use boot_bench::meter::{self, Meter};
use boot_bench::place::Place;
use boot_common::Mac;
use boot_userspace::host::clock;
use boot_userspace::store::{Change, Lease, LeaseState, Store};
use serde_json::{Value, json};

use super::compare::{Figures, once, reflector};
use super::generator::{Pace, Plan, Work};
use super::lane::Lane;
use super::server::{Kind, Server};
use super::settings::Clients;
use boot_bench::frame::{address, mac};

const SECOND: Duration = Duration::from_secs(1);
const START: Duration = Duration::from_secs(120);
const DAY: i64 = 86_400;
/// How often the exchanges are measured; the median counts.
const RUNS: usize = 5;

/// xpxe with this many machines.
pub(crate) struct Size {
    pub(crate) machines: u32,
    pub(crate) result: Result<Measured>,
}

/// What it needed.
pub(crate) struct Measured {
    /// From its start to its first answer.
    pub(crate) start: Duration,
    /// The daemon's resident bytes.
    pub(crate) resident: u64,
    /// The kernel's tables' bytes.
    pub(crate) tables: u64,
    /// DISCOVERs of all machines, far apart from each other.
    pub(crate) discover: Figures,
    /// DISCOVER, OFFER, REQUEST, ACK, likewise.
    pub(crate) exchange: Figures,
    /// The same frames there and back without a server: what generator and cable take of it.
    pub(crate) cable: Figures,
}

impl Measured {
    /// CPU seconds of an exchange: the generator's process, in whose system calls the programs run, and the daemon's.
    /// What others do on the machine is not in it.
    fn exchange(&self) -> f64 {
        let Figures { outcome, spent, .. } = &self.exchange;
        (spent.generator + spent.process).as_secs_f64() / outcome.done.max(1) as f64
    }

    /// Of that, what generator and cable take.
    fn cable(&self) -> f64 {
        self.cable.spent.generator.as_secs_f64() / self.cable.outcome.done.max(1) as f64
    }
}

impl Size {
    /// For programs.
    pub(crate) fn json(&self) -> Value {
        match &self.result {
            Err(error) => json!({ "machines": self.machines, "error": format!("{error:#}") }),
            Ok(measured) => json!({
                "machines": self.machines, "start_seconds": measured.start.as_secs_f64(),
                "resident_bytes": measured.resident, "table_bytes": measured.tables,
                "discover": measured.discover.json(), "exchange": measured.exchange.json(),
                "exchange_cpu_seconds": measured.exchange(), "cable_cpu_seconds": measured.cable(),
                "nanoseconds_per_program_run": measured.discover.spent.nanoseconds_per_run(),
            }),
        }
    }
}

/// Measures one size.
pub(crate) fn size(place: &Place, machines: u32) -> Size {
    Size { machines, result: measure(place, machines) }
}

fn measure(place: &Place, machines: u32) -> Result<Measured> {
    // First: the programs of the servers stay for as long as their cable.
    let cable_alone = reflector(machines, RUNS as u32 * SECOND / 2)?.exchange;
    let mut lane = Lane::new()?;
    lease(&place.dir.join("state"), machines)?;
    let server = Server::start(Kind::Xpxe, &mut lane, place, machines, Clients::Known, START)?;
    let meter = Meter::new(server.pid())?;
    let plan = |work| Plan {
        work,
        pace: Pace::Window(64),
        machines: 0..machines,
        once: false,
        during: SECOND,
        patience: &[SECOND],
        at_most: 3 * SECOND,
    };
    let discover = once(&mut lane, &meter, &plan(Work::Discover))?;
    let mut exchanges =
        (0..RUNS).map(|_| once(&mut lane, &meter, &plan(Work::Exchange))).collect::<Result<Vec<_>>>()?;
    exchanges.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    let exchange = exchanges.swap_remove(RUNS / 2);
    let (resident, (tables, _)) = (meter::resident(server.pid())?, meter::tables(server.pid())?);
    let start = server.start;
    server.stop()?;
    fs::remove_dir_all(&place.dir)?;
    Ok(Measured { start, resident, tables, discover, exchange, cable: cable_alone })
}

/// Gives every machine the lease that an earlier boot would have left.
fn lease(state_dir: &Path, machines: u32) -> Result<()> {
    let now = i64::try_from(clock::wall().as_secs())?;
    let subnet = "10.0.0.0/8".parse().context("the subnet of the servers' settings")?;
    let leases = |range: std::ops::Range<u32>| -> Vec<Change> {
        let lease = |machine| Lease {
            mac: Mac(mac(machine)),
            address: address(machine),
            subnet,
            state: LeaseState::Leased,
            expires: now + DAY,
            hostname: None,
            recognised_by: None,
            updated: now,
        };
        range.map(|machine| Change::Put(lease(machine))).collect()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(state_dir).await?;
        for first in (0..machines).step_by(100_000) {
            store.commit(&leases(first..machines.min(first + 100_000))).await?;
        }
        store.close().await;
        Ok(())
    })
}

/// What an exchange costs by known machines, for people.
pub(crate) fn print_exchanges(sizes: &[Size]) {
    println!(
        "\nExchanges by known machines, each with a lease, all machines in turn: DISCOVER, OFFER, REQUEST, ACK\n\
         {:>9} {:>9} {:>10} {:>10} {:>9} {:>9} {:>10} {:>11} {:>5}",
        "machines",
        "a second",
        "ns per run",
        "daemon ns",
        "all ns",
        "cable ns",
        "x smallest",
        "less cable",
        "bad"
    );
    let measured = || sizes.iter().filter_map(|size| Some((size.machines, size.result.as_ref().ok()?)));
    let Some((_, smallest)) = measured().next() else { return };
    for (machines, size) in measured() {
        let Figures { outcome, spent, rate, .. } = &size.exchange;
        let net = |size: &Measured| size.exchange() - size.cable();
        println!(
            "{machines:>9} {rate:>9.0} {:>10.0} {:>10.0} {:>9.0} {:>9.0} {:>10.2} {:>11.2} {:>5}",
            spent.nanoseconds_per_run(),
            size.exchange.cost(spent.process) * 1e6,
            size.exchange() * 1e9,
            size.cable() * 1e9,
            size.exchange() / smallest.exchange(),
            net(size) / net(smallest),
            outcome.errors() + outcome.naks + outcome.duplicates,
        );
    }
    println!(
        "all ns       CPU of an exchange: the generator's process, in whose system calls the programs run, and the daemon's\n\
         cable ns     the part of the generator and the cable, measured with a reflector and as many machines\n\
         x smallest   all ns by that of the first row; less cable: the same without the cable's part"
    );
}
