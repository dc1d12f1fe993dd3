//! `xpxe check`

use std::path::Path;
use std::process::ExitCode;

use crate::config;

pub(super) fn run(path: &Path) -> ExitCode {
    match config::load(path) {
        Ok(config) => {
            println!(
                "{}: fine ({} interfaces, {} subnets, {} profiles, {} machines)",
                path.display(),
                config.interfaces.len(),
                config.subnets.len(),
                config.profiles.len(),
                config.machines.len()
            );
            ExitCode::SUCCESS
        }
        Err(problems) => {
            println!("{problems}");
            ExitCode::from(1)
        }
    }
}
