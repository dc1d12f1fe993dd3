//! `[[profile]]`, and their names for those that name one.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::checked::Profile;
use super::inherit::{self, Own, lineage, together};
use super::report::{At, Place, Report, once};
use super::value::{MAX_ARGS, did_you_mean, quoted};
use super::{arch, file, name, option, value};

/// The names of the profiles, with where they stand and how long their arguments are.
pub(super) struct ProfileNames<'f> {
    known: HashMap<&'f str, Length>,
    /// Every profile has a name that could be read, so a name that is not known is a mistake.
    complete: bool,
}

/// What there is to boot of a profile.
enum Length {
    /// A kernel with arguments of so many bytes.
    Arguments(usize),
    /// No kernel: others inherit the rest.
    Inherited,
}

pub(super) fn profiles<'f>(
    file: &'f file::File,
    boot_dir: &Path,
    report: &mut Report<'_>,
) -> (BTreeMap<String, Profile>, ProfileNames<'f>) {
    let mut names =
        ProfileNames { known: HashMap::new(), complete: !file.has_profiles || !file.profiles.is_empty() };
    inherit::check(&file.profiles, report);
    let own: Vec<Own> = file.profiles.iter().map(|from| own(from, boot_dir, report)).collect();
    let mut seen = HashMap::new();
    let mut profiles = BTreeMap::new();
    for (position, from) in file.profiles.iter().enumerate() {
        let lineage = lineage(&file.profiles, position);
        let is_kernel_written =
            lineage.iter().any(|at| file.profiles.get(*at).is_some_and(|profile| profile.has_kernel));
        let whole = together(lineage.iter().filter_map(|at| own.get(*at)));
        let name = from.name.as_ref().map(|at| at.value.as_str());
        let mut bases = file.profiles.iter().flat_map(|other| &other.inherit);
        let is_inherited = name.is_some_and(|name| bases.any(|base| base.value == name));
        if !is_kernel_written && !is_inherited {
            let place = Place { key: format!("{}.kernel", from.place.key), line: from.place.line };
            report.add(
                &place,
                "is missing; write kernel = \"talos/vmlinuz\", or inherit a profile that has one",
            );
        }
        let Some(at) = &from.name else {
            names.complete = false;
            continue;
        };
        let profile = whole.rest;
        let architectures = profile.arch.keys().copied().map(Some).chain([None]);
        let longest = architectures.map(|arch| profile.args_of(arch, "").len()).max().unwrap_or(0);
        let length = if is_kernel_written { Length::Arguments(longest) } else { Length::Inherited };
        names.known.insert(&at.value, length);
        if longest > MAX_ARGS {
            let message = format!(
                "has {longest} bytes of arguments with its console and those of an architecture or that it inherits; \
                 shorten them to at most {MAX_ARGS}"
            );
            report.add(&at.place, message);
        }
        if let Some(total) = option::too_long(&profile.options).filter(|_| lineage.len() > 1) {
            let message = format!("has {total} bytes of options with those that it inherits; give it fewer");
            report.add(&at.place, message);
        }
        if let Some(name) = at.read(report, name::profile) {
            once(&mut seen, name.clone(), at, "profile", report);
            profiles.extend(whole.kernel.map(|kernel| (name, Profile { kernel, ..profile })));
        }
    }
    (profiles, names)
}

/// What a profile says for itself.
fn own(from: &file::Profile, boot_dir: &Path, report: &mut Report<'_>) -> Own {
    let kernel = from.kernel.as_ref().and_then(|at| at.read(report, |text| value::image(text, boot_dir)));
    let images = from.initrd.iter().filter_map(|at| at.read(report, |text| value::image(text, boot_dir)));
    let images: Vec<String> = images.collect();
    let args = from.args.as_ref().and_then(|at| at.read(report, value::args)).unwrap_or_default();
    let console = from.console.as_ref().and_then(|at| at.read(report, value::console));
    let arch = arch::check(&from.arch, boot_dir, report);
    let boot_file = from.boot_file.as_ref();
    let boot_file = boot_file.and_then(|at| at.read(report, |text| value::boot_file(text, boot_dir)));
    let options = option::check(&from.options, false, report);
    let rest = Profile { args, console, arch, boot_file, options, ..Profile::default() };
    Own { kernel, initrd: from.has_initrd.then_some(images), rest }
}

impl ProfileNames<'_> {
    /// The name, if there is such a profile.
    pub(super) fn find(&self, name: &str) -> Result<String, String> {
        match self.known.get(name) {
            Some(Length::Arguments(_)) => Ok(name.to_owned()),
            Some(Length::Inherited) => Err(format!(
                "the profile {} has no kernel, so it can only be inherited; name one that has, or give it one",
                quoted(name)
            )),
            None if !self.complete => Ok(name.to_owned()),
            None => {
                let hint = did_you_mean(name, self.known.keys().copied());
                Err(format!(
                    "there is no profile {}{hint}; write a [[profile]] with this name or name another",
                    quoted(name)
                ))
            }
        }
    }

    /// The kernel gets the arguments of the profile, of groups (`between` bytes), and of the machine, with spaces between
    /// them.
    pub(super) fn with_args(
        &self,
        args: &At<String>,
        profile: Option<&str>,
        between: usize,
        report: &mut Report<'_>,
    ) {
        let of_profile = profile.and_then(|name| self.known.get(name));
        let Some(Length::Arguments(of_profile)) = of_profile else { return };
        let total = of_profile + 1 + between + args.value.len();
        if total > MAX_ARGS {
            let what = if between > 0 { "profile and its groups" } else { "profile" };
            let message = format!(
                "has {total} bytes with the arguments of its {what}; shorten it to at most {MAX_ARGS}"
            );
            report.add(&args.place, message);
        }
    }
}
