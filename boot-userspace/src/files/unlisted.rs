//! Boot files that lie in the boot directory without being named anywhere: any server's answer may speak of them.

use std::fs::{self, DirEntry};
use std::path::Path;

use super::inspect::Need;

/// Directories below the boot directory that are looked into: `EFI/BOOT/BOOTX64.EFI` is in the second.
const DEPTH: usize = 2;
/// A directory tree may be a mirror of distributions; a check ends within moments all the same.
const MOST_ENTRIES: usize = 20_000;
const MOST_FILES: usize = 200;

/// What was found.
pub(super) struct Unlisted {
    /// Names relative to the boot directory, in order.
    pub(super) names: Vec<String>,
    /// That is all of them, as deep as was looked.
    pub(super) complete: bool,
}

/// Everything beneath `boot_dir` that has the name of a boot file. What cannot be read has none.
pub(super) fn look(boot_dir: &Path) -> Unlisted {
    let mut names = Vec::new();
    let mut entries = 0;
    let mut here = vec![String::new()];
    for _ in 0..=DEPTH {
        let mut below = Vec::new();
        for dir in here {
            for entry in fs::read_dir(boot_dir.join(&dir)).into_iter().flatten().flatten() {
                entries += 1;
                if entries > MOST_ENTRIES {
                    return Unlisted { names: in_order(names), complete: false };
                }
                let Some(name) = name_in(&dir, &entry) else { continue };
                // Links to directories are not followed: there may be circles.
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    below.push(name);
                } else if Need::of_name(&name.to_ascii_lowercase()).is_some() {
                    names.push(name);
                }
            }
        }
        here = below;
    }
    let complete = names.len() <= MOST_FILES;
    Unlisted { names: in_order(names), complete }
}

fn in_order(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.truncate(MOST_FILES);
    names
}

/// As a client would ask for it; `None` for a name that is no text.
fn name_in(dir: &str, entry: &DirEntry) -> Option<String> {
    let name = entry.file_name().into_string().ok()?;
    Some(if dir.is_empty() { name } else { format!("{dir}/{name}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_boot_files_name_is_found_and_no_more_than_is_useful() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("EFI/BOOT/deeper")).unwrap();
        for name in [
            "lpxelinux.0",
            "grub.cfg",
            "vmlinuz-6.12.0",
            "EFI/BOOT/BOOTX64.EFI",
            "EFI/BOOT/deeper/x.efi",
            "EFI/shimx64.efi.signed",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let Unlisted { names, complete } = look(dir.path());
        assert_eq!(names, ["EFI/BOOT/BOOTX64.EFI", "EFI/shimx64.efi.signed", "lpxelinux.0"]);
        assert!(complete);
        for number in 0..MOST_FILES {
            fs::write(dir.path().join(format!("{number}.efi")), "").unwrap();
        }
        let Unlisted { names, complete } = look(dir.path());
        assert!(names.len() == MOST_FILES && !complete);
        assert_eq!(look(&dir.path().join("nowhere")).names.len(), 0);
    }
}
