//! The programs that read documents in earnest, which tests try documents with: unpacked and not installed, for cloud-init's
//! package would run when this host starts.

use std::path::Path;

use anyhow::Result;

use super::{apt::Apt, nginx};

/// Each package with a file of its own that tests use.
const PACKAGES: [(&str, &str); 2] = [
    ("cloud-init", "usr/lib/python3/dist-packages/cloudinit/cmd/main.py"),
    ("ignition", "usr/bin/ignition-validate"),
];

/// The packages that are not there.
pub(super) fn missing(dir: &Path) -> Vec<String> {
    let is_missing = |(_, file): &&(&str, &str)| !dir.join(file).exists();
    PACKAGES.iter().filter(is_missing).map(|(package, _)| (*package).to_owned()).collect()
}

/// Fetches and unpacks them.
pub(super) fn install(dir: &Path, apt: &Apt, packages: &[String]) -> Result<()> {
    nginx::install(dir, apt, packages)
}
