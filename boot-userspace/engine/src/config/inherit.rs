//! Profiles that inherit from others.

use std::collections::{HashMap, HashSet};

use super::arch::ArchProfile;
use super::boots::Kind;
use super::checked::{CustomOption, Profile};
use super::file;
use super::report::{Place, Report};
use super::value::{did_you_mean, quoted};

/// How many profiles one may inherit, with those that these inherit.
const MOST: usize = 64;

/// Which profiles each inherits.
pub(super) struct Lineages<'f> {
    profiles: &'f [file::Profile],
    positions: HashMap<&'f str, usize>,
}

impl<'f> Lineages<'f> {
    pub(super) fn new(profiles: &'f [file::Profile]) -> Self {
        let mut positions = HashMap::new();
        for (position, profile) in profiles.iter().enumerate() {
            if let Some(name) = &profile.name {
                positions.entry(name.value.as_str()).or_insert(position);
            }
        }
        Self { profiles, positions }
    }

    /// The profiles that one inherits, by position: each once, those that it names first before those behind, and itself
    /// last. What comes later stands instead of what came before. Of too many, which [`check`] reports, not all are there.
    pub(super) fn of(&self, position: usize) -> Vec<usize> {
        let (mut done, mut met) = (Vec::new(), HashSet::new());
        self.follow(position, &mut met, &mut done);
        done
    }

    fn follow(&self, position: usize, met: &mut HashSet<usize>, done: &mut Vec<usize>) {
        // One more than there may be tells that there are too many.
        if met.len() > MOST + 1 || !met.insert(position) {
            return;
        }
        for base in self.profiles.get(position).into_iter().flat_map(|profile| &profile.inherit) {
            if let Some(base) = self.positions.get(base.value.as_str()) {
                self.follow(*base, met, done);
            }
        }
        done.push(position);
    }
}

/// Reports what is inherited and is not there, profiles that inherit themselves, and those that inherit too many.
pub(super) fn check(profiles: &[file::Profile], report: &mut Report<'_>) {
    let names: Vec<&str> =
        profiles.iter().filter_map(|profile| Some(profile.name.as_ref()?.value.as_str())).collect();
    let known: HashSet<&str> = names.iter().copied().collect();
    let is_complete = names.len() == profiles.len();
    let mut bases: HashMap<&str, Vec<&str>> = HashMap::new();
    for profile in profiles {
        let Some(name) = &profile.name else { continue };
        for at in profile.inherit.iter().take(MOST + 1) {
            if !known.contains(at.value.as_str()) {
                if is_complete {
                    let hint = did_you_mean(&at.value, names.iter().copied());
                    let message = format!(
                        "there is no profile {}{hint}; write a [[profile]] with this name or inherit another",
                        quoted(&at.value)
                    );
                    report.add(&at.place, message);
                }
                continue;
            }
            // What was inherited so far has no circle.
            let mut met = HashSet::new();
            match way(&bases, &at.value, &name.value, &mut met) {
                Some(way) => {
                    let circle: Vec<&str> = std::iter::once(name.value.as_str()).chain(way).collect();
                    let message = format!(
                        "goes round in a circle: {}; remove one of these from inherit",
                        circle.join(" inherits ")
                    );
                    report.add(&at.place, message);
                }
                None => bases.entry(&name.value).or_default().push(&at.value),
            }
        }
    }
    let lineages = Lineages::new(profiles);
    for (position, profile) in profiles.iter().enumerate() {
        if profile.inherit.len() > MOST || lineages.of(position).len() > MOST + 1 {
            let place = Place { key: format!("{}.inherit", profile.place.key), line: profile.place.line };
            let message = format!(
                "inherits more than {MOST} profiles, with those that these inherit; write what they have in common \
                 into fewer"
            );
            report.add(&place, message);
        }
    }
}

/// How one profile inherits another, from the first to the last. Who inherits too many is not searched to the end.
fn way<'f>(
    bases: &HashMap<&'f str, Vec<&'f str>>,
    from: &'f str,
    to: &str,
    met: &mut HashSet<&'f str>,
) -> Option<Vec<&'f str>> {
    if from == to {
        return Some(vec![from]);
    }
    if met.len() > MOST || !met.insert(from) {
        return None;
    }
    let further = bases.get(from)?.iter().find_map(|base| way(bases, base, to, met))?;
    Some(std::iter::once(from).chain(further).collect())
}

/// What one profile says for itself.
#[derive(Clone)]
pub(super) struct Own {
    pub(super) kernel: Option<String>,
    pub(super) initrd: Option<Vec<String>>,
    /// `kernel` is empty here.
    pub(super) rest: Profile,
}

/// A profile with what it inherits; `None` in place of its kernel if none has one.
pub(super) fn together<'p>(lineage: impl Iterator<Item = &'p Own>) -> Own {
    let mut whole = Own { kernel: None, initrd: None, rest: Profile::default() };
    for Own { kernel, initrd, rest } in lineage {
        if let Some(kernel) = kernel {
            whole.kernel = Some(kernel.clone());
            // Kernels and initrds of an architecture go with a kernel.
            if rest.kind != Kind::Linux || rest.menu.is_some() {
                whole.initrd = None;
                whole.rest.arch.values_mut().for_each(|of| (of.kernel, of.initrd) = (None, None));
            }
            (whole.rest.kind, whole.rest.menu) = (rest.kind, rest.menu.clone());
        }
        whole.initrd = initrd.clone().or(whole.initrd);
        let Profile { args, console, arch, boot_file, options, template, documents, .. } = rest;
        let into = &mut whole.rest;
        append(&mut into.args, args);
        into.console = console.clone().or(into.console.take());
        into.documents.put(documents);
        into.template = template.clone().or(into.template.take());
        into.boot_file = boot_file.clone().or(into.boot_file.take());
        for (arch, of) in arch {
            let ArchProfile { kernel, initrd, args, console } = of;
            let into = into.arch.entry(*arch).or_default();
            into.kernel = kernel.clone().or(into.kernel.take());
            into.initrd = initrd.clone().or(into.initrd.take());
            into.console = console.clone().or(into.console.take());
            append(&mut into.args, args);
        }
        let is_same =
            |one: &CustomOption, other: &CustomOption| (one.code, one.client) == (other.code, other.client);
        into.options.retain(|before| !options.iter().any(|option| is_same(before, option)));
        into.options.extend(options.iter().cloned());
    }
    whole.rest.initrd = whole.initrd.clone().unwrap_or_default();
    whole
}

/// Arguments behind others.
fn append(args: &mut String, more: &str) {
    if !args.is_empty() && !more.is_empty() {
        args.push(' ');
    }
    args.push_str(more);
}
