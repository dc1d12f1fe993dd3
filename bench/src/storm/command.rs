//! A boot storm against xpxe and against other DHCP servers, in one run on one machine.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use boot_bench::machine::Machine;
use boot_bench::place::Place;
use boot_tests::sandbox::Sandbox;

use super::boots;
use super::compare::{self, Extent};
use super::report;
use super::scale;
use super::server::Kind;

/// Boot storms against DHCP servers, side by side.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many machines a server knows, for the loops; none for no loops
    #[arg(long, value_delimiter = ',', num_args = 0.., default_values_t = [1000, 5000])]
    machines: Vec<u32>,
    /// First boots with so many machines at once; none for none
    #[arg(long, value_delimiter = ',', num_args = 0.., default_values_t = [1, 8, 20, 100])]
    windows: Vec<usize>,
    /// How many machines boot first, in each of those
    #[arg(long, default_value_t = 5000)]
    boots: u32,
    /// How often first boots are measured; the median counts
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How long each loop is measured, all its runs together
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Which servers
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Xpxe, Kind::XpxeOff, Kind::Dnsmasq, Kind::Kea, Kind::Dhcpd, Kind::Freeradius])]
    servers: Vec<Kind>,
    /// How many machines begin within one second [default: the largest of --machines, or as many as --boots]
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

/// Measures, and prints what was measured.
pub(crate) fn run(args: &Args) -> Result<()> {
    let versions =
        args.servers.iter().map(|kind| Ok((kind.name(), kind.version()?))).collect::<Result<_>>()?;
    let largest = args.machines.iter().max().copied();
    let (no_boots, no_storm) = (args.boots == 0 || args.runs == 0, args.storm == Some(0));
    if args.machines.contains(&0) || args.windows.contains(&0) || no_boots || no_storm {
        bail!("there must be machines");
    }
    if !(0.1..=600.0).contains(&args.seconds) {
        bail!("a loop is measured for 0.1 to 600 seconds");
    }
    let sandbox = Sandbox::enter()?;
    let dir = args.state.clone().unwrap_or_else(|| sandbox.dir().to_owned());
    let place = Place { dir, pins: sandbox.pin_dir() };
    let during = Duration::from_secs_f64(args.seconds);
    let machine = Machine::look(versions)?;
    machine.print();

    let extent = boots::Extent {
        windows: args.windows.clone(),
        machines: args.boots,
        storm: Some(args.storm.unwrap_or(args.boots)).filter(|_| !args.windows.is_empty()),
        runs: args.runs,
    };
    let mut first_boots = Vec::new();
    for kind in args.servers.iter().filter(|_| !args.windows.is_empty()) {
        match boots::boots(*kind, &place.join(&format!("{kind:?}-first")), &extent) {
            Ok(figures) => first_boots.extend(figures),
            // The others' figures are worth as much.
            Err(failure) => eprintln!("{}: {failure:#}", kind.name()),
        }
    }
    if !first_boots.is_empty() {
        boots::print(&first_boots);
    }

    let mut rows = Vec::new();
    if let Some(largest) = largest {
        rows.push(compare::reflector(largest, during)?);
    }
    for kind in &args.servers {
        for machines in &args.machines {
            let largest = args.machines.iter().max() == Some(machines);
            let storm = largest.then_some(args.storm.unwrap_or(*machines));
            let place = place.join(&format!("{kind:?}-{machines}"));
            eprintln!("{}, {machines} machines", kind.name());
            rows.push(compare::server(*kind, &place, Extent { machines: *machines, storm, during })?);
            // Empty by now: each measurement removes what is its own.
            fs::remove_dir(&place.dir)?;
        }
    }
    if !rows.is_empty() {
        report::print(&rows);
    }

    let mut sizes = Vec::new();
    for machines in args.scale.iter().filter(|machines| **machines > 0) {
        eprintln!("xpxe, {machines} machines");
        sizes.push(scale::size(&place.join(&format!("scale-{machines}")), *machines));
    }
    if !sizes.is_empty() {
        report::print_sizes(&sizes);
    }
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report::json(&machine, &rows, &first_boots, &sizes))?;
        fs::write(file, text + "\n").with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}
