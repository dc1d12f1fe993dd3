//! The iPXE binaries: the names they are served as, where they come from, and which firmware gets which.

use std::fmt;

use boot_common::class::{Firmware, Program};

/// Where distributions put iPXE binaries; `/boot` has Debian's ipxe.efi.
pub(super) const SYSTEM_DIRS: [&str; 3] = ["/usr/lib/ipxe", "/usr/share/ipxe", "/boot"];

/// An iPXE binary: the name it is served as, the firmware it is for, the `[ipxe]` key that overrides it, and the
/// system's names for it.
pub(super) struct Loader {
    pub(super) name: &'static str,
    pub(super) firmware: Firmware,
    pub(super) key: &'static str,
    pub(super) system: &'static [&'static str],
}

pub(super) const LOADERS: &[Loader] = &[
    Loader { name: "undionly.kpxe", firmware: Firmware::Bios, key: "bios", system: &["undionly.kpxe"] },
    Loader {
        name: "snponly.efi",
        firmware: Firmware::EfiX64,
        key: "x64",
        system: &["snponly.efi", "ipxe-snponly-x86_64.efi"],
    },
    Loader {
        name: "ipxe.efi",
        firmware: Firmware::EfiX64,
        key: "x64",
        system: &["ipxe.efi", "ipxe-x86_64.efi"],
    },
    Loader {
        name: "ipxe-arm64.efi",
        firmware: Firmware::EfiArm64,
        key: "arm64",
        system: &["ipxe-arm64.efi", "arm64-efi/ipxe.efi"],
    },
    Loader {
        name: "snponly-arm64.efi",
        firmware: Firmware::EfiArm64,
        key: "arm64",
        system: &["snponly-arm64.efi", "arm64-efi/snponly.efi"],
    },
    Loader {
        name: "ipxe-riscv64.efi",
        firmware: Firmware::EfiRiscv64,
        key: "riscv64",
        system: &["ipxe-riscv64.efi"],
    },
    Loader {
        name: "ipxe-loong64.efi",
        firmware: Firmware::EfiLoongArch64,
        key: "loongarch64",
        system: &["ipxe-loong64.efi"],
    },
    Loader { name: "ipxe-ia32.efi", firmware: Firmware::EfiIa32, key: "ia32", system: &[] },
    Loader { name: "ipxe-arm32.efi", firmware: Firmware::EfiArm32, key: "arm32", system: &[] },
];

/// Names that booter serves these binaries as.
const ALIASES: &[(&str, &[&str])] = &[
    ("snp.efi", &["snponly.efi", "ipxe.efi"]),
    ("amd64/snp.efi", &["snponly.efi", "ipxe.efi"]),
    ("snp-arm64.efi", &["ipxe-arm64.efi", "snponly-arm64.efi"]),
    ("arm64/snp.efi", &["ipxe-arm64.efi", "snponly-arm64.efi"]),
];

/// No boot file for a firmware kind; says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingLoader(pub Firmware);

impl fmt::Display for MissingLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let candidates = candidates(self.0);
        let Some(loader) = candidates.iter().find_map(|name| loader(name)) else {
            let Some(arch) = self.0.arch() else {
                return f.write_str("not a PXE client, so there is no boot file for it");
            };
            return write!(
                f,
                "there is no iPXE for {} machines: name what they boot in a [[boot_file]] with arch = {arch}",
                self.0.name()
            );
        };
        write!(f, "no iPXE binary for {} machines: ", self.0.name())?;
        match loader.key {
            "bios" | "x64" => f.write_str("install the Debian package ipxe, ")?,
            "ia32" | "arm32" => {}
            _ => f.write_str("install the Debian package ipxe (Debian 13 or later), ")?,
        }
        write!(
            f,
            "put {} into boot_dir, or set {} in [ipxe] to the path of one",
            candidates.join(" or "),
            loader.key
        )
    }
}

impl std::error::Error for MissingLoader {}

/// Boot files for a firmware kind, best first. The SNP-only builds use the firmware's own driver, which works on
/// every card that could network-boot this far.
pub(super) fn candidates(firmware: Firmware) -> &'static [&'static str] {
    match firmware.program() {
        Program::Else => &[],
        Program::Bios => &["undionly.kpxe"],
        Program::X64 => &["snponly.efi", "ipxe.efi"],
        Program::Arm64 => &["ipxe-arm64.efi", "snponly-arm64.efi"],
        Program::Riscv64 => &["ipxe-riscv64.efi"],
        Program::LoongArch64 => &["ipxe-loong64.efi"],
        Program::Ia32 => &["ipxe-ia32.efi"],
        Program::Arm32 => &["ipxe-arm32.efi"],
    }
}

pub(super) fn loader(name: &str) -> Option<&'static Loader> {
    LOADERS.iter().find(|loader| loader.name == name)
}

/// The iPXE binaries that an alias may stand for, best first.
pub(super) fn behind_alias(name: &str) -> &'static [&'static str] {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(&[], |(_, targets)| targets)
}

/// The firmware that the iPXE binary of this name, or of this alias, is for.
pub(super) fn served_to(name: &str) -> Option<Firmware> {
    let name = behind_alias(name).first().copied().unwrap_or(name);
    Some(loader(name)?.firmware)
}

/// The firmware that an iPXE binary is for by its key in `[ipxe]`.
pub(super) fn firmware_of(key: &str) -> Option<Firmware> {
    LOADERS.iter().find(|loader| loader.key == key).map(|loader| loader.firmware)
}
