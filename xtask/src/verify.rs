//! `cargo xtask verify`: what the kernel's verifier says of the kernel half.

use anyhow::Result;

use crate::{build, cmd::Cmd, workspace::Workspace};

/// Build, then load the kernel half as root and show what the verifier made of it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Arguments of xpxe-verify.
    #[arg(last = true)]
    args: Vec<String>,
}

/// Becomes xpxe-verify.
pub(crate) fn run(ws: &Workspace, args: &Args) -> Result<()> {
    build::run(ws)?;
    Cmd::line("").arg(ws.release("xpxe-verify")).args(args.args.clone()).root().exec()
}
