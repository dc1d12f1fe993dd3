//! nginx, which `cargo xtask bench http` measures beside xpxe: unpacked and not installed, for its package starts a service.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::cmd::Cmd;

use super::apt::Apt;

/// Where it is below `dir`.
pub(crate) fn program(dir: &Path) -> PathBuf {
    dir.join("usr/sbin/nginx")
}

/// The package, if it is not there.
pub(super) fn missing(dir: &Path) -> Vec<String> {
    if program(dir).exists() { Vec::new() } else { vec!["nginx".to_owned()] }
}

/// Fetches and unpacks it.
pub(super) fn install(dir: &Path, apt: &Apt, packages: &[String]) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    apt.update()?;
    // As root it warns that it cannot download as another user into this directory, and downloads as root.
    Cmd::line("apt-get download").args(packages).dir(dir).run()?;
    for entry in fs::read_dir(dir)? {
        let deb = entry?.path();
        if deb.extension().is_some_and(|extension| extension == "deb") {
            Cmd::line("dpkg-deb --extract").args([deb.to_string_lossy(), dir.to_string_lossy()]).run()?;
            fs::remove_file(&deb).with_context(|| format!("remove {}", deb.display()))?;
        }
    }
    Ok(())
}
