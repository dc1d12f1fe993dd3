//! The Linux that firmware boots in tests: Debian's kernel and the modules of QEMU's network cards, unpacked, not
//! installed.

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    apt::Apt,
    unpack::{self, MODULES, Modules},
};
use crate::cmd::Cmd;

const META: &str = "linux-image-amd64";

/// The files of a complete guest; `version` is written last.
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
    unpack::kernel(guest, &Cmd::line("apt-get download").arg(&image), Modules::All)?;
    unpack::finish(guest, &image)
}

/// The package that the meta package depends on.
pub(super) fn image(depends: &str) -> Result<String> {
    let of = |line: &str| line.trim().strip_prefix("Depends: ").map(String::from);
    let image = depends.lines().filter_map(of).find(|name| name.starts_with("linux-image-"));
    image.with_context(|| format!("apt knows no kernel by this:\n    apt-cache depends {META}"))
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
}
