//! The command line: one file per verb.

pub mod check;
pub mod detach;
mod import;
pub mod leases;
pub mod log;
pub mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Where the configuration is unless `--config` says otherwise.
pub const CONFIG: &str = "/etc/xpxe/xpxe.toml";

/// A network-boot server for racks: PXE DHCP and TFTP on the network card, kernels over HTTP.
#[derive(Debug, Parser)]
#[command(name = "xpxe", version)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serves DHCP, TFTP and HTTP until it is stopped
    Serve(serve::Serve),
    /// Checks a configuration file: every problem at once, with key and line
    Check(ConfigFile),
    /// Removes programs, links and tables from the kernel
    Detach(detach::Detach),
    /// Shows and changes who has which address
    Leases(leases::Leases),
}

/// `--config FILE`
#[derive(Debug, clap::Args)]
pub struct ConfigFile {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub fn run(self) -> Result<ExitCode> {
        match self.verb {
            Verb::Serve(serve) => serve.run(),
            Verb::Check(file) => Ok(check::run(&file.config)),
            Verb::Detach(detach) => detach.run(),
            Verb::Leases(leases) => leases.run(),
        }
    }
}
