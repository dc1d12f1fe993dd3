//! What the figures were measured on.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::meter::Meter;

/// What ran where.
#[derive(Debug)]
pub struct Machine {
    kernel: String,
    cores: usize,
    busy: f64,
    versions: Vec<(&'static str, String)>,
}

impl Machine {
    /// Looks at the machine for half a second; `versions` are what the servers call themselves.
    ///
    /// # Errors
    /// When the kernel does not say what was spent.
    pub fn look(versions: Vec<(&'static str, String)>) -> Result<Self> {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { kernel, cores, busy: busy(cores)?, versions })
    }

    /// For people.
    pub fn print(&self) {
        let Self { kernel, cores, busy, .. } = self;
        println!(
            "kernel {kernel}, {cores} cores shared by server and generator, one veth pair, checksums in software"
        );
        println!("others used {:.0} % of the machine before the first run", busy * 100.0);
        for (name, version) in &self.versions {
            println!("{name}: {version}");
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let versions: serde_json::Map<_, _> =
            self.versions.iter().map(|(name, version)| ((*name).to_owned(), json!(version))).collect();
        json!({ "kernel": self.kernel, "cores": self.cores, "busy_before": self.busy, "versions": versions })
    }
}

/// The share of the machine that others use.
fn busy(cores: usize) -> Result<f64> {
    const LOOK: Duration = Duration::from_millis(500);
    let meter = Meter::of_machine()?;
    let before = meter.read()?;
    sleep(LOOK);
    let spent = meter.read()?.since(&before);
    Ok(spent.machine().as_secs_f64() / (LOOK.as_secs_f64() * cores as f64))
}
