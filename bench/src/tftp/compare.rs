//! One server through all measures.

use std::fs;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_bench::cable::Cable;
use boot_bench::meter::{Meter, Spent, xdp_of};
use boot_bench::place::Place;
use serde_json::{Value, json};

use super::alone::{self, Alone};
use super::clients::{Clients, Way};
use super::kernel::InKernel;
use super::outcome::Outcome;
use super::server::{Kind, Server};

/// How often each number of clients is measured; the median counts.
const RUNS: usize = 3;
const START: Duration = Duration::from_secs(30);
const GIB: f64 = (1u64 << 30) as f64;

/// A run's figures.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) outcome: Outcome,
    pub(crate) spent: Spent,
}

impl Figures {
    /// Blocks a second: round trips.
    pub(crate) fn blocks(&self) -> f64 {
        self.outcome.blocks as f64 / self.outcome.measured.as_secs_f64().max(1e-9)
    }

    /// Bytes a second.
    pub(crate) fn bytes(&self) -> f64 {
        self.outcome.bytes as f64 / self.outcome.measured.as_secs_f64().max(1e-9)
    }

    /// What this share of the blocks took at most, in microseconds; clients in the kernel have no clock.
    pub(crate) fn micros(&self, share: f64) -> Option<f64> {
        Some(self.outcome.latencies.quantile(share)?.as_nanos() as f64 / 1000.0)
    }

    /// CPU seconds per GiB.
    pub(crate) fn cost(&self, spent: Duration) -> f64 {
        spent.as_secs_f64() * GIB / self.outcome.bytes.max(1) as f64
    }
}

/// A server with so many clients.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) server: &'static str,
    pub(crate) kind: Option<Kind>,
    pub(crate) in_kernel: bool,
    pub(crate) clients: u32,
    pub(crate) figures: Figures,
    /// How the server ended under the load.
    pub(crate) ended: Option<ExitStatus>,
}

impl Row {
    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let Figures { outcome, spent } = &self.figures;
        json!({
            "server": self.server, "clients": self.clients, "clients_in_kernel": self.in_kernel,
            "blocks_per_second": self.figures.blocks(), "bytes_per_second": self.figures.bytes(),
            "p50_microseconds": self.figures.micros(0.5), "p99_microseconds": self.figures.micros(0.99),
            "cpu_seconds_per_gib": {
                "server": self.figures.cost(spent.server()), "process": self.figures.cost(spent.process),
                "programs": self.figures.cost(spent.programs), "machine": self.figures.cost(spent.machine()),
                "all": self.figures.cost(spent.all),
            },
            "blocks": outcome.blocks, "bytes": outcome.bytes, "files": outcome.files, "compared": outcome.compared,
            "lost": outcome.lost, "late": outcome.late, "repeated": outcome.repeated, "failed": outcome.failed,
            "stray": outcome.stray, "starved": outcome.starved, "ended": self.ended.map(|status| status.to_string()),
            "program_runs": { "xdp": spent.runs[0], "tc": spent.runs[1] },
            "nanoseconds_per_program_run": spent.nanoseconds_per_run(),
        })
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// How many clients at once.
    pub(crate) clients: u32,
    /// All runs together.
    pub(crate) during: Duration,
}

/// A fresh server with clients on sockets.
pub(crate) fn on_sockets(kind: Kind, place: &Place, file: &Arc<[u8]>, extent: Extent) -> Result<Row> {
    let cable = Cable::new()?;
    let _pass = cable.pass()?;
    let mut clients = Clients::open(&cable, file, Way::Sockets)?;
    with(kind, &cable, &mut clients, place, file, extent)
}

/// A fresh server with clients in the kernel.
pub(crate) fn in_kernel(kind: Kind, place: &Place, file: &Arc<[u8]>, extent: Extent) -> Result<Row> {
    let cable = Cable::new()?;
    // Without any XDP program there, what the clients send would wait in the cable for ever.
    let _pass = (kind != Kind::Xpxe).then(|| cable.pass_to_server()).transpose()?;
    let way = Way::Kernel(Box::new(InKernel::attach(&cable, file)?));
    let mut clients = Clients::open(&cable, file, way)?;
    Ok(Row { in_kernel: true, ..with(kind, &cable, &mut clients, place, file, extent)? })
}

/// What the generator and the cable can do: DATA packets there and back.
pub(crate) fn reflector(file: &Arc<[u8]>, extent: Extent) -> Result<Row> {
    let cable = Cable::new()?;
    let (_pass, _reflector) = (cable.pass()?, cable.reflector()?);
    let mut clients = Clients::open(&cable, file, Way::Reflected)?;
    let meter = Meter::of_machine()?;
    let figures = cable.clients.run(|| median(&mut clients, &meter, extent))??;
    let server = "(none: reflector)";
    Ok(Row { server, kind: None, in_kernel: false, clients: extent.clients, figures, ended: None })
}

/// xpxe's XDP without a cable.
pub(crate) fn alone(place: &Place, file: &Arc<[u8]>) -> Result<Alone> {
    let cable = Cable::new()?;
    let _pass = cable.pass()?;
    let mut clients = Clients::open(&cable, file, Way::Sockets)?;
    let server = start(Kind::Xpxe, &cable, &mut clients, place, file, 1)?;
    let program = xdp_of(server.pid())?.context("xpxe has no XDP program")?;
    let line = cable.clients.run(|| clients.open_one(START))??;
    let alone = alone::measure(&cable, &program, line, file);
    clients.stop()?;
    drop(server);
    fs::remove_dir_all(&place.dir)?;
    alone
}

/// Measures a server, which is started and ended for that.
fn with(
    kind: Kind,
    cable: &Cable,
    clients: &mut Clients,
    place: &Place,
    file: &[u8],
    extent: Extent,
) -> Result<Row> {
    let mut server = start(kind, cable, clients, place, file, extent.clients)?;
    let meter = server.meter()?;
    // The clients in the kernel are driven from their namespace.
    let figures = cable.clients.run(|| median(clients, &meter, extent))?.with_context(|| kind.name())?;
    let ended = server.ended()?;
    drop(server);
    fs::remove_dir_all(&place.dir)?;
    // Of others it is a result: atftpd, for one, ends when there are too many.
    let served = figures.outcome.blocks > 0 && ended.is_none();
    ensure!(served || !kind.is_xpxe(), "{} served nobody, or ended: {ended:?}", kind.name());
    Ok(Row {
        server: kind.name(),
        kind: Some(kind),
        in_kernel: false,
        clients: extent.clients,
        figures,
        ended,
    })
}

/// Starts a server of a file for so many clients.
fn start(
    kind: Kind,
    cable: &Cable,
    clients: &mut Clients,
    place: &Place,
    file: &[u8],
    number: u32,
) -> Result<Server> {
    let dir = &place.dir;
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    cable.introduce(number, &dir.join("neighbours"))?;
    Server::start(kind, cable, clients, place, file, START)
}

/// Who is not served after the start is left behind, and counted.
fn median(clients: &mut Clients, meter: &Meter, extent: Extent) -> Result<Figures> {
    clients.begin(extent.clients, START)?;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let before = meter.read()?;
        let outcome = clients.run(extent.during / RUNS as u32)?;
        runs.push(Figures { outcome, spent: meter.read()?.since(&before) });
    }
    clients.stop()?;
    runs.sort_by(|a, b| a.bytes().total_cmp(&b.bytes()));
    Ok(runs.swap_remove(RUNS / 2))
}
