//! `cargo xtask demo`: a rack in network namespaces that boots two machines, or takes two through their whole life.

use anyhow::Result;

use crate::{
    build,
    cmd::Cmd,
    setup::{self, Scope},
    test,
    toolchain::Toolchain,
    workspace::Workspace,
};

/// Set up, build and run the demo as root; Ctrl-C ends the demo.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show the life of two machines instead, which BMCs switch: discovered, wiped, installed, running, released, wiped.
    #[arg(long)]
    lifecycle: bool,
    /// Arguments of the demo.
    #[arg(last = true)]
    args: Vec<String>,
}

/// Replaces this process by the demo, so that signals reach the demo and its exit code is the verb's.
pub(crate) fn run(ws: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(ws, Scope::Demo)?;
    build::release()?;
    if args.lifecycle {
        let lives = test::root_tests(ws, &Toolchain::ask(ws)?).args(["--test", "firmware_lifecycle"]);
        return lives.args(["--", "--nocapture"]).exec();
    }
    let demo = Cmd::line("").arg(ws.release("xpxe-demo")).args(args.args.clone());
    demo.env("XPXE_BIN", ws.release("xpxe")).root().exec()
}
