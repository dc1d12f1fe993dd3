//! `[profile.arch.arm64]`: what a profile boots on one architecture instead.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use boot_common::class::{Firmware, Program};

use super::reader::Table;
use super::report::{At, Report};
use super::texts::Texts;
use super::{image, value};

/// An architecture as the keys of `[ipxe]` and `arch` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// A PC that was started by its BIOS, whatever its processor can do.
    Bios,
    /// UEFI on 32-bit x86.
    Ia32,
    /// UEFI on 64-bit x86.
    X64,
    /// 32-bit Arm.
    Arm32,
    /// 64-bit Arm.
    Arm64,
    /// 64-bit RISC-V.
    Riscv64,
    /// LoongArch.
    Loongarch64,
}

impl Arch {
    /// Every architecture, with its key.
    pub const ALL: [(&'static str, Self); 7] = [
        ("bios", Self::Bios),
        ("ia32", Self::Ia32),
        ("x64", Self::X64),
        ("arm32", Self::Arm32),
        ("arm64", Self::Arm64),
        ("riscv64", Self::Riscv64),
        ("loongarch64", Self::Loongarch64),
    ];

    /// The settings `buildarch` and `platform` of an iPXE that runs on it.
    #[must_use]
    pub fn as_ipxe(self) -> (&'static str, &'static str) {
        match self {
            Self::Bios => ("i386", "pcbios"),
            Self::Ia32 => ("i386", "efi"),
            Self::X64 => ("x86_64", "efi"),
            Self::Arm32 => ("arm32", "efi"),
            Self::Arm64 => ("arm64", "efi"),
            Self::Riscv64 => ("riscv64", "efi"),
            Self::Loongarch64 => ("loong64", "efi"),
        }
    }

    /// What iPXE runs on, by its settings `buildarch` and `platform`.
    #[must_use]
    pub fn of_ipxe(buildarch: &str, platform: Option<&str>) -> Option<Self> {
        Some(match (buildarch, platform) {
            ("i386" | "x86_64", Some("pcbios")) => Self::Bios,
            ("i386", Some("efi")) => Self::Ia32,
            // Before it said its platform: a binary for the BIOS is always one of 32 bits.
            ("i386", _) => Self::Bios,
            ("x86_64", _) => Self::X64,
            ("arm32", _) => Self::Arm32,
            ("arm64", _) => Self::Arm64,
            ("riscv64", _) => Self::Riscv64,
            ("loong64", _) => Self::Loongarch64,
            _ => return None,
        })
    }
}

impl Arch {
    /// What firmware of a kind boots; none where only iPXE tells.
    #[must_use]
    pub fn of_firmware(firmware: Firmware) -> Option<Self> {
        Some(match firmware {
            Firmware::None | Firmware::Other | Firmware::HttpOther => return None,
            _ => match firmware.program() {
                Program::Bios => Self::Bios,
                Program::Ia32 => Self::Ia32,
                Program::X64 => Self::X64,
                Program::Arm32 => Self::Arm32,
                Program::Arm64 => Self::Arm64,
                Program::Riscv64 => Self::Riscv64,
                Program::LoongArch64 => Self::Loongarch64,
                Program::Else => return None,
            },
        })
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = Self::ALL.iter().find(|(_, arch)| arch == self).unwrap_or(&("", Self::Bios));
        f.write_str(name)
    }
}

/// What is otherwise on one architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchProfile {
    /// `kernel`: like that of the profile, which it replaces; empty: machines of this architecture boot nothing. Default: the
    /// profile's.
    pub kernel: Option<String>,
    /// `initrd`: like that of the profile, which it replaces; may be empty. Default: the profile's.
    pub initrd: Option<Vec<String>>,
    /// `args`: behind those of the profile. Default: none.
    pub args: String,
    /// `console`: instead of that of the profile. Default: the profile's.
    pub console: Option<String>,
}

/// As it stands in the file.
pub(super) struct Written {
    arch: Arch,
    pub(super) kernel: Option<At<String>>,
    /// The file says something about it, even if it is an empty list.
    has_initrd: bool,
    pub(super) initrd: Vec<At<String>>,
    pub(super) args: Option<At<String>>,
    pub(super) console: Option<At<String>>,
}

impl Written {
    pub(super) fn is_for(&self, arch: Arch) -> bool {
        self.arch == arch
    }
}

/// The architectures of a profile in the file.
pub(super) fn read(profile: &Table<'_>, report: &mut Report<'_>) -> Vec<Written> {
    let names = Arch::ALL.map(|(name, _)| name);
    let Some(table) = profile.table("arch", &names, report) else { return Vec::new() };
    let of = |(name, arch): (&'static str, Arch)| {
        let table = table.table(name, &["kernel", "initrd", "args", "console"], report)?;
        Some(Written {
            arch,
            kernel: table.text("kernel", "talos/vmlinuz-arm64", report),
            has_initrd: table.has("initrd"),
            initrd: table.texts("initrd", "talos/initramfs-arm64.xz", report),
            args: table.text("args", "earlycon", report),
            console: table.text("console", "ttyAMA0", report),
        })
    };
    Arch::ALL.into_iter().filter_map(of).collect()
}

/// What they become.
pub(super) fn check(
    from: &[Written],
    boot_dir: &Path,
    texts: &Texts<'_>,
    report: &mut Report<'_>,
) -> BTreeMap<Arch, ArchProfile> {
    let mut all = BTreeMap::new();
    for written in from {
        let kernel = written.kernel.as_ref();
        let none_or_file = |text: &str| match text {
            "" => Ok(String::new()),
            text => image::kernel(text, boot_dir),
        };
        let kernel = kernel.and_then(|at| at.read(report, none_or_file));
        let images = written.initrd.iter();
        let images: Vec<String> =
            images.filter_map(|at| at.read(report, |text| image::kernel(text, boot_dir))).collect();
        let args = written.args.as_ref().and_then(|at| at.read(report, |text| texts.args(text)));
        let args = args.unwrap_or_default();
        let console = written.console.as_ref().and_then(|at| at.read(report, value::console));
        let initrd = written.has_initrd.then_some(images);
        all.insert(written.arch, ArchProfile { kernel, initrd, args, console });
    }
    all
}
