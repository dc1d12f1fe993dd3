//! Debian packages.

use std::{cell::Cell, path::Path};

use anyhow::Result;

use crate::cmd::Cmd;

/// The programs that the demo, tests and benchmarks start. Of all packages that they and their
/// dependencies install, nftables has a unit, which is neither enabled nor started, and postgresql one, which serves an empty
/// cluster on the loopback interface where there is systemd: tests start clusters of their own. dhcpcd-base is
/// dhcpcd without its unit, and kea-admin has perfdhcp, and the libraries of Kea's servers, without the servers. nginx is unpacked beside, and needs
/// libpcre2-8-0, tftpd-hpa libwrap0; cloud-init is, too, and needs those of Python; OpenIPMI and ipmitool are, and need
/// libopenipmi0, libpopt0, libsnmp40 and libfreeipmi17; lldpd is, and needs libbsd0, libevent-2.1-7 and libreadline8.
pub(super) const PROGRAMS: [&str; 48] = [
    "qemu-system-x86",
    "qemu-system-arm",
    "ovmf",
    "qemu-efi-aarch64",
    "u-boot-qemu",
    "grub-efi-amd64-bin",
    "grub-pc-bin",
    "xorriso",
    "mtools",
    "ipxe",
    "ipxe-qemu",
    "dnsmasq-base",
    "iproute2",
    "ethtool",
    "nftables",
    "tcpdump",
    "isc-dhcp-client",
    "udhcpc",
    "dhcpcd-base",
    "kea-admin",
    "nmap",
    "tftp-hpa",
    "atftp",
    "busybox-static",
    "curl",
    "openssl",
    "sbsigntool",
    "postgresql",
    "xz-utils",
    "zstd",
    "libpcre2-8-0",
    "libwrap0",
    "libopenipmi0",
    "libpopt0",
    "libsnmp40",
    "libfreeipmi17",
    "libbsd0",
    "libevent-2.1-7",
    "libreadline8",
    "python3-configobj",
    "python3-jinja2",
    "python3-jsonpatch",
    "python3-jsonschema",
    "python3-netifaces",
    "python3-oauthlib",
    "python3-pip",
    "python3-requests",
    "python3-yaml",
];

/// The build dependencies: a C toolchain, the libraries of bpf-linker, and OpenSSL, which xpxe speaks HTTPS with.
pub(super) fn build_packages(llvm: u32) -> Vec<String> {
    let llvm = [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    let rest = ["zlib1g-dev", "libzstd-dev", "libxml2-dev", "build-essential", "pkg-config", "libssl-dev"];
    llvm.into_iter().chain(rest.map(String::from)).collect()
}

/// Those of `packages` that are not installed.
pub(super) fn missing(packages: &[String]) -> Result<Vec<String>> {
    let query = Cmd::line("dpkg-query --show --showformat").arg("${db:Status-Abbrev} ${Package}\n");
    // dpkg-query fails if it does not know a package, but still reports the others.
    let installed = query.args(packages).probe().unwrap_or_default();
    Ok(not_in(packages, &installed))
}

fn not_in(packages: &[String], dpkg: &str) -> Vec<String> {
    // The second letter is the state: "ii" is installed, "hi" installed and held, "rc" removed.
    let installed = dpkg.lines().filter(|line| line.as_bytes().get(1) == Some(&b'i'));
    let installed: Vec<_> = installed.filter_map(|line| line.split(' ').next_back()).collect();
    packages.iter().filter(|package| !installed.contains(&package.as_str())).cloned().collect()
}

/// apt-get; it fetches the package lists at most once a run.
#[derive(Default)]
pub(super) struct Apt {
    updated: Cell<bool>,
}

impl Apt {
    /// Fetches the package lists, once.
    pub(super) fn update(&self) -> Result<()> {
        if !self.updated.replace(true) {
            Cmd::line("apt-get update").root().run()?;
        }
        Ok(())
    }

    pub(super) fn install(&self, packages: &[String]) -> Result<()> {
        self.update()?;
        let utils = Cmd::line("dpkg-query --show --showformat=${Version} qemu-utils").probe();
        let install = Cmd::line("apt-get install --yes --no-install-recommends");
        let install = install.args(arguments(packages, &utils.unwrap_or_default()));
        install.env("DEBIAN_FRONTEND", "noninteractive").root().run()
    }
}

/// The stable release's qemu-system-x86 conflicts with a qemu-utils from backports.
fn arguments(packages: &[String], qemu_utils: &str) -> Vec<String> {
    const QEMU: &str = "qemu-system-x86";
    let mut packages = packages.to_vec();
    if qemu_utils.contains("~bpo12") && packages.iter().any(|package| package == QEMU) {
        packages.retain(|package| package != QEMU);
        packages
            .extend(["--allow-downgrades", "qemu-utils=1:7.2*", "qemu-system-x86=1:7.2*"].map(String::from));
    }
    packages
}

/// The remedy on a machine without apt.
pub(super) fn without(llvm: u32, linker: &Cmd, guest: &Path, files: &[String]) -> String {
    format!(
        "this is no Debian (no apt-get, dpkg-query): install by hand what goes by these names there:\n\
         to build: {}, rustup's component rust-src, and bpf-linker by\n    {linker}\n\
         for demo, tests and benchmarks: {}\n\
         for the firmware tests, a Linux kernel in {}: {}\n\
         then, to have every verb leave this out:\n    export XPXE_SETUP=skip",
        build_packages(llvm).join(" "),
        PROGRAMS.join(" "),
        guest.display(),
        files.join(" "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().copied().map(String::from).collect()
    }

    #[test]
    fn building_follows_rustcs_llvm() {
        assert_eq!(build_packages(22)[..2], names(&["llvm-22-dev", "libpolly-22-dev"]));
    }

    #[test]
    fn only_an_installed_package_is_not_missing() {
        let dpkg = "ii  curl\nhi  ovmf\nrc  ipxe\nun  atftp\n";
        let wanted = names(&["curl", "ovmf", "ipxe", "atftp", "udhcpc"]);
        assert_eq!(not_in(&wanted, dpkg), names(&["ipxe", "atftp", "udhcpc"]));
        assert_eq!(not_in(&wanted, ""), wanted);
    }

    #[test]
    fn qemu_utils_from_backports_goes_back_with_qemu() {
        let wanted = names(&["qemu-system-x86", "curl"]);
        let down = names(&["curl", "--allow-downgrades", "qemu-utils=1:7.2*", "qemu-system-x86=1:7.2*"]);
        assert_eq!(arguments(&wanted, "1:8.2.1+ds-1~bpo12+1"), down);
        assert_eq!(arguments(&wanted, "1:7.2+dfsg-7+deb12u18+b3"), wanted);
        assert_eq!(arguments(&names(&["curl"]), "1:8.2.1+ds-1~bpo12+1"), names(&["curl"]));
    }
}
