//! s3s-fs, an S3 server that checks signatures: the images of tests come from it.

use anyhow::Result;

use crate::cmd::{self, Cmd};

/// Later ones need a newer rustc.
const VERSION: &str = "0.14.1";

pub(super) fn missing() -> Vec<String> {
    if cmd::which("s3s-fs").is_some() { vec![] } else { vec![format!("s3s-fs-{VERSION}")] }
}

pub(super) fn install() -> Result<()> {
    Cmd::line("cargo install s3s-fs --locked --features binary --version").arg(VERSION).run()
}
