//! The modules that an agent needs: those of disks and network cards, and what these need.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::module_file::{self, Info};

/// What is taken of `kernel/`.
const WANTED: [&str; 22] = [
    "drivers/ata/",
    "drivers/block/virtio_blk",
    "drivers/block/xen-blkfront",
    "drivers/char/ipmi/",
    "drivers/hv/",
    "drivers/message/fusion/",
    "drivers/mmc/",
    "drivers/net/ethernet/",
    "drivers/net/hyperv/",
    "drivers/net/phy/",
    "drivers/net/mdio/",
    "drivers/net/virtio_net",
    "drivers/net/vmxnet3/",
    "drivers/net/xen-netfront",
    "drivers/nvme/host/",
    "drivers/pci/controller/",
    "drivers/scsi/",
    "drivers/ufs/",
    "drivers/virtio/virtio",
    "drivers/watchdog/ipmi",
    "net/packet/",
    "crypto/crc32c",
];

/// A module that is taken.
#[derive(Clone, Debug)]
pub(super) struct Module {
    /// Below the directory of all, without what said how it was compressed.
    pub(super) path: String,
    /// Not compressed: the initrd is.
    pub(super) bytes: Vec<u8>,
    pub(super) info: Info,
}

/// Modules by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    pub(super) modules: BTreeMap<String, Module>,
}

impl Tree {
    /// Chooses from `/lib/modules/VERSION`. What each needs is read from the modules themselves, so a package that was only
    /// unpacked does as well as an installed kernel.
    pub(super) fn choose(dir: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        walk(&dir.join("kernel"), &mut files)?;
        let base = dir.join("kernel");
        let is_wanted = |(_, file): &(&String, &PathBuf)| {
            let inside = file.strip_prefix(&base).unwrap_or(file).to_string_lossy();
            WANTED.iter().any(|wanted| inside.starts_with(wanted))
        };
        let mut wanted: Vec<String> = files.iter().filter(is_wanted).map(|(name, _)| name.clone()).collect();
        ensure!(!wanted.is_empty(), "{} has no modules of disks or network cards", dir.display());
        let mut tree = Self::default();
        let mut seen: BTreeSet<String> = wanted.iter().cloned().collect();
        while let Some(name) = wanted.pop() {
            // What is built into the kernel is not there.
            let Some(file) = files.get(&name) else { continue };
            let module = read(dir, file)?;
            let new = module.info.depends.iter().filter(|needed| seen.insert((*needed).clone()));
            wanted.extend(new.cloned());
            tree.modules.insert(name, module);
        }
        Ok(tree)
    }

    /// `modules.dep`
    pub(super) fn dependencies(&self) -> String {
        let line = |module: &Module| {
            let needs = module.info.depends.iter().filter_map(|name| self.modules.get(name));
            let needs: String = needs.map(|needed| format!(" {}", needed.path)).collect();
            format!("{}:{needs}\n", module.path)
        };
        self.modules.values().map(line).collect()
    }

    /// `modules.alias`
    pub(super) fn aliases(&self) -> String {
        let lines = self.modules.iter().flat_map(|(name, module)| {
            module.info.aliases.iter().map(move |alias| format!("alias {alias} {name}\n"))
        });
        lines.collect()
    }

    /// The files of firmware that are there, by the names that the kernel asks for.
    pub(super) fn firmware(&self, dir: &Path) -> Vec<(String, PathBuf)> {
        let names: BTreeSet<&String> =
            self.modules.values().flat_map(|module| &module.info.firmware).collect();
        let is_inside = |name: &&&String| !name.split('/').any(|part| part == "..");
        let found = names.iter().filter(is_inside).flat_map(|name| {
            ["", ".xz", ".zst"].map(|ending| (format!("{name}{ending}"), dir.join(format!("{name}{ending}"))))
        });
        found.filter(|(_, file)| file.is_file()).collect()
    }
}

fn read(dir: &Path, file: &Path) -> Result<Module> {
    let inside = file.strip_prefix(dir).unwrap_or(file).to_string_lossy().into_owned();
    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let bytes = module_file::unpack(&inside, bytes)?;
    let info = module_file::info(&bytes).with_context(|| format!("{} is no module", file.display()))?;
    let path = inside.split_once(".ko").map_or(inside.clone(), |(name, _)| format!("{name}.ko"));
    Ok(Module { path, bytes, info })
}

/// All modules below a directory, by name.
fn walk(dir: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(&path, found)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            found.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::module_file::tests::module;
    use super::*;

    #[test]
    fn disks_and_cards_are_taken_with_what_they_need_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let add = |path: &str, modinfo: &str| {
            let file = dir.path().join("kernel").join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, module(modinfo)).unwrap();
        };
        add("drivers/nvme/host/nvme.ko", "depends=nvme-core\0alias=pci:v*bc01sc08i02*\0");
        add("drivers/nvme/host/nvme-core.ko", "depends=t10_pi\0");
        add("lib/t10-pi.ko", "depends=built_in\0");
        add(
            "drivers/net/ethernet/intel/e1000.ko",
            "depends=\0alias=pci:v8086*\0firmware=e/f.bin\0firmware=../x\0",
        );
        add("drivers/net/wireless/w.ko", "depends=\0");
        add("sound/s.ko", "depends=\0");
        fs::create_dir_all(dir.path().join("fw/e")).unwrap();
        fs::write(dir.path().join("fw/e/f.bin.xz"), "x").unwrap();
        fs::write(dir.path().join("x"), "x").unwrap();
        let tree = Tree::choose(dir.path()).unwrap();
        assert_eq!(tree.modules.keys().collect::<Vec<_>>(), ["e1000", "nvme", "nvme_core", "t10_pi"]);
        assert_eq!(
            tree.dependencies(),
            "kernel/drivers/net/ethernet/intel/e1000.ko:\n\
             kernel/drivers/nvme/host/nvme.ko: kernel/drivers/nvme/host/nvme-core.ko\n\
             kernel/drivers/nvme/host/nvme-core.ko: kernel/lib/t10-pi.ko\n\
             kernel/lib/t10-pi.ko:\n"
        );
        assert_eq!(tree.aliases(), "alias pci:v8086* e1000\nalias pci:v*bc01sc08i02* nvme\n");
        let firmware = tree.firmware(&dir.path().join("fw"));
        assert_eq!(firmware, [("e/f.bin.xz".to_owned(), dir.path().join("fw/e/f.bin.xz"))]);
        assert!(Tree::choose(&dir.path().join("fw")).is_err());
    }
}
