//! Every boot file that is known beforehand, looked at before a machine asks for it.

use std::collections::{BTreeMap, BTreeSet};

use boot_common::class::Firmware;

use super::configured::{Named, named};
use super::inspect::Need;
use super::loader::{LOADERS, candidates, firmware_of};
use super::{BootFiles, Inspection, OpenError, inspect_file, open_trusted};
use crate::config::Config;

/// What is to be said about one boot file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// The file and what it is, or what is wrong with it and what to do: one line.
    pub says: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The file is there and looks right.
    Fine,
    /// Something that the configuration does not name is missing or wrong: an iPXE binary of the system, say.
    Warning,
    /// A file that the configuration names is missing or wrong.
    Error,
}

impl BootFiles {
    /// Looks at every boot file of a configuration, whose files these are: the iPXE binaries that there are, those
    /// of `[ipxe]`, and what profiles, rules and machines name in `boot_dir`.
    #[must_use]
    pub fn survey(&self, config: &Config) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (key, path) in &config.ipxe {
            let need = firmware_of(key).map(Need::of_firmware);
            let looked = open_trusted(path.clone()).map(|file| inspect_file(need, &file));
            let place = path.display().to_string();
            findings.push(finding(Verdict::Error, &format!("{key} in [ipxe]"), &place, looked));
        }
        for loader in LOADERS {
            let Ok(file) = self.open(loader.name) else { continue };
            // Already looked at.
            if config.ipxe.get(loader.key) != Some(&file.path) {
                let looked = Ok(self.inspect_open(loader.name, &file));
                let place = file.path.display().to_string();
                findings.push(finding(Verdict::Warning, loader.name, &place, looked));
            }
        }
        findings.extend(self.without_loader());
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for Named { name, place, .. } in named(config) {
            places.entry(name).or_default().push(place);
        }
        for (name, places) in places {
            let looked = self.open(&name).map(|file| self.inspect_open(&name, &file));
            findings.push(finding(Verdict::Error, &name, &in_short(&places), looked));
        }
        findings
    }

    /// The kinds of machines that nothing could be given to.
    fn without_loader(&self) -> Option<Finding> {
        let missing = |firmware: &Firmware| self.loader_for(*firmware).is_err();
        let firmware = Firmware::ALL.into_iter().filter(|kind| !candidates(*kind).is_empty()).filter(missing);
        let names: BTreeSet<&str> = firmware.flat_map(candidates).copied().collect();
        let mut keys: Vec<&str> = Vec::new();
        for loader in LOADERS.iter().filter(|loader| names.contains(loader.name)) {
            if !keys.contains(&loader.key) {
                keys.push(loader.key);
            }
        }
        (!keys.is_empty()).then(|| Finding {
            verdict: Verdict::Warning,
            says: format!(
                "there is no iPXE binary for {} machines; if there are any, put it into boot_dir or write its path \
                 in [ipxe] (the Debian package ipxe has some of them)",
                keys.join(", ")
            ),
        })
    }
}

/// The first few places, and how many there are besides.
fn in_short(places: &[String]) -> String {
    let (shown, rest) = places.split_at(places.len().min(3));
    let shown = shown.join(", ");
    if rest.is_empty() { shown } else { format!("{shown} and {} more", rest.len()) }
}

/// `place`: where it lies, or what it is for.
fn finding(at_worst: Verdict, name: &str, place: &str, looked: Result<Inspection, OpenError>) -> Finding {
    let wrong = match looked {
        Ok(Inspection { problem: Some(problem), .. }) => problem,
        Ok(fine) => {
            let says = format!("{name} is {} ({place})", fine.with_article());
            return Finding { verdict: Verdict::Fine, says };
        }
        Err(error) => error.to_string(),
    };
    Finding { verdict: at_worst, says: format!("{name} ({place}): {wrong}") }
}
