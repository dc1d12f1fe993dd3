//! `xpxe check`

use std::process::ExitCode;
use std::sync::Arc;

use crate::config::{self, Config};
use crate::engine::fits;
use crate::files::{BootFiles, Finding, Verdict};

/// The flags.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    #[command(flatten)]
    file: super::ConfigFile,
    /// Do not look at boot files: for the configuration of another host
    #[arg(long)]
    no_files: bool,
}

impl Check {
    pub(super) fn run(&self) -> ExitCode {
        let config = match config::load(&self.file.config) {
            Ok(config) => Arc::new(config),
            Err(problems) => {
                println!("{problems}");
                return ExitCode::from(1);
            }
        };
        println!("{}: fine ({})", self.file.config.display(), summary(&config));
        for sentence in fits::left_out(&config) {
            println!("warning: {sentence}");
        }
        if self.no_files {
            return ExitCode::SUCCESS;
        }
        let findings = BootFiles::configured(&config).survey(&config);
        findings.iter().for_each(|finding| println!("{}", line(finding)));
        ExitCode::from(u8::from(findings.iter().any(|finding| finding.verdict == Verdict::Error)))
    }
}

fn summary(config: &Config) -> String {
    let Config { interfaces, subnets, profiles, machines, .. } = config;
    format!(
        "{} interfaces, {} subnets, {} profiles, {} machines",
        interfaces.len(),
        subnets.len(),
        profiles.len(),
        machines.len()
    )
}

fn line(Finding { verdict, says }: &Finding) -> String {
    match verdict {
        Verdict::Fine => says.clone(),
        Verdict::Warning => format!("warning: {says}"),
        Verdict::Error => format!("error: {says}"),
    }
}
