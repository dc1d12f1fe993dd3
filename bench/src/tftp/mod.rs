//! Many clients fetch a file from xpxe and from other TFTP servers, in one run on one machine.
//!
//! | file | gives |
//! | --- | --- |
//! | [`packet`] | what a client sends, and what of an answer is looked at |
//! | [`clients`] | many clients at once, on one thread |
//! | [`kernel`] | clients in the kernel, which cost next to nothing |
//! | [`server`] | the servers, with the settings an operator would write |
//! | [`compare`] | one server through all measures |
//! | [`alone`] | xpxe's XDP without a cable |
//! | [`histogram`] | many durations in little memory |
//! | [`report`] | the tables |

mod alone;
mod clients;
mod compare;
mod histogram;
mod kernel;
mod outcome;
mod packet;
mod report;
pub(crate) mod server;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench_ebpf::{BLOCK, MOST, MOST_BLOCKS};
use boot_bench::content::content;
use boot_bench::machine::Machine;
use boot_bench::place::Place;
use boot_tests::sandbox::Sandbox;

use compare::Extent;
use server::Kind;

const MIB: usize = 1 << 20;

/// TFTP servers under the same load, side by side.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many clients at once
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 512])]
    clients: Vec<u32>,
    /// How many clients in the kernel at once; 0 for none. The cable holds 256 frames
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 200])]
    kernel_clients: Vec<u32>,
    /// How long each number of clients is measured, all its runs together
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Which servers; those that are not here are left out
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Xpxe, Kind::XpxeTc, Kind::XpxeOff, Kind::TftpdHpa, Kind::Dnsmasq, Kind::Atftpd])]
    servers: Vec<Kind>,
    /// The file's MiB for clients on sockets
    #[arg(long, default_value_t = 1)]
    size: usize,
    /// The file's MiB for clients in the kernel
    #[arg(long, default_value_t = 64)]
    kernel_size: usize,
    /// Where servers keep files [default: a tmpfs]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Also write everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures, and prints what was measured.
pub(crate) fn run(args: &Args) -> Result<()> {
    let kernel_clients: Vec<u32> = args.kernel_clients.iter().copied().filter(|number| *number > 0).collect();
    if args.clients.contains(&0) || args.clients.iter().chain(&kernel_clients).any(|number| *number > MOST) {
        bail!("there must be 1 to {MOST} clients");
    }
    let fits = |mib: usize| (1..=(MOST_BLOCKS * BLOCK) as usize / MIB).contains(&mib);
    if !(0.1..=600.0).contains(&args.seconds) || !fits(args.size) || !fits(args.kernel_size) {
        bail!("there must be 0.1 to 600 seconds, and a file's blocks must not be more than their numbers");
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
    println!("a file of {} MiB, blksize {BLOCK}, one block at a time\n", args.size);

    let during = Duration::from_secs_f64(args.seconds);
    let file = content(args.size * MIB).into();
    let mut rows = Vec::new();
    for clients in &args.clients {
        rows.push(compare::reflector(&file, Extent { clients: *clients, during })?);
    }
    for kind in &servers {
        eprintln!("{}", kind.name());
        for clients in &args.clients {
            let place = place.join(&format!("{kind:?}-{clients}"));
            rows.push(compare::on_sockets(*kind, &place, &file, Extent { clients: *clients, during })?);
        }
    }
    let file = content(args.kernel_size * MIB).into();
    for kind in servers.iter().filter(|_| !kernel_clients.is_empty()) {
        eprintln!("{}, clients in the kernel", kind.name());
        for clients in &kernel_clients {
            let place = place.join(&format!("{kind:?}-{clients}-in-kernel"));
            rows.push(compare::in_kernel(*kind, &place, &file, Extent { clients: *clients, during })?);
        }
    }
    report::print(&rows);
    let alone =
        servers.contains(&Kind::Xpxe).then(|| compare::alone(&place.join("alone"), &file)).transpose()?;
    if let Some(alone) = alone {
        report::print_alone(alone);
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report::json(&machine, &rows, alone))?;
        fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
