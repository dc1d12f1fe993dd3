//! `cargo xtask build`: the release binaries, the kernel half inside.

use anyhow::Result;

use crate::{
    cmd::Cmd,
    setup::{self, Scope},
    workspace::Workspace,
};

/// Installs the build dependencies, then builds.
pub(crate) fn run(ws: &Workspace) -> Result<()> {
    setup::ensure(ws, Scope::Build)?;
    release()
}

/// Builds the daemon, the demo and the verifier report: xpxe, xpxe-demo, xpxe-verify.
pub(crate) fn release() -> Result<()> {
    Cmd::line("cargo build --release -p boot-userspace -p boot-tests").run()
}
