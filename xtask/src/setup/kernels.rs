//! Debian's kernels of several releases, to run xpxe on in QEMU: unpacked, not installed.
//!
//! apt gets a root of its own for them, with the package lists of all those releases, so that this machine's own apt does
//! not change.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::unpack;
use crate::cmd::Cmd;

/// The releases to search.
const RELEASES: [&str; 3] = ["bookworm", "trixie", "sid"];
/// The release with the newest kernel.
pub(crate) const NEWEST: &str = "newest";
/// The versions that CI runs: the oldest kernel that the fast path supports, and one with both hooks.
pub(crate) const USUAL: [&str; 2] = ["6.1", "6.12"];

/// The usual kernels that are missing.
pub(super) fn missing(dir: &Path) -> Vec<String> {
    USUAL.map(String::from).into_iter().filter(|version| !is_there(dir, version)).collect()
}

fn is_there(dir: &Path, version: &str) -> bool {
    dir.join(version).join("version").is_file()
}

/// Makes `DIR/VERSION` for each missing version: the kernel, its modules and its full version.
///
/// # Errors
/// No package sources, or no kernel of that version in them.
pub(crate) fn install(dir: &Path, versions: &[String]) -> Result<()> {
    let wanted: Vec<&String> = versions.iter().filter(|version| !is_there(dir, version)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let apt = Apt::prepare(&dir.join("apt"))?;
    let names = apt.cache("pkgnames").arg("linux-image-").read()?;
    for version in wanted {
        let Some(image) = image(&names, version) else {
            bail!(
                "no package of Linux {version} in {}: there are {}",
                RELEASES.join(", "),
                available(&names).join(", ")
            );
        };
        // From Linux 7.2 on the kernel and its modules are packages of their own.
        let depends = apt.cache("depends").arg(&image).read()?;
        let of = |line: &str| line.trim().strip_prefix("Depends: ").map(String::from);
        let parts = depends.lines().filter_map(of);
        let parts = parts
            .filter(|name| ["linux-binary-", "linux-modules-"].iter().any(|part| name.starts_with(part)));
        let packages: Vec<String> = std::iter::once(image.clone()).chain(parts).collect();
        let to = dir.join(version);
        unpack::kernel(&to, &apt.get("download").args(packages), unpack::Modules::AsFarAsThere)?;
        unpack::finish(&to, &image)?;
    }
    Ok(())
}

/// apt with lists of its own.
struct Apt(PathBuf);

impl Apt {
    fn prepare(root: &Path) -> Result<Self> {
        for dir in ["lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(root.join(dir))
                .with_context(|| format!("make {}", root.join(dir).display()))?;
        }
        fs::write(root.join("sources.list"), sources()?).context("write apt's sources")?;
        let apt = Self(root.to_owned());
        apt.get("update").run()?;
        Ok(apt)
    }

    fn get(&self, verb: &str) -> Cmd {
        self.with("apt-get", verb)
    }

    fn cache(&self, verb: &str) -> Cmd {
        self.with("apt-cache", verb)
    }

    fn with(&self, program: &str, verb: &str) -> Cmd {
        let path = |name: &str| self.0.join(name).to_string_lossy().into_owned();
        let options = [
            format!("Dir::Etc::sourcelist={}", path("sources.list")),
            format!("Dir::Etc::sourceparts={}", path("parts")),
            format!("Dir::State::lists={}", path("lists")),
            format!("Dir::Cache={}", path("cache")),
            "Acquire::Languages=none".into(),
        ];
        Cmd::line(program).args(options.into_iter().flat_map(|option| ["-o".into(), option])).arg(verb)
    }
}

/// Sources for all the releases, from where this machine takes Debian's packages; security updates as far as it does.
fn sources() -> Result<String> {
    let ask =
        Cmd::line("apt-get indextargets --format").args(["$(LABEL) $(REPO_URI)", "Identifier: Packages"]);
    let found = ask.probe().unwrap_or_default();
    let sources = sources_by(&found);
    if sources.is_empty() {
        bail!(
            "apt has no source of Debian's own packages, which have the kernels, or has not looked:\n    apt-get update"
        );
    }
    Ok(sources)
}

fn sources_by(targets: &str) -> String {
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let at = |label: &str| targets.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(' '));
    let line = |mirror: &str, suite: String| format!("deb [signed-by={keys}] {mirror} {suite} main\n");
    let Some(mirror) = at("Debian") else { return String::new() };
    let all = RELEASES.map(|release| line(mirror, release.into())).concat();
    // sid has none.
    let stable = RELEASES.iter().filter(|release| **release != "sid");
    let updates =
        at("Debian-Security").map(|mirror| stable.map(|release| line(mirror, format!("{release}-security"))));
    all + &updates.into_iter().flatten().collect::<String>()
}

/// The newest kernel of a version, which may be `newest`.
fn image(names: &str, version: &str) -> Option<String> {
    let of_version = |found: &&(Vec<u32>, &str)| {
        version == NEWEST
            || found
                .1
                .trim_start_matches(PREFIX)
                .strip_prefix(version)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    images(names).iter().filter(of_version).max().map(|(_, name)| (*name).into())
}

fn available(names: &str) -> Vec<String> {
    let mut all = images(names);
    all.sort_unstable();
    all.iter().map(|(_, name)| name.trim_start_matches(PREFIX).trim_end_matches(FLAVOUR).into()).collect()
}

const PREFIX: &str = "linux-image-";
/// Small kernels with all drivers of virtual machines.
const FLAVOUR: &str = "-cloud-amd64";

/// Kernel packages with their numbers, by which they are ordered.
fn images(names: &str) -> Vec<(Vec<u32>, &str)> {
    let numbers = |name: &str| -> Option<Vec<u32>> {
        let version = name.strip_prefix(PREFIX)?.strip_suffix(FLAVOUR)?;
        let numbers =
            version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect::<Vec<u32>>();
        (numbers.len() > 1 && !version.contains("rc")).then_some(numbers)
    };
    names.lines().filter_map(|name| Some((numbers(name)?, name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "linux-image-cloud-amd64\nlinux-image-6.1.0-9-cloud-amd64\nlinux-image-6.1.0-56-cloud-amd64\n\
        linux-image-6.1.0-56-amd64\nlinux-image-6.12.117+deb13-cloud-amd64\nlinux-image-7.2.13+deb14-cloud-amd64\n\
        linux-image-7.2.13+deb14-cloud-amd64-unsigned\n";

    #[test]
    fn sources_are_this_machines() {
        let sources = sources_by("Debian http://mirror/debian/\nDebian-Security http://mirror/security/\n");
        assert!(sources.contains("] http://mirror/debian/ sid main\n"), "{sources}");
        assert!(sources.contains("] http://mirror/security/ bookworm-security main\n"), "{sources}");
        assert_eq!(sources.lines().count(), 5);
        assert_eq!(sources_by("Other http://else/\n"), "");
    }

    #[test]
    fn the_newest_of_a_version_is_found_by_numbers() {
        assert_eq!(image(NAMES, "6.1").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(image(NAMES, "6.12").as_deref(), Some("linux-image-6.12.117+deb13-cloud-amd64"));
        assert_eq!(image(NAMES, NEWEST).as_deref(), Some("linux-image-7.2.13+deb14-cloud-amd64"));
        assert_eq!(image(NAMES, "6.6"), None);
        assert_eq!(available(NAMES), ["6.1.0-9", "6.1.0-56", "6.12.117+deb13", "7.2.13+deb14"]);
    }
}
