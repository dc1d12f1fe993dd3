//! Every boot file that is known beforehand, looked at before a machine asks for it.

use std::collections::{BTreeMap, BTreeSet};
use std::{fs, io};

use boot_common::class::Firmware;

use super::configured::{Named, named};
use super::inspect::Need;
use super::loader::{LOADERS, Loader, candidates, firmware_of};
use super::path::tidy;
use super::secure_boot::{Judgement, Program, Shim, directory};
use super::unlisted::{self, Unlisted};
use super::{BootFiles, Inspection, OpenError, OpenFile, inspect_file, open_trusted, what_to_do_about};
use boot_engine::config::Config;

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
    /// A file that the configuration names, or that machines get from `boot_dir` without that, is missing or wrong.
    Error,
}

impl BootFiles {
    /// Looks at every boot file of a configuration, whose files these are: the iPXE binaries that there are, those
    /// of `[ipxe]`, what profiles, rules and machines name in `boot_dir`, and what else lies there and has a boot
    /// file's name.
    #[must_use]
    pub fn audit(&self, config: &Config) -> Vec<Finding> {
        let mut looks: Vec<Look> = Vec::new();
        let mut seen = BTreeSet::new();
        looks.extend(self.without_directory(config).map(Look::from));
        for (key, path) in &config.ipxe {
            let need = firmware_of(key).map(Need::of_firmware);
            let looked = open_trusted(path.clone()).map(|file| (inspect_file(need, &file), file));
            let place = path.display().to_string();
            looks.push(look(Verdict::Error, &format!("{key} in [ipxe]"), &place, looked));
        }
        for loader in LOADERS {
            let Ok(file) = self.open(loader.name) else { continue };
            // Already looked at.
            if config.ipxe.get(loader.key) != Some(&file.path) {
                let is_own = file.path.starts_with(&self.boot_dir);
                let is_delivered = self.loader_for(loader.firmware) == Ok(loader.name);
                let at_worst = if is_own && is_delivered { Verdict::Error } else { Verdict::Warning };
                let mut looked = self.inspect_open(loader.name, &file);
                if let (true, Some(problem)) = (is_own, &mut looked.problem) {
                    problem.push_str(&self.instead_of(loader));
                }
                let place = file.path.display().to_string();
                looks.push(look(at_worst, loader.name, &place, Ok((looked, file))));
                seen.insert(loader.name.to_owned());
            }
        }
        looks.extend(self.without_loader().map(Look::from));
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for Named { name, place, .. } in named(config) {
            places.entry(name).or_default().push(place);
        }
        for (name, places) in places {
            let looked = self.open(&name).map(|file| (self.inspect_open(&name, &file), file));
            looks.push(look(Verdict::Error, &name, &in_short(&places), looked));
            seen.extend(tidy(&name).map(|name| name.to_ascii_lowercase()));
        }
        let Unlisted { names, complete } = unlisted::look(&self.boot_dir);
        for name in names.iter().filter(|name| !seen.contains(&name.to_ascii_lowercase())) {
            let looked = self.open(name).map(|file| (self.inspect_open(name, &file), file));
            let place = self.boot_dir.join(name).display().to_string();
            looks.push(look(Verdict::Warning, name, &place, looked));
        }
        if !complete {
            let says = format!("{} has more files than were looked at", self.boot_dir.display());
            looks.push(Finding { verdict: Verdict::Fine, says }.into());
        }
        self.judge(&looks)
    }

    /// Says of each program who has signed it, and what that means beside the shims that there are.
    fn judge(&self, looks: &[Look]) -> Vec<Finding> {
        let shims: Vec<Shim<'_>> =
            looks.iter().filter_map(|look| look.program.as_ref()?.as_shim(&look.name)).collect();
        let says = |look: &Look| {
            let mut finding = look.finding.clone();
            let Some(program) = &look.program else { return finding };
            let Judgement { mut says, mut is_bad } = program.judge(&look.name, &shims);
            if let Some(second) = program.second_stage()
                && self.open(&format!("{}/{second}", directory(&look.name))).is_err()
            {
                is_bad = true;
                says += &format!(
                    "; it is a shim, and {second}, which it loads, is not beside it: put the signed GRUB or iPXE there by \
                         that name"
                );
            }
            finding.says += &format!("; {says}");
            if is_bad {
                finding.verdict = Verdict::Warning;
            }
            finding
        };
        looks.iter().map(says).collect()
    }

    /// Where boot files belong is no directory that could be read.
    fn without_directory(&self, config: &Config) -> Option<Finding> {
        let error = fs::read_dir(&self.boot_dir).err()?;
        let is_chosen = config.boot_dir != config.state_dir.join("boot");
        let verdict = match error.kind() {
            // Without a word about it the system's iPXE binaries may be all that is wanted.
            io::ErrorKind::NotFound if !is_chosen => Verdict::Warning,
            _ => Verdict::Error,
        };
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => {
                "make it and put boot files into it, or set boot_dir to where they are"
            }
            io::ErrorKind::NotADirectory => "set boot_dir to the directory with the boot files",
            _ => what_to_do_about(&error),
        };
        let says = format!("boot_dir {} cannot be read: {error}; {remedy}", self.boot_dir.display());
        Some(Finding { verdict, says })
    }

    /// The other way out, where a binary in `boot_dir` hides a good one.
    fn instead_of(&self, loader: &Loader) -> String {
        let is_good = |file: &OpenFile| self.inspect_open(loader.name, file).problem.is_none();
        match self.open_loader(loader).filter(is_good) {
            Some(file) => format!(", or remove it: {} is good", file.path.display()),
            None => String::new(),
        }
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

/// One finding, with what the signatures are judged by.
struct Look {
    finding: Finding,
    /// The name that the file is served as.
    name: String,
    program: Option<Program>,
}

impl From<Finding> for Look {
    fn from(finding: Finding) -> Self {
        Self { finding, name: String::new(), program: None }
    }
}

/// `place`: where it lies, or what it is for.
fn look(
    at_worst: Verdict,
    name: &str,
    place: &str,
    looked: Result<(Inspection, OpenFile), OpenError>,
) -> Look {
    let looked = looked.and_then(|(inspection, file)| match &inspection.problem {
        Some(_) => Ok((inspection, None)),
        None => match Program::read(&file) {
            Ok(program) => Ok((inspection, program)),
            Err(error) => Err(OpenError::Io { path: file.path, error }),
        },
    });
    let wrong = match looked {
        Ok((Inspection { problem: Some(problem), .. }, _)) => problem,
        Ok((fine, program)) => {
            let says = format!("{name} is {} ({place})", fine.with_article());
            let finding = Finding { verdict: Verdict::Fine, says };
            return Look { finding, name: name.to_owned(), program };
        }
        Err(error) => error.to_string(),
    };
    Finding { verdict: at_worst, says: format!("{name} ({place}): {wrong}") }.into()
}
