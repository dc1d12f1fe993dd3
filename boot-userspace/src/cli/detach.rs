//! `xpxe detach`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::cli::configuration;
use crate::fastpath::{self, PinsInUse};
use crate::host::link;
use crate::host::lock::with_pid;
use boot_engine::config::Config;

/// The flags of `xpxe detach`.
#[derive(Debug, clap::Args)]
pub struct Detach {
    /// The configuration file; its pin_dir is removed
    #[arg(long, value_name = "FILE", default_value = super::CONFIG)]
    config: PathBuf,
    /// Remove this directory's programs and tables instead of those of the file's pin_dir
    #[arg(long, value_name = "DIR")]
    pin_dir: Option<PathBuf>,
    /// Also while xpxe runs, which answers everything by itself then, until it is started anew
    #[arg(long)]
    force: bool,
}

impl Detach {
    pub(super) fn run(self) -> Result<ExitCode> {
        let force = self.force;
        let (pin_dir, interfaces) = self.what()?;
        let detached = match fastpath::keep_daemons_out(&pin_dir) {
            Ok(_lock) => fastpath::detach(&pin_dir)?,
            Err(error) => match error.downcast::<PinsInUse>()? {
                PinsInUse { pid, .. } if force => {
                    eprintln!(
                        "xpxe{} runs: it answers everything by itself until it is started anew",
                        with_pid(pid)
                    );
                    fastpath::remove(&pin_dir)?
                }
                PinsInUse { pid, .. } => bail!(
                    "xpxe{} runs with pin_dir {}: stop it first (systemctl stop xpxe); or, to have it answer everything by \
                     itself until it is started anew, use --force",
                    with_pid(pid),
                    pin_dir.display()
                ),
            },
        };
        if detached == fastpath::Detached::default() {
            println!("nothing is pinned in {}", pin_dir.display());
        } else {
            let (links, tables) = (detached.links.len(), detached.tables.len());
            println!("removed {links} links and {tables} tables from {}", pin_dir.display());
        }
        let mut is_clean = true;
        for interface in &interfaces {
            // One that is not there has no programs.
            let Ok(link) = link::find(interface) else { continue };
            if let Err(another) = fastpath::refuse_another(&pin_dir, (interface, link.index)) {
                eprintln!("{another:#}");
                is_clean = false;
            }
        }
        Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// The directory, and the interfaces where another xpxe's programs may be.
    fn what(self) -> Result<(PathBuf, Vec<String>)> {
        if let Some(pin_dir) = self.pin_dir {
            return Ok((pin_dir, Vec::new()));
        }
        let path = &self.config;
        if path == Path::new(super::CONFIG) && !path.exists() {
            return Ok((Config::empty().pin_dir, Vec::new()));
        }
        // A file with mistakes must not keep anybody from taking the programs off.
        let config = configuration::load(path)
            .context("name the directory with --pin-dir, or mend the configuration")?;
        let interfaces = config.interfaces.into_iter().map(|interface| interface.name).collect();
        Ok((config.pin_dir, interfaces))
    }
}
