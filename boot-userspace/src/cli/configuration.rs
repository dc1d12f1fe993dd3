//! The configuration file.

use std::path::{Path, PathBuf};

use boot_engine::config::{self, Config, Problems};

/// Reads and checks the file at `path`.
///
/// # Errors
/// All problems of the file; if it cannot be read, that one.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let origin = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => config::parse_bytes(bytes, &origin),
        Err(error) => {
            let message =
                format!("cannot read the configuration: {error}; name another file with --config FILE");
            Err(Problems::one(&origin, None, message))
        }
    }
}

/// Private files that everybody could download because they are in `boot_dir`, each as a sentence: the store, the admin
/// socket, and the configuration with its passwords in kernel arguments.
pub(super) fn exposed(config: &Config, file: Option<&Path>) -> Vec<String> {
    let place = config.boot_dir.display();
    let boot_dir = resolved(&config.boot_dir);
    let remedy = "TFTP and HTTP give everybody what is in boot_dir; use a directory that has only boot files";
    if boot_dir == Path::new("/") {
        return vec![format!("boot_dir {place} is the whole file system: {remedy}")];
    }
    let private = [
        file.map(|file| ("the configuration", file)),
        Some(("state_dir", &config.state_dir)),
        Some(("pin_dir", &config.pin_dir)),
    ];
    private
        .into_iter()
        .flatten()
        .filter(|(_, path)| resolved(path).starts_with(&boot_dir))
        .map(|(what, path)| format!("boot_dir {place} has {what} in it ({}): {remedy}", path.display()))
        .collect()
}

/// The path without symbolic links and `..`, as far as it exists and is accessible.
fn resolved(path: &Path) -> PathBuf {
    let known = path.ancestors().find_map(|ancestor| {
        let rest = path.strip_prefix(ancestor).ok()?;
        Some(ancestor.canonicalize().ok()?.join(rest))
    });
    known.unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn boot_dir_has_nothing_that_is_not_for_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["etc", "state/boot", "pins", "boot"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::write(at("etc/xpxe.toml"), "").unwrap();
        symlink(at("etc"), at("link")).unwrap();
        symlink("/", at("root")).unwrap();
        // The file behind a symbolic link counts, not the link.
        symlink(at("etc/xpxe.toml"), at("xpxe.toml")).unwrap();
        let found = |boot_dir: PathBuf| {
            let config = Config { boot_dir, state_dir: at("state"), pin_dir: at("pins"), ..Config::empty() };
            exposed(&config, Some(&at("xpxe.toml")))
        };
        for fine in ["boot", "state/boot", "missing/boot", "stat", "pins/boot"] {
            assert_eq!(found(at(fine)), [""; 0], "{fine}");
        }
        for (wrong, what) in [
            ("etc", vec!["the configuration in it"]),
            ("link", vec!["the configuration in it"]),
            ("state", vec!["state_dir in it"]),
            ("boot/../state", vec!["state_dir in it"]),
            ("pins", vec!["pin_dir in it"]),
            ("", vec!["the configuration in it", "state_dir in it", "pin_dir in it"]),
            ("root", vec!["the whole file system"]),
        ] {
            let said = found(at(wrong));
            assert_eq!(said.len(), what.len(), "{wrong}: {said:?}");
            for (said, what) in said.iter().zip(what) {
                assert!(said.contains(what) && said.contains("everybody"), "{wrong}: {said}");
            }
        }
        // The directory of the state need not be there yet.
        fs::remove_dir_all(at("state")).unwrap();
        assert_eq!(found(at("state")).len(), 1);
        assert_eq!(exposed(&Config::empty(), Some(Path::new("/etc/xpxe/xpxe.toml"))), [""; 0]);
        let whole = Config { boot_dir: "/".into(), ..Config::empty() };
        assert_eq!(exposed(&whole, None).len(), 1);
    }
}
