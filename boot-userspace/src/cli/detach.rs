//! `xpxe detach`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::config::{self, Config};
use crate::fastpath;

/// The flags.
#[derive(Debug, clap::Args)]
pub struct Detach {
    /// The configuration file, for its pin_dir
    #[arg(long, value_name = "FILE", default_value = super::CONFIG)]
    config: PathBuf,
    /// Where the programs are pinned, whatever the file says
    #[arg(long, value_name = "DIR")]
    pin_dir: Option<PathBuf>,
}

impl Detach {
    pub(super) fn run(self) -> Result<ExitCode> {
        let pin_dir = self.pin_dir()?;
        let detached = fastpath::detach(&pin_dir)?;
        if detached == fastpath::Detached::default() {
            println!("nothing is pinned in {}", pin_dir.display());
        } else {
            let (links, tables) = (detached.links.len(), detached.tables.len());
            println!("removed {links} links and {tables} tables from {}", pin_dir.display());
        }
        Ok(ExitCode::SUCCESS)
    }

    fn pin_dir(self) -> Result<PathBuf> {
        if let Some(pin_dir) = self.pin_dir {
            return Ok(pin_dir);
        }
        let path = &self.config;
        if path == Path::new(super::CONFIG) && !path.exists() {
            return Ok(Config::empty().pin_dir);
        }
        // A file with mistakes must not keep anybody from taking the programs off.
        let config =
            config::load(path).context("name the directory with --pin-dir, or mend the configuration")?;
        Ok(config.pin_dir)
    }
}
