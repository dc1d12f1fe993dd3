//! xpxe with many known machines: what one more costs in time and memory.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::cable::Cable;
use super::compare::{Figures, once};
use super::generator::{Pace, Plan, Work};
use super::meter::{self, Meter, programs};
use super::server::{Kind, Place, Server};

const SECOND: Duration = Duration::from_secs(1);
const START: Duration = Duration::from_secs(60);

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
}

impl Size {
    /// For programs.
    pub(crate) fn json(&self) -> Value {
        match &self.result {
            Err(error) => json!({ "machines": self.machines, "error": format!("{error:#}") }),
            Ok(measured) => json!({
                "machines": self.machines, "start_seconds": measured.start.as_secs_f64(),
                "resident_bytes": measured.resident, "table_bytes": measured.tables,
                "discover": measured.discover.json(),
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
    let mut cable = Cable::new()?;
    let before = programs();
    let server = Server::start(Kind::Xpxe, &mut cable, place, machines, START)?;
    let meter = Meter::new(Some(server.pid()), &before)?;
    let discover = Plan {
        work: Work::Discover,
        pace: Pace::Window(64),
        machines: 0..machines,
        once: false,
        during: SECOND,
        patience: &[SECOND],
        at_most: 3 * SECOND,
    };
    let discover = once(&mut cable, &meter, &discover)?;
    let (resident, (tables, _)) = (meter::resident(server.pid())?, meter::tables(server.pid())?);
    let start = server.start;
    server.stop()?;
    fs::remove_dir_all(&place.dir)?;
    Ok(Measured { start, resident, tables, discover })
}
