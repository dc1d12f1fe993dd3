//! `cargo xtask build`: the release binaries, the kernel half inside.

use std::fs;

use anyhow::{Context, Result};

use crate::{
    cmd::Cmd,
    setup::{self, Scope, musl},
    workspace::Workspace,
};

/// Installs the build dependencies, then builds.
pub(crate) fn run(ws: &Workspace) -> Result<()> {
    setup::ensure(ws, Scope::Build)?;
    release()
}

/// Builds the daemon, the demo and the verifier report: xpxe, xpxe-demo, xpxe-verify; and the agent, which is put beside
/// xpxe.
pub(crate) fn release() -> Result<()> {
    Cmd::line("cargo build --release -p boot-userspace -p boot-tests").run()?;
    agent()
}

/// Static: it runs in an initrd.
fn agent() -> Result<()> {
    let build = Cmd::line("cargo build --release -p boot-agent --target").arg(musl::target());
    // ring has some C, which needs no library: the compiler of this system does, and a cross compiler may not be there.
    build.env(&format!("CC_{}", musl::target().replace('-', "_")), "cc").run()?;
    let target = Workspace::enter()?.target;
    let (built, beside) =
        (target.join(musl::target()).join("release/xpxe-agent"), target.join("release/xpxe-agent"));
    fs::copy(&built, &beside).with_context(|| format!("copy {} to {}", built.display(), beside.display()))?;
    Ok(())
}
