//! `cargo xtask check`: the quick checks, for the inner loop.

use anyhow::Result;

use crate::{
    setup::{self, Scope},
    test::{self, Stage},
    workspace::Workspace,
};

/// Check format and lints, and run the unit tests; needs neither root nor a release build.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Arguments of the test binaries: a part of a test's name, --nocapture, …
    #[arg(last = true, value_name = "FILTER")]
    filter: Vec<String>,
}

/// Runs the stages that together take less than two minutes once everything is compiled.
pub(crate) fn run(ws: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(ws, Scope::Build)?;
    test::run_stages(ws, &[Stage::Fmt, Stage::Clippy, Stage::Unit], &args.filter)
}
