//! s3s-fs, an S3 server that checks signatures: the images of tests come from it.

use anyhow::Result;

use crate::cmd::Cmd;

/// Later ones need a newer rustc.
const VERSION: &str = "0.14.1";

pub(super) fn missing() -> Vec<String> {
    let version = Cmd::line("s3s-fs --version").probe().unwrap_or_default();
    if version.trim() == format!("s3s-fs {VERSION}") { vec![] } else { vec![format!("s3s-fs-{VERSION}")] }
}

pub(super) fn install() -> Result<()> {
    Cmd::line("cargo install s3s-fs --locked --force --features binary --version").arg(VERSION).run()
}
