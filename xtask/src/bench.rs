//! `cargo xtask bench`: what one answer and one storm cost.

use anyhow::Result;

use crate::{
    build,
    cmd::Cmd,
    setup::{self, Scope},
    workspace::Workspace,
};

/// Set up, build and run the benchmarks as root.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Arguments of boot-bench.
    #[arg(last = true)]
    args: Vec<String>,
}

/// Becomes boot-bench.
pub(crate) fn run(ws: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(ws, Scope::Programs)?;
    build::release()?;
    Cmd::line("cargo build --release -p boot-bench").run()?;
    let bench = Cmd::line("").arg(ws.release("boot-bench")).args(args.args.clone());
    bench.env("XPXE_BIN", ws.release("xpxe")).root().exec()
}
