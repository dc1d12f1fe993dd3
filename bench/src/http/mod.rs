//! Many clients fetch a file and a script from xpxe and from nginx, in one run on one machine, and
//! machines ask for addresses and boot files beside 64 downloads.
//!
//! | file | gives |
//! | --- | --- |
//! | [`load`] | many HTTP clients, on one thread |
//! | [`lane`] | a server's namespace and the clients', connected; who runs on which core |
//! | [`server`] | the servers, with the settings an operator would write |
//! | [`compare`] | the servers through all measures, in turn |
//! | [`beside`] | DHCP and TFTP while 64 downloads run, and while none does |
//! | [`report`] | the tables |

pub(crate) mod beside;
mod compare;
pub(crate) mod lane;
pub(crate) mod load;
mod report;
pub(crate) mod server;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use boot_bench::content::content;
use boot_bench::machine::Machine;
use boot_bench::place::Place;
use boot_tests::sandbox::Sandbox;
use serde_json::json;

use compare::{Case, What};
use load::Reuse;
use server::Kind;

/// HTTP servers under the same load, side by side.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many connections at once
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64, 256])]
    connections: Vec<u32>,
    /// How long each run takes
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// How often each is measured, the servers in turn; the medians count
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Which servers; those that are not here are left out
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Xpxe, Kind::Nginx])]
    servers: Vec<Kind>,
    /// The file's MiB
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// What is measured; `beside`: DHCP and TFTP while 64 downloads run
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Files, Part::Scripts, Part::Beside])]
    parts: Vec<Part>,
    /// Where servers keep files [default: a tmpfs]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Also write everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Files,
    Scripts,
    Beside,
}

/// Measures, and prints what was measured.
pub(crate) fn run(args: &Args) -> Result<()> {
    let known = (1..=2048).contains(&args.size) && (0.1..=600.0).contains(&args.seconds);
    if !known || args.runs == 0 || args.connections.iter().any(|number| !(1..=4000).contains(number)) {
        bail!(
            "there must be 1 to 4,000 connections, 0.1 to 600 seconds, a run, and a file of 1 to 2,048 MiB"
        );
    }
    let (mut servers, mut versions) = (Vec::new(), Vec::new());
    for kind in &args.servers {
        match kind.version()? {
            Some(version) => {
                servers.push(*kind);
                versions.push((kind.name(), version));
            }
            None => eprintln!("{} is not here and left out: {}", kind.name(), kind.remedy()),
        }
    }
    let sandbox = Sandbox::enter()?;
    let dir = args.state.clone().unwrap_or_else(|| sandbox.dir().to_owned());
    let place = Place { dir, pins: sandbox.pin_dir() };
    let machine = Machine::look(versions)?;
    machine.print();
    lane::print_cores();

    let during = Duration::from_secs_f64(args.seconds);
    let mut cases = Vec::new();
    for reuse in [Reuse::KeepAlive, Reuse::PerRequest] {
        for (part, what) in [(Part::Files, What::File), (Part::Scripts, What::Script)] {
            let numbers = args.connections.iter().filter(|_| args.parts.contains(&part));
            cases.extend(numbers.map(|connections| Case { what, connections: *connections, reuse, during }));
        }
    }
    let content = content(args.size << 20);
    let rows = if cases.is_empty() {
        Vec::new()
    } else {
        compare::all(&servers, &place, &content, &cases, args.runs)?
    };
    report::print(&rows);
    let beside = if args.parts.contains(&Part::Beside) {
        beside::measure(&place, &content, args.runs, during)?
    } else {
        Vec::new()
    };
    report::print_beside(&beside);
    if let Some(path) = &args.json {
        let beside: Vec<_> = beside.iter().map(beside::Row::json).collect();
        let rows: Vec<_> = rows.iter().map(compare::Row::json).collect();
        let all = json!({ "machine": machine.json(), "rows": rows, "beside": beside });
        fs::write(path, serde_json::to_string_pretty(&all)? + "\n")
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
