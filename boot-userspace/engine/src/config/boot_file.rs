//! `[[boot_file]]`: which file firmware gets instead of the built-in choice.

use std::path::Path;

use boot_common::class::Firmware;

use super::checked::{BootFileRule, kinds};
use super::reader::Table;
use super::report::{At, Place, Report};
use super::{bytes, value};

/// A rule as it stands in the file.
pub(super) struct Written {
    place: Place,
    arch: Vec<At<u32>>,
    /// The file says something about it, even if it could not be read.
    has_arch: bool,
    oui: Option<At<String>>,
    has_oui: bool,
    file: Option<At<String>>,
}

impl Written {
    pub(super) fn place(&self) -> &Place {
        &self.place
    }
}

/// The rules in the file.
pub(super) fn read(top: &Table<'_>, report: &mut Report<'_>) -> Vec<Written> {
    let tables = top.tables("boot_file", &["arch", "oui", "file"], report);
    let rule = |table: Table<'_>| Written {
        arch: table.one_or_more_numbers("arch", 0..=u16::MAX.into(), "7", report),
        has_arch: table.has("arch"),
        oui: table.text("oui", "b8:27:eb", report),
        has_oui: table.has("oui"),
        file: table.required_text("file", "custom.efi", report),
        place: table.place,
    };
    tables.into_iter().map(rule).collect()
}

/// The rules in their order.
pub(super) fn check(from: &[Written], boot_dir: &Path, report: &mut Report<'_>) -> Vec<BootFileRule> {
    let mut rules: Vec<BootFileRule> = Vec::new();
    // Only rules whose conditions could be read: the others would seem to be for every machine.
    let mut before: Vec<(Conditions, &Place)> = Vec::new();
    for written in from {
        let arch: Vec<u16> = written.arch.iter().filter_map(|at| at.value.try_into().ok()).collect();
        let oui = written.oui.as_ref().and_then(|at| at.read(report, bytes::oui));
        let file = written.file.as_ref();
        let file = file.and_then(|at| at.read(report, |text| value::boot_file(text, boot_dir)));
        if (written.has_arch && arch.is_empty()) || (written.has_oui && oui.is_none()) {
            continue;
        }
        let conditions = Conditions { kinds: kinds(&arch, oui), oui };
        if let Some((_, place)) = before.iter().find(|(before, _)| before.cover(&conditions)) {
            let place = report.name(place, &written.place);
            let message = format!(
                "is never used, because {place} is for all of its machines; remove it or put it first"
            );
            report.add(&written.place, message);
        }
        before.push((conditions, &written.place));
        rules.extend(file.map(|file| BootFileRule { arch, oui, file }));
    }
    rules
}

/// Which machines a rule is for.
struct Conditions {
    kinds: Vec<Firmware>,
    oui: Option<[u8; 3]>,
}

impl Conditions {
    /// True if these are for all machines that the others are for.
    fn cover(&self, others: &Self) -> bool {
        let kinds = self.kinds.is_empty()
            || (!others.kinds.is_empty() && others.kinds.iter().all(|kind| self.kinds.contains(kind)));
        kinds && (self.oui.is_none() || self.oui == others.oui)
    }
}
