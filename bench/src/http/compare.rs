//! The servers through all measures, in turn: a disturbance meets all of them alike.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_bench::meter::{Meter, Spent};
use boot_bench::place::Place;
use boot_tests::netns::Namespace;
use serde_json::{Value, json};

use super::lane::{clients_of, pin_generator};
use super::load::{self, Outcome, Plan, Reuse};
use super::server::{FILE, Kind, Role, SCRIPT, Server};

const GIB: f64 = (1u64 << 30) as f64;

/// What is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    File,
    Script,
}

/// One measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) what: What,
    pub(crate) connections: u32,
    pub(crate) reuse: Reuse,
    pub(crate) during: Duration,
}

/// A run's figures.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) outcome: Outcome,
    pub(crate) spent: Spent,
    /// The server's bytes at the end.
    pub(crate) memory: u64,
}

impl Figures {
    /// Bytes a second.
    pub(crate) fn bytes(&self) -> f64 {
        self.outcome.bytes as f64 / self.outcome.measured.as_secs_f64()
    }

    /// Whole answers a second.
    pub(crate) fn answers(&self) -> f64 {
        self.outcome.answers as f64 / self.outcome.measured.as_secs_f64()
    }

    /// The server's CPU seconds per GiB.
    pub(crate) fn per_gib(&self) -> f64 {
        self.spent.process.as_secs_f64() * GIB / self.outcome.bytes.max(1) as f64
    }

    /// The server's CPU seconds per 1,000 answers.
    pub(crate) fn per_thousand(&self) -> f64 {
        self.spent.process.as_secs_f64() * 1000.0 / self.outcome.answers.max(1) as f64
    }

    /// What 99 % of the first bytes took at most, in seconds.
    pub(crate) fn first_byte(&self) -> f64 {
        self.outcome.first_byte(0.99).as_secs_f64()
    }
}

/// A server's figures of one measure, of all runs.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) case: Case,
    pub(crate) runs: Vec<Figures>,
}

impl Row {
    /// The median of a figure.
    pub(crate) fn median(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        let mut all: Vec<f64> = self.runs.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    }

    /// Answers that failed, of all runs.
    pub(crate) fn failed(&self) -> u64 {
        self.runs.iter().map(|run| run.outcome.failed).sum()
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let Case { what, connections, reuse, .. } = self.case;
        let runs: Vec<Value> = self.runs.iter().map(|run| json!({
            "bytes_per_second": run.bytes(), "answers_per_second": run.answers(), "cpu_seconds_per_gib": run.per_gib(),
            "cpu_seconds_per_thousand": run.per_thousand(), "first_byte_p50_seconds": run.outcome.first_byte(0.5).as_secs_f64(),
            "first_byte_p99_seconds": run.first_byte(), "memory_bytes": run.memory, "failed": run.outcome.failed,
            "generator_seconds": run.spent.generator.as_secs_f64(), "measured_seconds": run.outcome.measured.as_secs_f64(),
        })).collect();
        json!({
            "server": self.kind.name(), "of": if what == What::File { "file" } else { "script" },
            "connections": connections, "keep_alive": reuse == Reuse::KeepAlive, "runs": runs,
        })
    }
}

struct Running {
    kind: Kind,
    server: Server,
    meter: Meter,
    clients: Namespace,
    _namespace: Namespace,
}

/// Measures all servers, each in a namespace of its own, in all cases.
pub(crate) fn all(
    kinds: &[Kind],
    place: &Place,
    content: &[u8],
    cases: &[Case],
    runs: usize,
) -> Result<Vec<Row>> {
    let mut servers = Vec::new();
    for kind in kinds {
        let namespace = Namespace::new("server")?;
        let clients = clients_of(&namespace)?;
        let place = place.join(kind.name());
        fs::create_dir_all(&place.dir)?;
        let server = Server::start(*kind, (&namespace, &clients), &place, content, Role::HttpOnly)?;
        let meter = server.meter()?;
        servers.push(Running { kind: *kind, server, meter, clients, _namespace: namespace });
    }
    let mut rows = Vec::new();
    for case in cases {
        let first = rows.len();
        rows.extend(kinds.iter().map(|kind| Row { kind: *kind, case: *case, runs: Vec::new() }));
        for run in 0..runs {
            for (at, running) in servers.iter().enumerate() {
                eprintln!(
                    "{} {:?} {} connections, run {run}",
                    running.kind.name(),
                    case.what,
                    case.connections
                );
                let figures = running.measure(case).with_context(|| running.kind.name())?;
                if let Some(row) = rows.get_mut(first + at) {
                    row.runs.push(figures);
                }
            }
        }
    }
    Ok(rows)
}

impl Running {
    fn measure(&self, case: &Case) -> Result<Figures> {
        let path = if case.what == What::File { FILE } else { SCRIPT }.to_owned();
        let plan = Plan { path, connections: case.connections, reuse: case.reuse, during: case.during };
        let before = self.meter.read()?;
        let outcome = self.clients.run(|| {
            pin_generator()?;
            load::run(&plan)
        })??;
        let spent = self.meter.read()?.since(&before);
        ensure!(outcome.bytes > 0, "nobody was served");
        Ok(Figures { outcome, spent, memory: self.server.memory()? })
    }
}
