//! One server through all measures.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use boot_bench::meter::{Meter, Spent};
use boot_bench::place::Place;
use serde_json::{Value, json};

use super::generator::{Pace, Plan, Work};
use super::lane::Lane;
use super::outcome::Outcome;
use super::server::{Kind, Server};
use super::settings::Clients;

/// How many clients are at it at once, in the closed loops.
const WINDOW: usize = 64;
/// How often each closed loop runs; the median counts.
const RUNS: usize = 3;
/// EDK2's first windows; a machine that got nothing in them is lost here, for the run is bounded.
const EDK2: [Duration; 3] = [Duration::from_secs(4), Duration::from_secs(8), Duration::from_secs(8)];
const SECOND: Duration = Duration::from_secs(1);
const START: Duration = Duration::from_secs(30);

/// A run's figures.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) rate: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) outcome: Outcome,
    pub(crate) spent: Spent,
}

impl Figures {
    fn of(mut outcome: Outcome, spent: Spent) -> Self {
        let (rate, p50, p99) = (outcome.rate(), outcome.quantile(0.5), outcome.quantile(0.99));
        Self { rate, p50, p99, outcome, spent }
    }

    /// CPU seconds per 1,000 exchanges.
    pub(crate) fn cost(&self, spent: Duration) -> f64 {
        spent.as_secs_f64() * 1000.0 / self.outcome.done.max(1) as f64
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let outcome = &self.outcome;
        json!({
            "per_second": self.rate, "p50_seconds": self.p50.as_secs_f64(), "p99_seconds": self.p99.as_secs_f64(),
            "done": outcome.done, "lost": outcome.lost, "naks": outcome.naks, "duplicates": outcome.duplicates,
            "wrong": outcome.wrong, "damaged": outcome.damaged, "late": outcome.late, "echoes": outcome.echoes, "dropped": outcome.dropped,
            "at_first_try": outcome.share_at_first_try(), "within_1s": outcome.share_within(SECOND),
            "all_done_seconds": outcome.all_done.as_secs_f64(),
            "cpu_per_1000": {
                "server": self.cost(self.spent.server()), "process": self.cost(self.spent.process),
                "programs": self.cost(self.spent.programs), "machine": self.cost(self.spent.machine()),
                "all": self.cost(self.spent.all),
            },
            "program_runs": { "xdp": self.spent.runs[0], "tc": self.spent.runs[1] },
        })
    }
}

/// A server's row.
pub(crate) struct Row {
    pub(crate) server: &'static str,
    pub(crate) kind: Option<Kind>,
    pub(crate) machines: u32,
    pub(crate) start: Duration,
    /// Each machine's first exchange with a server that has no lease of it, as fast as it goes.
    pub(crate) first: Option<Figures>,
    /// The same, all within one second.
    pub(crate) storm: Option<Figures>,
    pub(crate) exchange: Figures,
    pub(crate) renew: Option<Figures>,
}

impl Row {
    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let json = |figures: &Option<Figures>| figures.as_ref().map(Figures::json);
        json!({
            "server": self.server, "machines": self.machines, "start_seconds": self.start.as_secs_f64(),
            "first": json(&self.first), "exchange": self.exchange.json(), "renew": json(&self.renew),
            "storm": json(&self.storm),
        })
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Machines that the server knows.
    pub(crate) machines: u32,
    /// Machines that begin within one second.
    pub(crate) storm: Option<u32>,
    /// All runs of a loop together.
    pub(crate) during: Duration,
}

/// Measures a server. The storm has a fresh one, for it is about machines without a lease too.
pub(crate) fn server(kind: Kind, place: &Place, extent: Extent) -> Result<Row> {
    let Extent { machines, storm, during } = extent;
    let storm = match storm {
        Some(storm) => Some(with(kind, &place.join("storm"), storm, Clients::Known, |lane, meter, _| {
            once(lane, meter, &first(storm, Pace::PerSecond(storm)))
        })?),
        None => None,
    };
    with(kind, &place.join("loops"), machines, Clients::Known, |lane, meter, start| {
        Ok(Row {
            server: kind.name(),
            kind: Some(kind),
            machines,
            start,
            first: Some(once(lane, meter, &first(machines, Pace::Window(WINDOW)))?),
            storm,
            exchange: median(lane, meter, &looped(Work::Exchange, machines, during))?,
            renew: Some(median(lane, meter, &looped(Work::Renew, machines, during))?),
        })
    })
}

/// Starts a server for so many machines, for one measurement.
pub(crate) fn with<T>(
    kind: Kind,
    place: &Place,
    machines: u32,
    clients: Clients,
    measure: impl FnOnce(&mut Lane, &Meter, Duration) -> Result<T>,
) -> Result<T> {
    let mut lane = Lane::new()?;
    let dir = &place.dir;
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    lane.cable.introduce(machines, &dir.join("neighbours"))?;
    let server = Server::start(kind, &mut lane, place, machines, clients, START)?;
    let meter = Meter::new(server.pid())?;
    let measured = measure(&mut lane, &meter, server.start)?;
    server.stop()?;
    fs::remove_dir_all(dir)?;
    Ok(measured)
}

pub(crate) fn first(machines: u32, pace: Pace) -> Plan<'static> {
    Plan {
        work: Work::Exchange,
        pace,
        machines: 0..machines,
        once: true,
        during: 20 * SECOND,
        patience: &EDK2,
        at_most: 20 * SECOND,
    }
}

/// What the generator and the cable can do: two frames there and back instead of an exchange.
pub(crate) fn reflector(machines: u32, during: Duration) -> Result<Row> {
    let mut lane = Lane::new()?;
    let _reflector = lane.cable.reflector()?;
    let meter = Meter::of_machine()?;
    let exchange = median(&mut lane, &meter, &looped(Work::Reflect, machines, during))?;
    Ok(Row {
        server: "(none: reflector)",
        kind: None,
        machines,
        start: Duration::ZERO,
        first: None,
        storm: None,
        exchange,
        renew: None,
    })
}

fn looped(work: Work, machines: u32, during: Duration) -> Plan<'static> {
    let during = during / RUNS as u32;
    Plan {
        work,
        pace: Pace::Window(WINDOW),
        machines: 0..machines,
        once: false,
        during,
        patience: &[SECOND],
        at_most: during + 2 * SECOND,
    }
}

/// One run with what it cost.
pub(crate) fn once(lane: &mut Lane, meter: &Meter, plan: &Plan<'_>) -> Result<Figures> {
    let before = meter.read()?;
    let outcome = lane.generator.run(plan);
    Ok(Figures::of(outcome, meter.read()?.since(&before)))
}

fn median(lane: &mut Lane, meter: &Meter, plan: &Plan<'_>) -> Result<Figures> {
    let mut runs = (0..RUNS).map(|_| once(lane, meter, plan)).collect::<Result<Vec<_>>>()?;
    runs.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    Ok(runs.swap_remove(RUNS / 2))
}
