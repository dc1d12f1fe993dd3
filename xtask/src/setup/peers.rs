//! The DHCP and TFTP servers that xpxe is measured beside: unpacked, not installed, so that none of them is ever started as a
//! service of this machine.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{apt::Apt, unpack};
use crate::cmd::Cmd;

/// What has their programs, and the libraries that nothing else here has.
const PACKAGES: [&str; 8] = [
    "kea-dhcp4-server",
    "isc-dhcp-server",
    "freeradius",
    "freeradius-dhcp",
    "freeradius-common",
    "libfreeradius3",
    "libtalloc2",
    "tftpd-hpa",
];
const PROGRAMS: [&str; 4] = ["kea-dhcp4", "dhcpd", "freeradius", "in.tftpd"];

/// The servers that are not there.
pub(super) fn missing(dir: &Path) -> Vec<String> {
    let is_there = |name: &&str| dir.join("usr/sbin").join(name).is_file();
    PROGRAMS.iter().filter(|name| !is_there(name)).map(ToString::to_string).collect()
}

/// Unpacks them.
pub(super) fn install(dir: &Path, apt: &Apt) -> Result<()> {
    apt.update()?;
    let packages = dir.join("packages");
    unpack::remove(&packages)?;
    fs::create_dir_all(&packages).with_context(|| format!("make {}", packages.display()))?;
    // As root it warns that it cannot download as another user into this directory, and downloads as root.
    Cmd::line("apt-get download").args(PACKAGES).dir(&packages).run()?;
    for package in unpack::tree(&packages)? {
        let command = Cmd::line("dpkg-deb --extract").arg(package.to_string_lossy());
        command.arg(dir.to_string_lossy()).run()?;
    }
    unpack::remove(&packages)?;
    let missing = missing(dir);
    if !missing.is_empty() {
        bail!("the packages have no {}", missing.join(", "));
    }
    Ok(())
}
