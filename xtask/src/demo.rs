//! `cargo xtask demo`: a rack in network namespaces that boots two machines.

use anyhow::Result;

use crate::{
    build,
    cmd::Cmd,
    setup::{self, Scope},
    workspace::Workspace,
};

/// Set up, build and run the demo as root; Ctrl-C ends the demo.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Arguments of the demo.
    #[arg(last = true)]
    args: Vec<String>,
}

/// Replaces this process by the demo, so that signals reach the demo and its exit code is the verb's.
pub(crate) fn run(ws: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(ws, Scope::Demo)?;
    build::release()?;
    let demo = Cmd::line("").arg(ws.release("xpxe-demo")).args(args.args.clone());
    demo.env("XPXE_BIN", ws.release("xpxe")).root().exec()
}
