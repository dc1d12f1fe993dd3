//! The standard library's source.

use anyhow::Result;

use crate::{cmd::Cmd, toolchain::Toolchain};

pub(super) fn missing() -> Result<Vec<String>> {
    let there = Toolchain::rust_src()?.is_file();
    Ok(if there { vec![] } else { vec!["rust-src".into()] })
}

/// Names the toolchain, because rustup may be set not to pick the pinned one by itself.
pub(super) fn install(toolchain: &Toolchain) -> Result<()> {
    Cmd::line("rustup component add rust-src --toolchain").arg(&toolchain.channel).run()
}
