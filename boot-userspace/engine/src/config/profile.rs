//! `[[profile]]`, and their names for those that name one.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::checked::Profile;
use super::report::{Report, once};
use super::value::{did_you_mean, quoted};
use super::{arch, file, name, option, value};

/// The names of the profiles, with where they stand and how long their arguments are.
pub(super) struct ProfileNames<'f> {
    pub(super) known: HashMap<&'f str, usize>,
    /// Every profile has a name that could be read, so a name that is not known is a mistake.
    complete: bool,
}

pub(super) fn profiles<'f>(
    file: &'f file::File,
    boot_dir: &Path,
    report: &mut Report<'_>,
) -> (BTreeMap<String, Profile>, ProfileNames<'f>) {
    let mut names =
        ProfileNames { known: HashMap::new(), complete: !file.has_profiles || !file.profiles.is_empty() };
    let mut seen = HashMap::new();
    let mut profiles = BTreeMap::new();
    for from in &file.profiles {
        let kernel = from.kernel.as_ref().and_then(|at| at.read(report, |text| value::image(text, boot_dir)));
        let images = from.initrd.iter().filter_map(|at| at.read(report, |text| value::image(text, boot_dir)));
        let initrd = images.collect();
        let args = from.args.as_ref().and_then(|at| at.read(report, value::args)).unwrap_or_default();
        let console = from.console.as_ref().and_then(|at| at.read(report, value::console));
        let arch = arch::check(&from.arch, boot_dir, report);
        let boot_file = from.boot_file.as_ref();
        let boot_file = boot_file.and_then(|at| at.read(report, |text| value::boot_file(text, boot_dir)));
        let options = option::check(&from.options, false, report);
        let Some(at) = &from.name else {
            names.complete = false;
            continue;
        };
        let profile = Profile { kernel: String::new(), initrd, args, console, arch, boot_file, options };
        let architectures = profile.arch.keys().copied().map(Some).chain([None]);
        let longest = architectures.map(|arch| profile.args_of(arch, "").len()).max().unwrap_or(0);
        names.known.insert(&at.value, longest);
        if longest > value::MAX_ARGS {
            let most = value::MAX_ARGS;
            let message = format!(
                "has {longest} bytes of arguments with its console and those of an architecture; shorten them to at most {most}"
            );
            report.add(&at.place, message);
        }
        if let Some(name) = at.read(report, name::profile) {
            once(&mut seen, name.clone(), at, "profile", report);
            profiles.extend(kernel.map(|kernel| (name, Profile { kernel, ..profile })));
        }
    }
    (profiles, names)
}

impl ProfileNames<'_> {
    /// The name, if there is such a profile.
    pub(super) fn find(&self, name: &str) -> Result<String, String> {
        if !self.complete || self.known.contains_key(name) {
            return Ok(name.to_owned());
        }
        let hint = did_you_mean(name, self.known.keys().copied());
        Err(format!(
            "there is no profile {}{hint}; write a [[profile]] with this name or name another",
            quoted(name)
        ))
    }
}
