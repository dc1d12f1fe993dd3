//! Packages of other Debian suites and architectures, unpacked and never installed: each suite has an apt of its own,
//! whose lists, cache and sources are in one directory. The mirror is that of this machine's apt.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::cmd::Cmd;

/// The keys that sign every suite of Debian's archive.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One suite of Debian's archive, with the packages of these architectures.
pub(super) struct Suite {
    /// The directory of apt's lists, cache and configuration.
    root: PathBuf,
}

impl Suite {
    /// Makes the apt root in `root` and fetches the suite's lists. The first architecture is the one of packages that
    /// are named without one.
    pub(super) fn open(root: &Path, suite: &str, architectures: &[&str]) -> Result<Self> {
        for dir in ["lists/partial", "cache/archives/partial", "parts"] {
            let dir = root.join(dir);
            fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        }
        // Relative names would mean directories below /var or /etc.
        let root = fs::canonicalize(root).with_context(|| format!("find {}", root.display()))?;
        let mirror = mirror(&Cmd::line("apt-get indextargets --format").arg("$(REPO_URI)").read()?)?;
        let write = |name: &str, text: String| {
            let path = root.join(name);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))
        };
        let architectures = architectures.join(",");
        write(
            "sources.list",
            format!("deb [arch={architectures} signed-by={KEYRING}] {mirror} {suite} main\n"),
        )?;
        write("status", String::new())?;
        write("apt.conf", configuration(&root, &architectures))?;
        let suite = Self { root };
        suite
            .apt("apt-get update")
            .run()
            .with_context(|| format!("fetch the package lists from {mirror}"))?;
        Ok(suite)
    }

    /// The newest kernel package that a meta package like `linux-image-amd64` depends on; other packages stand for
    /// themselves.
    pub(super) fn stands_for(&self, package: &str) -> Result<String> {
        let text = self.apt("apt-cache depends").arg(package).read()?;
        let mut depends = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let kernel =
            depends.find(|name| package.starts_with("linux-image-") && name.starts_with("linux-image-"));
        Ok(kernel.unwrap_or(package).to_owned())
    }

    /// Unpacks all files of a package (`name`, or `name:architecture`) below `into`.
    pub(super) fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let downloads = self.root.join("downloads");
        if downloads.exists() {
            fs::remove_dir_all(&downloads).with_context(|| format!("remove {}", downloads.display()))?;
        }
        fs::create_dir_all(&downloads).with_context(|| format!("make {}", downloads.display()))?;
        fs::create_dir_all(into).with_context(|| format!("make {}", into.display()))?;
        // As root, apt warns that it cannot download as another user into this directory, and downloads as root.
        self.apt("apt-get download").arg(package).dir(&downloads).run()?;
        let into = fs::canonicalize(into).with_context(|| format!("find {}", into.display()))?;
        for entry in fs::read_dir(&downloads)? {
            let deb = entry?.path();
            Cmd::line("dpkg-deb --extract").args([deb.to_string_lossy(), into.to_string_lossy()]).run()?;
            fs::remove_file(&deb).with_context(|| format!("remove {}", deb.display()))?;
        }
        Ok(())
    }

    /// An apt command with this machine's settings (a proxy, for example), then the suite's own.
    fn apt(&self, words: &str) -> Cmd {
        Cmd::line(words).arg("--config-file").arg(self.root.join("apt.conf").to_string_lossy())
    }
}

/// apt.conf for an apt that reads and writes below `root` only.
fn configuration(root: &Path, architectures: &str) -> String {
    let root = root.display();
    let native = architectures.split(',').next().unwrap_or_default();
    let quoted = architectures.split(',').map(|name| format!("\"{name}\"; ")).collect::<String>();
    format!(
        "APT::Architecture \"{native}\";\n\
         #clear APT::Architectures;\n\
         APT::Architectures {{ {quoted}}};\n\
         Acquire::Languages \"none\";\n\
         Dir::State::lists \"{root}/lists\";\n\
         Dir::State::status \"{root}/status\";\n\
         Dir::Cache \"{root}/cache\";\n\
         Dir::Etc::SourceList \"{root}/sources.list\";\n\
         Dir::Etc::SourceParts \"{root}/parts\";\n\
         Dir::Etc::PreferencesParts \"{root}/parts\";\n"
    )
}

/// The source of this machine's apt that has all of Debian: neither security updates nor third-party packages.
fn mirror(index_targets: &str) -> Result<String> {
    let is_debian = |uri: &&str| uri.trim_end_matches('/').ends_with("/debian");
    let mirror = index_targets.lines().map(str::trim).find(is_debian);
    mirror
        .map(String::from)
        .context("apt has no source whose address ends with /debian; the sources are listed by\n    apt-get indextargets --format '$(REPO_URI)'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_with_all_of_debian() {
        let targets = "http://a.example/debian-security/\nhttp://b.example/apt\nhttp://a.example/debian/\n";
        assert_eq!(mirror(targets).unwrap(), "http://a.example/debian/");
        assert!(mirror("http://a.example/debian-security/\n").is_err());
    }

    #[test]
    fn the_suites_apt_stays_in_its_directory() {
        let text = configuration(Path::new("/s"), "amd64,arm64");
        assert!(text.starts_with("APT::Architecture \"amd64\";\n"), "{text}");
        assert!(text.contains("{ \"amd64\"; \"arm64\"; };\n"), "{text}");
        for name in ["lists", "status", "cache", "sources.list"] {
            assert!(text.contains(&format!("\"/s/{name}\"")), "{name}: {text}");
        }
    }
}
