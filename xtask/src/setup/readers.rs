//! Programs that tests try xpxe with, whose packages would run something when this host starts: unpacked and not installed.
//! Some read documents in earnest, `ipmi_sim` is a BMC, `ipmitool` is what xpxe speaks to BMCs with, `lldpd` is a switch that
//! names its ports, and `promtool` reads what Prometheus does.

use std::path::Path;

use anyhow::Result;

use super::{apt::Apt, nginx};

/// Each package with a file of its own that tests use.
const PACKAGES: [(&str, &str); 6] = [
    ("cloud-init", "usr/lib/python3/dist-packages/cloudinit/cmd/main.py"),
    ("ignition", "usr/bin/ignition-validate"),
    ("openipmi", "usr/bin/ipmi_sim"),
    ("ipmitool", "usr/bin/ipmitool"),
    ("lldpd", "usr/sbin/lldpd"),
    ("prometheus", "usr/bin/promtool"),
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
