//! First boots by how many machines are at it at once, of machines that each server knows, and of machines that it has a
//! pool for. Every run has a fresh server: none has a lease of anybody.

use boot_bench::place::Place;
use serde_json::{Value, json};

use std::time::Duration;

use anyhow::Result;

use super::compare::{Figures, first, once, with};
use super::generator::Pace;
use super::server::Kind;
use super::settings::Clients;

/// With one machine at a time no more take part: the time of one is measured, not how many it can be.
const FEW: u32 = 1000;

/// What is measured of each server.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    /// Machines at once.
    pub(crate) windows: Vec<usize>,
    /// Machines in all.
    pub(crate) machines: u32,
    /// Machines that begin within one second, if that is measured.
    pub(crate) storm: Option<u32>,
    /// How often; the median counts.
    pub(crate) runs: usize,
}

/// A server's figures for a window, or for a storm.
pub(crate) struct Boots {
    kind: Kind,
    clients: Clients,
    pace: Pace,
    /// By what is compared, best last.
    runs: Vec<Figures>,
}

impl Boots {
    fn median(&self) -> &Figures {
        &self.runs[self.runs.len() / 2]
    }

    fn pace(&self) -> String {
        match self.pace {
            Pace::Window(window) => format!("{window} at once"),
            Pace::PerSecond(rate) => format!("{rate} in 1 s"),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        self.clients == other.clients && self.pace() == other.pace()
    }

    fn cost(&self) -> f64 {
        let median = self.median();
        median.cost(median.spent.server()) * 1000.0
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let runs: Vec<Value> = self.runs.iter().map(Figures::json).collect();
        json!({
            "server": self.kind.name(), "machines": self.clients.name(), "pace": self.pace(),
            "median": self.median().json(), "runs": runs,
        })
    }
}

/// Measures a server.
pub(crate) fn boots(kind: Kind, place: &Place, extent: &Extent) -> Result<Vec<Boots>> {
    let mut all = Vec::new();
    for clients in [Clients::Known, Clients::Pool] {
        if clients == Clients::Pool && !kind.has_pool() {
            continue;
        }
        let windows = extent.windows.iter().map(|window| {
            let machines = if *window == 1 { extent.machines.min(FEW) } else { extent.machines };
            (machines, Pace::Window(*window))
        });
        let storm = extent.storm.map(|storm| (storm, Pace::PerSecond(storm)));
        for (machines, pace) in windows.chain(storm) {
            eprintln!("{}, {} machines, {}, {pace:?}", kind.name(), machines, clients.name());
            let run = |run| {
                // xpxe adopts what an earlier one has pinned in the same place.
                let place = place.join(&format!("{}-{pace:?}-{run}", clients.name()));
                with(kind, &place, machines, clients, |lane, meter, _| {
                    once(lane, meter, &first(machines, pace))
                })
            };
            let mut runs = (0..extent.runs).map(run).collect::<Result<Vec<_>>>()?;
            match pace {
                Pace::Window(_) => runs.sort_by(|a, b| a.rate.total_cmp(&b.rate)),
                Pace::PerSecond(_) => runs.sort_by_key(|run| std::cmp::Reverse(run.p99)),
            }
            all.push(Boots { kind, clients, pace, runs });
        }
    }
    Ok(all)
}

/// The comparison for people.
pub(crate) fn print(all: &[Boots]) {
    println!(
        "\nFirst boots: DISCOVER, OFFER, REQUEST, ACK, of a server without leases; every server but FreeRADIUS writes every lease\n\
         {:<20} {:>8} {:>14} {:>8} {:>8} {:>8} {:>8} {:>7} {:>6} {:>14}",
        "server", "machines", "", "a second", "p50 ms", "p99 ms", "CPU", "tries", "bad", "x Kea, its CPU"
    );
    for boots in all {
        let median = boots.median();
        let kea = all.iter().find(|other| other.kind == Kind::Kea && other.is_like(boots));
        let ratio = kea.map_or_else(String::new, |kea| {
            format!("{:.2}, {:.1}", median.rate / kea.median().rate, kea.cost() / boots.cost())
        });
        let bad: u64 = boots.runs.iter().map(bad).sum();
        println!(
            "{:<20} {:>8} {:>14} {:>8.0} {:>8.3} {:>8.2} {:>8.2} {:>6.1}% {:>6} {:>14}",
            boots.kind.name(),
            boots.clients.name(),
            boots.pace(),
            median.rate,
            milliseconds(median.p50),
            milliseconds(median.p99),
            boots.cost(),
            median.outcome.share_at_first_try() * 100.0,
            bad,
            ratio,
        );
    }
    println!(
        "CPU          ms per 1,000 exchanges: the server's processes and xpxe's programs; without NAPI and the driver\n\
         tries        machines that needed no second packet\n\
         bad          of all runs: lost, refused, an address given twice or other than offered, no boot file"
    );
}

fn bad(figures: &Figures) -> u64 {
    let outcome = &figures.outcome;
    outcome.errors() + outcome.naks + outcome.duplicates
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
