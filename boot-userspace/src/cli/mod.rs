//! The command line: one file per verb.

pub mod check;
pub mod configuration;
pub mod detach;
mod import;
pub mod leases;
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
    /// Checks a configuration file, every problem at once with key and line, and the boot files
    ///
    /// Boot files that are known beforehand are opened and looked at: the iPXE binaries of [ipxe], boot_dir and the
    /// system, and what profiles, boot_file rules and machines name in boot_dir.
    ///
    /// Exits with 1 if something is wrong with the configuration or with a file that it names. An iPXE binary that
    /// it does not name may be missing or wrong: that is a warning, and 0.
    Check(check::Check),
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
            Verb::Check(check) => Ok(check.run()),
            Verb::Detach(detach) => detach.run(),
            Verb::Leases(leases) => leases.run(),
        }
    }
}
