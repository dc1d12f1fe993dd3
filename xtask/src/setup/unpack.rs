//! A kernel and its modules out of Debian's packages.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::cmd::Cmd;

/// The network cards' modules and their dependencies.
pub(super) const MODULES: [&str; 9] = [
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
    "e1000",
];

/// The modules that have to be there.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Modules {
    /// All of them.
    All,
    /// Those that the kernel does not have built in.
    AsFarAsThere,
}

/// Makes `to/vmlinuz` and `to/modules/*.ko` out of the packages that `download` puts into its directory.
pub(super) fn kernel(to: &Path, download: &Cmd, wanted: Modules) -> Result<()> {
    let unpacked = to.join("unpacked");
    remove(&unpacked)?;
    fs::create_dir_all(&unpacked).with_context(|| format!("make {}", unpacked.display()))?;
    // As root, apt warns that it cannot download as another user into this directory, and downloads as root.
    download.clone().dir(&unpacked).run()?;
    let patterns = MODULES.map(|name| format!("*/{name}.ko*"));
    // tar complains about each pattern without a match; the code below checks that the needed files are there.
    for package in tree(&unpacked)? {
        let archive = Cmd::line("sh -c").arg("dpkg-deb --fsys-tarfile \"$0\" | tar -x --wildcards --no-anchored 'vmlinuz*' \"$@\" 2>/dev/null || true");
        archive.arg(package.to_string_lossy()).args(patterns.clone()).dir(&unpacked).run()?;
    }
    take(&unpacked, to, wanted)?;
    remove(&unpacked)
}

/// Makes `to/vmlinuz` and `to/modules/*.ko` out of unpacked packages.
pub(super) fn take(unpacked: &Path, to: &Path, wanted: Modules) -> Result<()> {
    fs::create_dir_all(to.join("modules"))?;
    let files = tree(unpacked)?;
    copy(find(&files, "vmlinuz").context("the kernel package has no vmlinuz")?, &to.join("vmlinuz"))?;
    for name in MODULES {
        let Some(module) = find(&files, &format!("{name}.ko")) else {
            if wanted == Modules::All {
                bail!("the kernel package has no {name}.ko");
            }
            continue;
        };
        let mut module = module.to_owned();
        if module.extension().is_some_and(|extension| extension == "xz") {
            Cmd::line("xz --decompress --force").arg(module.to_string_lossy()).run()?;
            module.set_extension("");
        }
        copy(&module, &to.join(format!("modules/{name}.ko")))?;
    }
    Ok(())
}

/// Writes the version from the package's name, which marks the directory as complete.
pub(super) fn finish(to: &Path, image: &str) -> Result<()> {
    let version = image.trim_start_matches("linux-image-");
    fs::write(to.join("version"), format!("{version}\n")).context("write the kernel's version")
}

pub(super) fn tree(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(tree(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn find<'a>(files: &'a [PathBuf], start: &str) -> Option<&'a Path> {
    let named =
        |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
    files.iter().find(named).map(PathBuf::as_path)
}

pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

pub(super) fn remove(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_by_its_whole_name() {
        let files = ["net_failover.ko", "failover.ko.xz"].map(|name| Path::new("/lib").join(name));
        assert_eq!(find(&files, "failover.ko").unwrap(), Path::new("/lib/failover.ko.xz"));
        assert!(find(&files, "e1000.ko").is_none());
    }
}
