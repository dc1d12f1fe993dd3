//! The Linux that firmware boots in tests: Debian's kernel and the modules of QEMU's network cards, unpacked, not
//! installed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::apt::Apt;
use crate::cmd::Cmd;

const META: &str = "linux-image-amd64";
/// The network cards' modules and what those stand on.
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

/// What is there when the guest is complete; `version` is written last.
pub(super) fn files() -> impl Iterator<Item = String> {
    let modules = MODULES.iter().map(|name| format!("modules/{name}.ko"));
    modules.chain(["vmlinuz", "version"].map(String::from))
}

pub(super) fn missing(guest: &Path) -> Vec<String> {
    let complete = files().all(|file| guest.join(file).is_file());
    if complete { vec![] } else { vec!["a guest kernel".into()] }
}

/// Takes the files out of the newest kernel package that apt knows.
pub(super) fn install(guest: &Path, apt: &Apt) -> Result<()> {
    apt.update()?;
    let image = image(&Cmd::line("apt-cache depends").arg(META).read()?)?;
    let unpacked = guest.join("unpacked");
    remove(&unpacked)?;
    fs::create_dir_all(&unpacked).with_context(|| format!("make {}", unpacked.display()))?;
    // As root it warns that it cannot download as another user into this directory, and downloads as root.
    Cmd::line("apt-get download").arg(&image).dir(&unpacked).run()?;
    let modules = MODULES.map(|name| format!("'*/{name}.ko*'")).join(" ");
    let unpack = format!("dpkg-deb --fsys-tarfile *.deb | tar -x --wildcards './boot/vmlinuz-*' {modules}");
    Cmd::line("sh -c").arg(unpack).dir(&unpacked).run()?;

    take(&unpacked, guest, &MODULES)?;
    let version = image.trim_start_matches("linux-image-");
    fs::write(guest.join("version"), format!("{version}\n")).context("write the guest's version")?;
    remove(&unpacked)
}

/// Copies the kernel and those modules out of an unpacked kernel package, as `vmlinuz` and `modules/*.ko`.
pub(super) fn take(unpacked: &Path, to: &Path, modules: &[&str]) -> Result<()> {
    fs::create_dir_all(to.join("modules"))?;
    let files = tree(unpacked)?;
    copy(find(&files, "vmlinuz-")?, &to.join("vmlinuz"))?;
    for name in modules {
        let mut module = find(&files, &format!("{name}.ko"))?.to_owned();
        if module.extension().is_some_and(|extension| extension == "xz") {
            Cmd::line("xz --decompress --force").arg(module.to_string_lossy()).run()?;
            module.set_extension("");
        }
        copy(&module, &to.join(format!("modules/{name}.ko")))?;
    }
    Ok(())
}

/// The package that the meta package stands for.
fn image(depends: &str) -> Result<String> {
    let of = |line: &str| line.trim().strip_prefix("Depends: ").map(String::from);
    let image = depends.lines().filter_map(of).find(|name| name.starts_with("linux-image-"));
    image.with_context(|| format!("apt knows no kernel by this:\n    apt-cache depends {META}"))
}

fn tree(dir: &Path) -> Result<Vec<PathBuf>> {
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

fn find<'a>(files: &'a [PathBuf], start: &str) -> Result<&'a Path> {
    let named =
        |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
    let found = files.iter().find(named).with_context(|| format!("the kernel package has no {start}"))?;
    Ok(found)
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
    fn finds_the_kernel_behind_the_meta_package() {
        let depends = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n";
        assert_eq!(image(depends).unwrap(), "linux-image-6.1.0-56-amd64");
        let error = image("linux-image-amd64\n").unwrap_err().to_string();
        assert!(error.ends_with("\n    apt-cache depends linux-image-amd64"), "{error}");
    }

    #[test]
    fn a_module_is_found_by_its_whole_name() {
        let files = ["net_failover.ko", "failover.ko.xz"].map(|name| Path::new("/lib").join(name));
        assert_eq!(find(&files, "failover.ko").unwrap(), Path::new("/lib/failover.ko.xz"));
        assert!(find(&files, "e1000.ko").is_err());
    }
}
