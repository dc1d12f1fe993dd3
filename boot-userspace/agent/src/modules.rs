//! Kernel modules: which ones the machine's devices need, and what each needs before it.
//!
//! The initrd has `modules.alias` (a pattern and a module on each line) and `modules.dep` (a module, and behind the colon what it
//! needs) in the forms of kmod, and no program to read them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::console::say;

/// Where `xpxe agent build` puts them.
const DIR: &str = "/lib/modules";
/// Modules that no device asks for: disks behind SCSI, packets for LLDP, the BMC.
const ALWAYS: [&str; 5] = ["af_packet", "sd_mod", "ipmi_devintf", "ipmi_si", "vfat"];
/// Devices appear when their bus is loaded: nothing new for so long is all, and nothing takes longer than this.
const QUIET: Duration = Duration::from_millis(1500);
const LONGEST: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What the initrd has.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    files: BTreeMap<String, PathBuf>,
    needs: BTreeMap<String, Vec<String>>,
    aliases: Vec<(String, String)>,
    loaded: BTreeSet<String>,
}

impl Modules {
    pub(crate) fn read(dir: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        let mut modules = Self::default();
        for line in text("modules.dep").lines() {
            let Some((file, needs)) = line.split_once(':') else { continue };
            let name = name_of(file);
            modules.needs.insert(name.clone(), needs.split_whitespace().map(name_of).collect());
            modules.files.insert(name, dir.join(file));
        }
        for line in text("modules.alias").lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next()) {
                modules.aliases.push((pattern.to_owned(), name_of(module)));
            }
        }
        modules
    }

    /// Loads what the devices of the machine need, until no more of them appear.
    pub(crate) fn load_for_devices(&mut self) {
        let began = Instant::now();
        let mut last = began;
        for name in ALWAYS {
            self.load(name);
        }
        while last.elapsed() < QUIET && began.elapsed() < LONGEST {
            let mut wanted = BTreeSet::new();
            device_aliases(Path::new("/sys/devices"), &mut wanted);
            let fits =
                |(pattern, _): &&(String, String)| wanted.iter().any(|alias| matches_alias(pattern, alias));
            let names: BTreeSet<String> = self
                .aliases
                .iter()
                .filter(|(_, module)| !self.loaded.contains(module))
                .filter(fits)
                .map(|(_, module)| module.clone())
                .collect();
            for name in names {
                self.load(&name);
                last = Instant::now();
            }
            sleep(LOOK_AGAIN);
        }
        say!("{} kernel modules loaded", self.loaded.len());
    }

    /// Loads a module behind those that it needs. One that is not there, or finds no device, is no error.
    fn load(&mut self, name: &str) {
        for name in depends_first(&self.needs, name) {
            if !self.loaded.insert(name.clone()) {
                continue;
            }
            let Some(file) = self.files.get(&name) else { continue };
            let done = File::open(file).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)));
            let done = done.and_then(|file| finit_module(&file, c"", ModuleInitFlags::empty()));
            match done {
                Ok(()) | Err(Errno::EEXIST | Errno::ENODEV) => {}
                Err(error) => say!("module {name}: {error}"),
            }
        }
    }
}

/// The modules of this kernel: there is one directory.
pub(crate) fn directory() -> PathBuf {
    let found = fs::read_dir(DIR).into_iter().flatten().flatten().map(|entry| entry.path());
    found.into_iter().next().unwrap_or_else(|| PathBuf::from(DIR))
}

/// A module's name in files and aliases: with `_` for `-`, and without what the file's name has behind it.
fn name_of(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

/// A module behind all that it needs, each of them once, however they need each other.
#[must_use]
pub fn depends_first(needs: &BTreeMap<String, Vec<String>>, name: &str) -> Vec<String> {
    fn visit(
        needs: &BTreeMap<String, Vec<String>>,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<String>,
    ) {
        if !seen.insert(name.to_owned()) {
            return;
        }
        for needed in needs.get(name).into_iter().flatten() {
            visit(needs, needed, seen, order);
        }
        order.push(name.to_owned());
    }
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    visit(needs, name, &mut seen, &mut order);
    order
}

/// Whether a device's alias is one of a pattern with `*`, `?` and `[…]` (fnmatch).
#[must_use]
pub fn matches_alias(pattern: &str, alias: &str) -> bool {
    fn fits(pattern: &[u8], alias: &[u8]) -> bool {
        match (pattern.split_first(), alias.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) if fits(rest, alias) => true,
            (Some((b'*', _)), Some((_, rest))) => fits(pattern, rest),
            (Some((b'[', rest)), Some((byte, alias))) => {
                let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
                let (set, rest) = rest.split_at(end);
                let mut set = set;
                let mut is_in = false;
                while let Some((first, more)) = set.split_first() {
                    match more {
                        [b'-', last, more @ ..] => {
                            is_in |= (*first..=*last).contains(byte);
                            set = more;
                        }
                        _ => {
                            is_in |= first == byte;
                            set = more;
                        }
                    }
                }
                is_in && fits(rest.get(1..).unwrap_or_default(), alias)
            }
            (Some((b'?', rest)), Some((_, alias))) => fits(rest, alias),
            (Some((wanted, rest)), Some((byte, alias))) => wanted == byte && fits(rest, alias),
            _ => false,
        }
    }
    // Both forms of a name mean the same in aliases.
    fits(pattern.as_bytes(), alias.as_bytes())
}

fn device_aliases(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            device_aliases(&entry.path(), found);
        } else if entry.file_name() == "modalias" {
            let alias = fs::read_to_string(entry.path()).unwrap_or_default();
            if !alias.trim().is_empty() {
                found.insert(alias.trim().to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_comes_before_it_and_once() {
        let needs = |pairs: &[(&str, &[&str])]| -> BTreeMap<String, Vec<String>> {
            pairs
                .iter()
                .map(|(name, needs)| ((*name).to_owned(), needs.iter().map(|&n| n.to_owned()).collect()))
                .collect()
        };
        let virtio = needs(&[
            ("virtio_net", &["net_failover", "virtio", "virtio_ring"]),
            ("net_failover", &["failover"]),
            ("virtio", &["virtio_ring"]),
        ]);
        assert_eq!(
            depends_first(&virtio, "virtio_net"),
            ["failover", "net_failover", "virtio_ring", "virtio", "virtio_net"]
        );
        assert_eq!(depends_first(&virtio, "unknown"), ["unknown"]);
        let circle = needs(&[("a", &["b"]), ("b", &["a"])]);
        assert_eq!(depends_first(&circle, "a"), ["b", "a"]);
    }

    #[test]
    fn aliases_match_as_in_fnmatch() {
        let card = "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00";
        for (pattern, alias, fits) in [
            ("pci:v00001AF4d*sv*sd*bc*sc*i*", card, true),
            ("pci:v*d*sv*sd*bc02sc00i*", card, true),
            ("pci:v00008086d*sv*sd*bc*sc*i*", card, false),
            ("virtio:d00000002v*", "virtio:d00000002v00001AF4", true),
            ("acpi*:IPI0001:*", "acpi:IPI0001:", true),
            ("usb:v1d[0-3]x", "usb:v1d2x", true),
            ("usb:v1d[0-3]x", "usb:v1d4x", false),
            ("a[b", "ab", false),
            ("a?c", "abc", true),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(matches_alias(pattern, alias), fits, "{pattern} {alias}");
        }
    }

    #[test]
    fn the_files_of_an_initrd_are_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join("modules.dep"),
            "kernel/a/nvme-core.ko:\nkernel/a/nvme.ko: kernel/a/nvme-core.ko\n",
        )
        .unwrap();
        fs::write(dir.path().join("modules.alias"), "# head\nalias pci:v*d*bc01sc08i02* nvme\n").unwrap();
        let modules = Modules::read(dir.path());
        assert_eq!(modules.needs["nvme"], ["nvme_core"]);
        assert_eq!(modules.files["nvme_core"], dir.path().join("kernel/a/nvme-core.ko"));
        assert_eq!(modules.aliases, [("pci:v*d*bc01sc08i02*".to_owned(), "nvme".to_owned())]);
    }
}
