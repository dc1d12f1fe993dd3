//! Profiles that inherit from others.

use std::collections::HashMap;

use super::arch::ArchProfile;
use super::checked::{CustomOption, Profile};
use super::file;
use super::report::Report;
use super::value::{did_you_mean, quoted};

/// The profiles that one inherits, by position: each once, those that it names first before those behind, and itself last.
/// What comes later stands instead of what came before.
pub(super) fn lineage(profiles: &[file::Profile], position: usize) -> Vec<usize> {
    let mut positions = HashMap::new();
    for (position, profile) in profiles.iter().enumerate() {
        if let Some(name) = &profile.name {
            positions.entry(name.value.as_str()).or_insert(position);
        }
    }
    let (mut done, mut met) = (Vec::new(), vec![false; profiles.len()]);
    follow(profiles, &positions, position, &mut met, &mut done);
    done
}

fn follow(
    profiles: &[file::Profile],
    positions: &HashMap<&str, usize>,
    position: usize,
    met: &mut [bool],
    done: &mut Vec<usize>,
) {
    match met.get_mut(position) {
        Some(is_met) if !*is_met => *is_met = true,
        _ => return,
    }
    for base in profiles.get(position).into_iter().flat_map(|profile| &profile.inherit) {
        if let Some(base) = positions.get(base.value.as_str()) {
            follow(profiles, positions, *base, met, done);
        }
    }
    done.push(position);
}

/// Reports what is inherited and is not there, and profiles that inherit themselves.
pub(super) fn check(profiles: &[file::Profile], report: &mut Report<'_>) {
    let names: Vec<&str> =
        profiles.iter().filter_map(|profile| Some(profile.name.as_ref()?.value.as_str())).collect();
    let is_complete = names.len() == profiles.len();
    let mut bases: HashMap<&str, Vec<&str>> = HashMap::new();
    for profile in profiles {
        let Some(name) = &profile.name else { continue };
        for at in &profile.inherit {
            if !names.contains(&at.value.as_str()) {
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
            // What was inherited so far has no circle, so the search ends.
            match way(&bases, &at.value, &name.value) {
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
}

/// How one profile inherits another, from the first to the last.
fn way<'f>(bases: &HashMap<&'f str, Vec<&'f str>>, from: &'f str, to: &str) -> Option<Vec<&'f str>> {
    if from == to {
        return Some(vec![from]);
    }
    let further = bases.get(from)?.iter().find_map(|base| way(bases, base, to))?;
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
        whole.kernel = kernel.clone().or(whole.kernel);
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
