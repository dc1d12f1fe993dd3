//! What a profile boots: a kernel, ESXi's installer, Windows PE, the image of a disk, or what a person chooses in a menu.

use std::time::Duration;

use super::arch::Arch;
use super::reader::Table;
use super::report::{At, Report};

/// The entry of a menu that boots the machine's own disk.
pub const LOCAL: &str = "local";

/// How that is started which a profile has in [`Profile::kernel`](super::Profile::kernel).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// `kernel`: a kernel with its initrds and arguments.
    #[default]
    Linux,
    /// `esxi`: the directory of ESXi's installer in `boot_dir`, which VMware's loader mboot starts by a `boot.cfg`.
    Esxi,
    /// `wimboot`: the loader of Windows PE, which gets the initrds under their own names.
    Windows,
    /// `iso`: the image of a CD or disk.
    Iso,
}

impl Kind {
    /// The key that names it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Linux => "kernel",
            Self::Esxi => "esxi",
            Self::Windows => "wimboot",
            Self::Iso => "iso",
        }
    }
}

/// `menu`: what a person may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Menu {
    /// `menu`: profiles without a menu, or [`LOCAL`]; at least one, each once.
    pub entries: Vec<String>,
    /// `menu_default`: the one that boots if nobody chooses; it is among them. Default: the first.
    pub default: String,
    /// `menu_timeout`: how long the menu waits. Default: for ever.
    pub timeout: Option<Duration>,
}

/// Where VMware's loader is in the directory of an installer.
#[must_use]
pub const fn mboot(arch: Option<Arch>) -> &'static str {
    match arch {
        Some(Arch::Bios) => "mboot.c32",
        Some(Arch::Arm64) => "efi/boot/bootaa64.efi",
        _ => "efi/boot/bootx64.efi",
    }
}

/// The name that Windows PE's loader gives a file: the last part of its path.
#[must_use]
pub fn name_in_windows(path: &str) -> &str {
    let path = path.split(['?', '#']).next().unwrap_or(path);
    path.rsplit(['/', ':']).next().unwrap_or(path)
}

/// As it stands in the file.
pub(super) struct Written {
    pub(super) esxi: Option<At<String>>,
    pub(super) wimboot: Option<At<String>>,
    pub(super) iso: Option<At<String>>,
    pub(super) menu: Vec<At<String>>,
    pub(super) has_menu: bool,
    pub(super) default: Option<At<String>>,
    pub(super) timeout: Option<At<String>>,
    /// How many of the keys are there, `kernel` among them, even if they could not be read.
    pub(super) keys: usize,
}

/// The keys of [`Written`].
pub(super) const KEYS: [&str; 6] = ["esxi", "wimboot", "iso", "menu", "menu_default", "menu_timeout"];

impl Written {
    /// Whether the profile says what it boots.
    pub(super) const fn says(&self) -> bool {
        self.keys > 0
    }
}

/// What a profile in the file says.
pub(super) fn read(profile: &Table<'_>, report: &mut Report<'_>) -> Written {
    let keys = ["kernel", "esxi", "wimboot", "iso", "menu"];
    Written {
        esxi: profile.text("esxi", "esxi-8", report),
        wimboot: profile.text("wimboot", "winpe/wimboot", report),
        iso: profile.text("iso", "images/installer.iso", report),
        menu: profile.texts("menu", "talos", report),
        has_menu: profile.has("menu"),
        default: profile.text("menu_default", "talos", report),
        timeout: profile.text("menu_timeout", "30s", report),
        keys: keys.iter().filter(|key| profile.has(key)).count(),
    }
}
