//! `cargo xtask check`: the quick checks, for the time between two thoughts.

use anyhow::Result;

use crate::{
    setup::{self, Scope},
    test::{self, Stage},
    workspace::Workspace,
};

/// Format, lints and unit tests: what needs neither root nor a release build.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the test binaries get: a part of a test's name, --nocapture, …
    #[arg(last = true, value_name = "FILTER")]
    filter: Vec<String>,
}

/// Runs the stages that take less than two minutes together once everything is compiled.
pub(crate) fn run(ws: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(ws, Scope::Build)?;
    test::run_stages(ws, &[Stage::Fmt, Stage::Clippy, Stage::Unit], &args.filter)
}
