//! `xpxe detach`

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::config::{self, Config};
use crate::fastpath;

/// A file with mistakes must not keep anybody from taking the programs off, as long as it names the directory.
pub(super) fn run(path: &Path) -> Result<ExitCode> {
    let config = if path == Path::new(super::CONFIG) && !path.exists() {
        Config::empty()
    } else {
        config::load(path)?
    };
    let detached = fastpath::detach(&config.pin_dir)?;
    if detached == fastpath::Detached::default() {
        println!("nothing is pinned in {}", config.pin_dir.display());
    } else {
        println!(
            "removed {} links and {} tables from {}",
            detached.links.len(),
            detached.tables.len(),
            config.pin_dir.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}
