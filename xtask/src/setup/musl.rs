//! The standard library for the target that the agent is built for.

use anyhow::Result;

use crate::{cmd::Cmd, toolchain::Toolchain};

/// For the architecture of this machine.
pub(crate) fn target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

pub(super) fn missing() -> Result<Vec<String>> {
    let is_there = Toolchain::sysroot()?.join("lib/rustlib").join(target()).is_dir();
    Ok(if is_there { vec![] } else { vec![format!("rust-std for {}", target())] })
}

/// Names the toolchain, because rustup may be set not to pick the pinned one by itself.
pub(super) fn install(toolchain: &Toolchain) -> Result<()> {
    Cmd::line("rustup target add").arg(target()).arg("--toolchain").arg(&toolchain.channel).run()
}
