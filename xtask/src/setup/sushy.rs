//! sushy-tools, an emulator of BMCs with Redfish that others have written: tests switch machines through it.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cmd::Cmd;

const VERSION: &str = "2.2.0";

fn program(dir: &Path) -> PathBuf {
    dir.join("bin/sushy-emulator")
}

/// The package, if it is not there.
pub(super) fn missing(dir: &Path) -> Vec<String> {
    if program(dir).exists() { Vec::new() } else { vec![format!("sushy-tools=={VERSION}")] }
}

/// Fetches it from Python's registry, with what it needs, into a directory of its own.
pub(super) fn install(dir: &Path, packages: &[String]) -> Result<()> {
    let pip = Cmd::line(
        "python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target",
    );
    pip.arg(dir.to_string_lossy()).args(packages).run()
}
