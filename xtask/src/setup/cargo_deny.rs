//! cargo-deny, which checks licences, sources and advisories of the crates that xpxe is built from.

use anyhow::Result;

use crate::cmd::Cmd;

const VERSION: &str = "0.20.2";

pub(super) fn missing() -> Vec<String> {
    let version = Cmd::line("cargo-deny --version").probe().unwrap_or_default();
    if version.trim() == format!("cargo-deny {VERSION}") {
        vec![]
    } else {
        vec![format!("cargo-deny-{VERSION}")]
    }
}

pub(super) fn install() -> Result<()> {
    Cmd::line("cargo install cargo-deny --locked --force --no-default-features --version").arg(VERSION).run()
}
