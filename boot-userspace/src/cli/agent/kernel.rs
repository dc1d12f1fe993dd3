//! Which kernel, and where its modules are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

/// A kernel with its modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) file: PathBuf,
    pub(super) version: String,
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// A kernel that is named.
    pub(super) fn at(file: &Path, modules: Option<PathBuf>) -> Result<Self> {
        let head = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let version = of_header(&head).or_else(|| name.strip_prefix("vmlinuz-").map(str::to_owned));
        let version = version.with_context(|| {
            format!("{} does not say its version: name it vmlinuz-VERSION", file.display())
        })?;
        let modules = match modules {
            Some(modules) => modules,
            None => {
                let root = file.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
                root.join("lib/modules").join(&version)
            }
        };
        ensure!(
            modules.is_dir(),
            "there are no modules of Linux {version} in {}: name their directory (--modules DIR)",
            modules.display()
        );
        Ok(Self { file: file.to_owned(), version, modules })
    }

    /// The newest one that is installed.
    pub(super) fn of_system(root: &Path) -> Result<Self> {
        let boot = root.join("boot");
        let names = fs::read_dir(&boot).with_context(|| format!("list {}", boot.display()))?;
        let names = names.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let version = |name: String| name.strip_prefix("vmlinuz-").map(str::to_owned);
        let has_modules = |version: &String| root.join("lib/modules").join(version).is_dir();
        let newest = names.filter_map(version).filter(has_modules).max_by_key(|version| numbers(version));
        let Some(version) = newest else {
            bail!(
                "no kernel in {} has its modules in /lib/modules: name one (--kernel FILE)",
                boot.display()
            );
        };
        Self::at(&boot.join(format!("vmlinuz-{version}")), Some(root.join("lib/modules").join(version)))
    }
}

/// The numbers in a version, by which versions are ordered.
fn numbers(version: &str) -> Vec<u64> {
    let parts = version.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().unwrap_or(0)).collect()
}

/// The version in the head of a kernel for x86 (Documentation/arch/x86/boot.rst: `kernel_version`).
fn of_header(kernel: &[u8]) -> Option<String> {
    if kernel.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let pointer = u16::from_le_bytes(kernel.get(0x20e..0x210)?.try_into().ok()?);
    let text = kernel.get(usize::from(pointer) + 0x200..)?;
    let word = text.split(|byte| *byte == b' ' || *byte == 0).next()?;
    let word = String::from_utf8(word.to_vec()).ok()?;
    let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "._+-~".contains(c));
    (!word.is_empty() && is_plain).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmlinuz(version: &str) -> Vec<u8> {
        let mut kernel = vec![0; 0x800];
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x20e..0x210].copy_from_slice(&0x300u16.to_le_bytes());
        kernel[0x500..0x500 + version.len()].copy_from_slice(version.as_bytes());
        kernel
    }

    #[test]
    fn the_newest_kernel_with_modules_is_taken_and_says_its_version() {
        let dir = tempfile::tempdir().unwrap();
        let boot = dir.path().join("boot");
        fs::create_dir_all(&boot).unwrap();
        for (version, has_modules) in [("6.1.0-9-amd64", true), ("6.1.0-56-amd64", true), ("6.12.1", false)] {
            fs::write(boot.join(format!("vmlinuz-{version}")), vmlinuz(&format!("{version} (debian) #1")))
                .unwrap();
            if has_modules {
                fs::create_dir_all(dir.path().join("lib/modules").join(version)).unwrap();
            }
        }
        let found = Kernel::of_system(dir.path()).unwrap();
        assert_eq!(found.version, "6.1.0-56-amd64");
        assert_eq!(found.modules, dir.path().join("lib/modules/6.1.0-56-amd64"));
        assert_eq!(Kernel::at(&found.file, None).unwrap(), found);
        let error = Kernel::at(&boot.join("vmlinuz-6.12.1"), None).unwrap_err().to_string();
        assert!(error.contains("no modules of Linux 6.12.1"), "{error}");
        assert!(Kernel::of_system(&dir.path().join("boot")).is_err());
    }
}
