//! `[[profile]]`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::checked::Profile;
use super::inherit::{self, Lineages, Own, together};
use super::profile_names::{Length, ProfileNames};
use super::report::{Place, Report, once};
use super::texts::{Texts, Use};
use super::value::MAX_ARGS;
use super::{arch, boots_check, documents, file, image, name, option, value};

pub(super) fn profiles<'f>(
    file: &'f file::File,
    boot_dir: &Path,
    texts: &mut Texts<'_>,
    report: &mut Report<'_>,
) -> (BTreeMap<String, Profile>, ProfileNames<'f>) {
    let mut names =
        ProfileNames { known: HashMap::new(), complete: !file.has_profiles || !file.profiles.is_empty() };
    inherit::check(&file.profiles, report);
    let own: Vec<Own> = file.profiles.iter().map(|from| own(from, boot_dir, texts, report)).collect();
    let lineages = Lineages::new(&file.profiles);
    let inherited: HashSet<&str> =
        file.profiles.iter().flat_map(|other| &other.inherit).map(|base| base.value.as_str()).collect();
    let mut seen = HashMap::new();
    let mut profiles = BTreeMap::new();
    for (position, from) in file.profiles.iter().enumerate() {
        let lineage = lineages.of(position);
        let is_kernel_written =
            lineage.iter().any(|at| file.profiles.get(*at).is_some_and(|profile| profile.boots.says()));
        let whole = together(lineage.iter().filter_map(|at| own.get(*at)));
        let name = from.name.as_ref().map(|at| at.value.as_str());
        let is_inherited = name.is_some_and(|name| inherited.contains(name));
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
        boots_check::check(from, &whole, report);
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
            let inherits = from.inherit.iter().map(|base| base.value.clone()).collect();
            profiles.extend(whole.kernel.map(|kernel| (name, Profile { inherits, kernel, ..profile })));
        }
    }
    for from in &file.profiles {
        let is_menu = |name: &str| profiles.get(name).is_some_and(|profile| profile.menu.is_some());
        boots_check::check_menu(from, &names, is_menu, report);
    }
    (profiles, names)
}

/// What a profile says for itself.
fn own(from: &file::Profile, boot_dir: &Path, texts: &mut Texts<'_>, report: &mut Report<'_>) -> Own {
    let (kernel, kind, menu) = boots_check::own(from, boot_dir, report);
    let images = from.initrd.iter().filter_map(|at| at.read(report, |text| image::kernel(text, boot_dir)));
    let images: Vec<String> = images.collect();
    let args = from.args.as_ref().and_then(|at| at.read(report, |text| texts.args(text))).unwrap_or_default();
    let console = from.console.as_ref().and_then(|at| at.read(report, value::console));
    let arch = arch::check(&from.arch, boot_dir, texts, report);
    let boot_file = from.boot_file.as_ref();
    let boot_file = boot_file.and_then(|at| at.read(report, |text| value::boot_file(text, boot_dir)));
    let options = option::check(&from.options, false, report);
    let template = from.template.as_ref().and_then(|at| texts.file(at, Use::Script, report));
    let documents = documents::check(&from.documents, texts, report);
    let rest = Profile {
        kind,
        menu,
        args,
        console,
        arch,
        boot_file,
        options,
        template,
        documents,
        ..Profile::default()
    };
    Own { kernel, initrd: from.has_initrd.then_some(images), rest }
}
