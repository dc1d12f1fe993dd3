//! Files for firmware tests: boot loaders that are not installed here, iPXE and GRUB of other Debian releases, which behave
//! differently from this release's, a guest for 64-bit Arm, Debian's installer, and a guest with cloud-init.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{
    suite::Suite,
    unpack::{self, Modules},
};
use crate::cmd::Cmd;

/// A directory below the guest's, and its packages.
struct Part {
    /// The directory's name.
    name: &'static str,
    /// The suite of Debian's archive.
    suite: &'static str,
    /// The architecture of the packages.
    architecture: &'static str,
    /// The packages' names; a meta package stands for its first dependency.
    packages: &'static [&'static str],
    /// Fills the directory from the unpacked packages.
    fill: fn(unpacked: &Path, to: &Path) -> Result<()>,
}

const PARTS: [Part; 7] = [
    // GRUB as Debian signs it, and PXELINUX. Unpacked, not installed: neither belongs on the disk of this machine.
    Part {
        name: "loaders",
        suite: "bookworm",
        architecture: "amd64",
        packages: &["grub-efi-amd64-signed", "pxelinux", "syslinux-common"],
        fill: loaders,
    },
    // iPXE 1.21.1 of 2025 for x86 and Arm, and as the option ROMs of QEMU's cards; GRUB 2.12.
    Part {
        name: "trixie",
        suite: "trixie",
        architecture: "amd64",
        packages: &["ipxe", "ipxe-qemu", "grub-efi-amd64-bin", "grub-efi-amd64-unsigned"],
        fill: ipxe,
    },
    // iPXE 2.0.
    Part { name: "sid", suite: "sid", architecture: "amd64", packages: &["ipxe"], fill: ipxe },
    Part {
        name: "arm64",
        suite: "bookworm",
        architecture: "arm64",
        packages: &["linux-image-cloud-arm64", "busybox-static"],
        fill: arm64,
    },
    // The shim that Microsoft has signed. What it loads is in the other parts, or is signed by the tests.
    Part {
        name: "secure-boot",
        suite: "bookworm",
        architecture: "amd64",
        packages: &["shim-signed"],
        fill: shim,
    },
    Part {
        name: "debian-installer",
        suite: "bookworm",
        architecture: "amd64",
        packages: &["debian-installer-12-netboot-amd64"],
        fill: installer,
    },
    Part {
        name: "cloud-init",
        suite: "bookworm",
        architecture: "amd64",
        packages: &CLOUD_INIT,
        fill: cloud_init,
    },
];

/// cloud-init, and of its dependencies those that it needs to fetch and apply documents. The shell and its programs are
/// busybox's.
const CLOUD_INIT: [&str; 38] = [
    "cloud-init",
    "base-files",
    "libblkid1",
    "libbz2-1.0",
    "libc6",
    "libcrypt1",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "libuuid1",
    "libyaml-0-2",
    "netbase",
    "python3-attr",
    "python3-certifi",
    "python3-chardet",
    "python3-charset-normalizer",
    "python3-configobj",
    "python3-idna",
    "python3-jinja2",
    "python3-json-pointer",
    "python3-jsonpatch",
    "python3-jsonschema",
    "python3-markupsafe",
    "python3-minimal",
    "python3-netifaces",
    "python3-oauthlib",
    "python3-pyrsistent",
    "python3-requests",
    "python3-six",
    "python3-urllib3",
    "python3-yaml",
    "python3.11-minimal",
    "util-linux",
    "zlib1g",
];

/// Written last into each directory: the packages it was made from.
const COMPLETE: &str = "complete";

impl Part {
    fn made_from(&self) -> String {
        format!("{} {} {}\n", self.suite, self.architecture, self.packages.join(" "))
    }

    fn is_complete(&self, guest: &Path) -> bool {
        let made_from = fs::read_to_string(guest.join(self.name).join(COMPLETE));
        made_from.is_ok_and(|made_from| made_from == self.made_from())
    }
}

pub(super) fn missing(guest: &Path) -> Vec<String> {
    let parts = PARTS.iter().filter(|part| !part.is_complete(guest));
    parts.map(|part| part.name.to_owned()).collect()
}

pub(super) fn install(guest: &Path, missing: &[String]) -> Result<()> {
    for part in PARTS.iter().filter(|part| missing.iter().any(|name| name == part.name)) {
        let dir = guest.join(part.name);
        unpack::remove(&dir)?;
        let (root, unpacked) = (dir.join("apt"), dir.join("unpacked"));
        let suite = Suite::open(&root, part.suite, &[part.architecture])?;
        for package in part.packages {
            suite.unpack(&suite.stands_for(package)?, &unpacked)?;
        }
        (part.fill)(&unpacked, &dir).with_context(|| format!("take files from {}", part.suite))?;
        unpack::remove(&root)?;
        unpack::remove(&unpacked)?;
        fs::write(dir.join(COMPLETE), part.made_from())
            .with_context(|| format!("write into {}", dir.display()))?;
    }
    Ok(())
}

/// The loaders, and the ROMs and GRUB if there are any.
fn ipxe(unpacked: &Path, to: &Path) -> Result<()> {
    for (from, name) in
        [("usr/lib/ipxe", "ipxe"), ("usr/share/qemu", "roms"), ("usr/lib/grub/x86_64-efi", "grub")]
    {
        let from = unpacked.join(from);
        if from.is_dir() {
            fs::rename(&from, to.join(name)).with_context(|| format!("move {}", from.display()))?;
        }
    }
    Ok(())
}

/// Boot loaders with a configuration of their own, and the one module that PXELINUX needs.
fn loaders(unpacked: &Path, to: &Path) -> Result<()> {
    let lib = unpacked.join("usr/lib");
    for (from, name) in [
        ("grub/x86_64-efi-signed/grubnetx64.efi.signed", "grubnetx64.efi"),
        ("PXELINUX/pxelinux.0", "pxelinux.0"),
        ("PXELINUX/lpxelinux.0", "lpxelinux.0"),
        ("syslinux/modules/bios/ldlinux.c32", "ldlinux.c32"),
    ] {
        unpack::copy(&lib.join(from), &to.join(name))?;
    }
    Ok(())
}

/// shim, as firmware is to be given it.
fn shim(unpacked: &Path, to: &Path) -> Result<()> {
    unpack::copy(&unpacked.join("usr/lib/shim/shimx64.efi.signed"), &to.join("shimx64.efi"))
}

/// Kernel and initrd of the installer that asks its questions as text.
fn installer(unpacked: &Path, to: &Path) -> Result<()> {
    let images = unpacked.join("usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64");
    for name in ["linux", "initrd.gz"] {
        unpack::copy(&images.join(name), &to.join(name))?;
    }
    Ok(())
}

/// An initrd with all files of the packages but their documentation; its `/init` is the tests'.
fn cloud_init(unpacked: &Path, to: &Path) -> Result<()> {
    for name in ["doc", "info", "lintian", "locale", "man"] {
        unpack::remove(&unpacked.join("usr/share").join(name))?;
    }
    let root = fs::canonicalize(unpacked).with_context(|| format!("find {}", unpacked.display()))?;
    let archive = "busybox find . | busybox cpio -o -H newc | gzip -6 > \"$0\"";
    let initrd = fs::canonicalize(to).with_context(|| format!("find {}", to.display()))?.join("initrd.img");
    Cmd::line("sh -c").arg(archive).arg(initrd.to_string_lossy()).dir(&root).run()
}

/// Kernel, modules and busybox.
fn arm64(unpacked: &Path, to: &Path) -> Result<()> {
    // The cloud kernel has no modules for other network cards.
    unpack::take(unpacked, to, Modules::AsFarAsThere)?;
    unpack::copy(&unpacked.join("bin/busybox"), &to.join("busybox"))
}
