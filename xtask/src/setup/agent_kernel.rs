//! A Debian kernel with all of its modules, for the agent's initrd: unpacked, not installed.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{apt::Apt, unpack};
use crate::cmd::Cmd;

/// The small kernel with the drivers of virtual machines.
const META: &str = "linux-image-cloud-amd64";

pub(super) fn missing(to: &Path) -> Vec<String> {
    if to.join("version").is_file() { vec![] } else { vec!["a kernel with its modules".into()] }
}

/// Makes `to/boot` and `to/lib/modules` out of the newest package that apt knows; `to/version` is written last.
pub(super) fn install(to: &Path, apt: &Apt) -> Result<()> {
    apt.update()?;
    let image = super::guest::image(&Cmd::line("apt-cache depends").arg(META).read()?)?;
    unpack::remove(to)?;
    fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    Cmd::line("apt-get download").arg(&image).dir(to).run()?;
    Cmd::line("sh -c").arg("dpkg-deb -x *.deb . && rm -r *.deb usr boot/System.map-*").dir(to).run()?;
    unpack::finish(to, &image)
}
