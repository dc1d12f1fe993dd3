//! `xpxe-bench-dhcp`: a boot storm against xpxe and against other DHCP servers, in one run on one machine.

mod storm;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use boot_bench::machine::Machine;
use boot_bench::place::Place;
use boot_tests::sandbox::Sandbox;
use boot_tests::sys::restore_default_signals;
use clap::Parser;

use storm::compare::{self, Extent};
use storm::report;
use storm::scale;
use storm::server::Kind;

/// Boot storms against DHCP servers, side by side.
#[derive(Debug, Parser)]
struct Args {
    /// How many machines a server knows
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 5000])]
    machines: Vec<u32>,
    /// How long each loop is measured, all its runs together
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Which servers
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Xpxe, Kind::XpxeOff, Kind::Dnsmasq, Kind::Kea])]
    servers: Vec<Kind>,
    /// How many machines begin within one second [default: the largest of --machines]
    #[arg(long)]
    storm: Option<u32>,
    /// With how many known machines xpxe is measured alone; 0 for none
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 100_000, 1_000_000])]
    scale: Vec<u32>,
    /// Where servers keep leases [default: a tmpfs]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Also write everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    restore_default_signals()?;
    let versions =
        args.servers.iter().map(|kind| Ok((kind.name(), kind.version()?))).collect::<Result<_>>()?;
    let largest = *args.machines.iter().max().context("--machines is empty")?;
    if args.machines.contains(&0) || args.storm == Some(0) || !(0.1..=600.0).contains(&args.seconds) {
        bail!("there must be machines, and 0.1 to 600 seconds");
    }
    let sandbox = Sandbox::enter()?;
    let dir = args.state.clone().unwrap_or_else(|| sandbox.dir().to_owned());
    let place = Place { dir, pins: sandbox.pin_dir() };
    let during = Duration::from_secs_f64(args.seconds);
    let machine = Machine::look(versions)?;
    machine.print();

    let mut rows = vec![compare::reflector(largest, during)?];
    for kind in &args.servers {
        for machines in &args.machines {
            let storm = (*machines == largest).then_some(args.storm.unwrap_or(largest));
            let place = place.join(&format!("{kind:?}-{machines}"));
            eprintln!("{}, {machines} machines", kind.name());
            rows.push(compare::server(*kind, &place, Extent { machines: *machines, storm, during })?);
            // Empty by now: each measurement removes what is its own.
            fs::remove_dir(&place.dir)?;
        }
    }
    report::print(&rows);

    let mut sizes = Vec::new();
    for machines in args.scale.iter().filter(|machines| **machines > 0) {
        eprintln!("xpxe, {machines} machines");
        sizes.push(scale::size(&place.join(&format!("scale-{machines}")), *machines));
    }
    if !sizes.is_empty() {
        report::print_sizes(&sizes);
    }
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report::json(&machine, &rows, &sizes))?;
        fs::write(file, text + "\n").with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}
