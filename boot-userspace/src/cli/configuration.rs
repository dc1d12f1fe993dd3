//! The configuration: its file, and those in `conf.d` beside it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use boot_engine::config::{self, Config, Problems, Source, TextFile};

/// The directory of further files, beside the configuration file.
const FURTHER: &str = "conf.d";

/// Reads and checks the file at `path`, and those in `conf.d` beside it, as one.
///
/// # Errors
/// All problems of all files, or the one that a file cannot be read.
pub fn load(path: &Path) -> Result<Config, Problems> {
    config::parse_files_with(&sources(path)?, &|name| text_file(path, name))
}

/// The `state_dir` of a configuration that may have mistakes.
///
/// # Errors
/// Which file cannot be read.
pub(super) fn state_dir(path: &Path) -> Result<PathBuf, Problems> {
    // A daemon may run without a file.
    if path == Path::new(super::CONFIG) && !path.exists() {
        return Ok(Config::empty().state_dir);
    }
    let sources = sources(path)?;
    Ok(config::state_dir(&sources).unwrap_or_else(|| Config::empty().state_dir))
}

/// The file at `path` and those in `conf.d` beside it, in the order of their names.
///
/// # Errors
/// Which one cannot be read.
pub(super) fn sources(path: &Path) -> Result<Vec<Source>, Problems> {
    let read = |path: &Path, remedy: &str| match read_file(path) {
        Ok(bytes) => Ok(Source { name: path.display().to_string(), bytes }),
        Err(error) => {
            let message = format!("cannot read the configuration: {error}; {remedy}");
            Err(Problems::one(&path.display().to_string(), None, message))
        }
    };
    let mut sources = vec![read(path, "name another file with --config FILE")?];
    let dir = further_dir(path);
    let names = further(&dir).map_err(|error| {
        let message = format!(
            "cannot read this directory of the configuration: {error}; let xpxe read it, or remove it"
        );
        Problems::one(&dir.display().to_string(), None, message)
    })?;
    for name in names {
        sources.push(read(&name, "let xpxe read it, or give it a name that does not end in .toml")?);
    }
    Ok(sources)
}

/// The whole of a file. Who opens a pipe that nobody writes waits for ever; one that a shell has made has its writer.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.file_type().is_fifo() && !path.starts_with("/dev") {
        return Err(io::Error::other("it is a pipe (FIFO), not a file"));
    }
    fs::read(path)
}

/// Bytes of a text file that the configuration names; nobody writes longer ones.
const LARGEST_TEXT: u64 = 1 << 20;

/// A text file that the configuration at `path` names: relative to its directory.
///
/// # Errors
/// Why it cannot be read, and what to do.
pub(super) fn text_file(path: &Path, name: &str) -> Result<TextFile, String> {
    let file = path.with_file_name(name);
    let called = file.display().to_string();
    let fail = |error: io::Error| {
        let remedy = match error.kind() {
            ErrorKind::NotFound => "write its path, from the directory of the configuration file or from /",
            ErrorKind::PermissionDenied => "let xpxe read it",
            _ => "name a text file that xpxe can read",
        };
        format!("cannot read {called}: {error}; {remedy}")
    };
    let about = fs::metadata(&file).map_err(fail)?;
    // A device or a pipe may have no end.
    if !about.is_file() || about.len() > LARGEST_TEXT {
        return Err(format!("{called} is no text file of at most 1 MiB; name one"));
    }
    let bytes = fs::read(&file).map_err(fail)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(TextFile { name: called, text }),
        Err(error) => {
            let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
            Err(format!("{called}:{line}: this line is not UTF-8; save the file as UTF-8"))
        }
    }
}

fn further_dir(path: &Path) -> PathBuf {
    path.with_file_name(FURTHER)
}

/// What ends in `.toml`, and is no editor's or package manager's copy.
fn further(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "toml") && !is_hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Faults of the directories, each as a sentence: private files that everybody could download because they are in
/// `boot_dir` (the store, the admin socket, the configuration with its passwords in kernel arguments), and directories that
/// overlap `pin_dir`.
pub(super) fn exposed(config: &Config, file: Option<&Path>) -> Vec<String> {
    let place = config.boot_dir.display();
    let boot_dir = resolved(&config.boot_dir);
    let remedy = "TFTP and HTTP give everybody what is in boot_dir; use a directory that has only boot files";
    if boot_dir == Path::new("/") {
        return vec![format!("boot_dir {place} is the whole file system: {remedy}")];
    }
    let further = file.map(further_dir);
    let private = [
        file.map(|file| ("the configuration", file)),
        further.as_deref().filter(|dir| dir.exists()).map(|dir| ("the configuration", dir)),
        Some(("state_dir", &config.state_dir)),
        Some(("pin_dir", &config.pin_dir)),
    ];
    let templates = config.templates.keys().map(|name| ("the template", Path::new(name)));
    let exposed = private
        .into_iter()
        .flatten()
        .chain(templates)
        .filter(|(_, path)| resolved(path).starts_with(&boot_dir))
        .map(|(what, path)| format!("boot_dir {place} has {what} in it ({}): {remedy}", path.display()));
    exposed.chain(among_pins(config)).collect()
}

/// Directories with files that cannot be in a bpffs, or that would have one in them.
fn among_pins(config: &Config) -> impl Iterator<Item = String> {
    let pins = resolved(&config.pin_dir);
    let place = config.pin_dir.display();
    [("state_dir", &config.state_dir), ("boot_dir", &config.boot_dir)].into_iter().filter_map(move |(what, dir)| {
        let other = resolved(dir);
        let is_said = what == "boot_dir" && pins.starts_with(&other);
        let overlap = !is_said && (other.starts_with(&pins) || pins.starts_with(&other));
        overlap.then(|| {
            format!(
                "pin_dir {place} and {what} {} are one in the other: pin_dir is for programs and tables in a bpffs, which has \
                 no files; give it a directory of its own, /sys/fs/bpf/xpxe for example",
                dir.display()
            )
        })
    })
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
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn files_in_conf_d_are_read_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("xpxe.toml");
        fs::write(&file, "[[interface]]\nname = 'eth1'\ndhcp = 'proxy'\n").unwrap();
        assert_eq!(sources(&file).unwrap().len(), 1, "without the directory");
        let further = dir.path().join("conf.d");
        fs::create_dir(&further).unwrap();
        for (name, mac) in
            [("20.toml", 2), ("10.toml", 1), ("30.toml~", 3), (".40.toml", 4), ("50.toml.dpkg-dist", 5)]
        {
            let text = format!("[[machine]]\nmac = '52:54:00:00:00:0{mac}'\n");
            fs::write(further.join(name), text).unwrap();
        }
        let macs: Vec<u8> =
            load(&file).unwrap().machines.iter().map(|machine| machine.macs[0].0[5]).collect();
        assert_eq!(macs, [1, 2]);
        mkfifo(&further.join("55.toml"), Mode::S_IRWXU).unwrap();
        let said = load(&file).unwrap_err().to_string();
        assert!(said.contains("conf.d/55.toml: cannot read the configuration: it is a pipe"), "{said}");
        fs::remove_file(further.join("55.toml")).unwrap();
        fs::create_dir(further.join("60.toml")).unwrap();
        let said = load(&file).unwrap_err().to_string();
        assert!(said.contains("conf.d/60.toml: cannot read the configuration"), "{said}");
        let boot_dir = further.clone();
        let config = Config { boot_dir, ..Config::empty() };
        assert_eq!(exposed(&config, Some(&file)).len(), 1, "passwords in conf.d are not for everybody");
    }

    #[test]
    fn text_files_are_beside_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("xpxe.toml");
        let interface =
            "[[interface]]\nname = 'eth1'\ndhcp = 'proxy'\n[[profile]]\nname = 'own'\nkernel = 'k'\n";
        let write = |template: &str| {
            fs::write(&file, format!("{interface}template = {template:?}\n")).unwrap();
            load(&file).map_err(|problems| problems.to_string())
        };
        fs::create_dir(dir.path().join("boot")).unwrap();
        fs::write(dir.path().join("own.ipxe"), "#!ipxe\nboot\n").unwrap();
        fs::write(dir.path().join("boot/own.ipxe"), "#!ipxe\nboot\n").unwrap();
        fs::write(dir.path().join("latin1"), b"#!ipxe\n\xe4\n").unwrap();
        let absolute = dir.path().join("own.ipxe").display().to_string();
        for good in ["own.ipxe", "./own.ipxe", &absolute] {
            assert_eq!(write(good).unwrap().templates.len(), 1, "{good}");
        }
        for (wrong, why) in [
            ("other.ipxe", "No such file or directory (os error 2); write its path"),
            ("boot", "is no text file"),
            ("/dev/zero", "is no text file"),
            ("latin1", "latin1:2: this line is not UTF-8"),
        ] {
            let said = write(wrong).unwrap_err();
            assert!(said.contains("xpxe.toml:7: profile[0].template: ") && said.contains(why), "{said}");
        }
        let config = Config { boot_dir: dir.path().join("boot"), ..write("boot/own.ipxe").unwrap() };
        let said = exposed(&config, None).join("\n");
        assert!(
            said.contains("has the template in it"),
            "what is in a template is not for everybody: {said}"
        );
    }

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
        for fine in ["boot", "state/boot", "missing/boot", "stat", "pin"] {
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

    #[test]
    fn pin_dir_is_apart_from_directories_with_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("state")).unwrap();
        symlink(at("state"), at("link")).unwrap();
        let found = |pin_dir: &str| {
            let (state_dir, boot_dir) = (at("state"), at("files/boot"));
            exposed(&Config { boot_dir, state_dir, pin_dir: at(pin_dir), ..Config::empty() }, None)
        };
        for fine in ["pins", "files/pins", "state2"] {
            assert_eq!(found(fine), [""; 0], "{fine}");
        }
        for (wrong, what) in [
            ("state", "state_dir"),
            ("link", "state_dir"),
            ("state/pins", "state_dir"),
            ("files", "boot_dir"),
            ("files/boot", "boot_dir"),
        ] {
            let said = found(wrong).join("\n");
            assert!(said.contains(what) && said.contains("pin_dir"), "{wrong}: {said}");
        }
        assert_eq!(found("").len(), 2, "above both");
    }
}
