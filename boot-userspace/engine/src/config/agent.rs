//! `[agent]`: what xpxe's agent does on machines, as it stands in the file and as what it becomes.

use boot_agent_protocol::{Then, Wipe};

use super::reader::Table;
use super::report::{At, Report, one};
use super::value;

/// `[agent]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    /// `wipe`: how disks are wiped. Default `auto`.
    pub wipe: Wipe,
    /// `then`: what a machine does that has been wiped. Default `reboot`.
    pub then: Then,
}

/// The section as it stands in the file.
#[derive(Default)]
pub(super) struct Written {
    wipe: Option<At<String>>,
    then: Option<At<String>>,
}

const WIPE: [(&str, Wipe); 4] = [
    ("auto", Wipe::Auto),
    ("discard", Wipe::Discard),
    ("format", Wipe::Format),
    ("overwrite", Wipe::Overwrite),
];
const THEN: [(&str, Then); 2] = [("reboot", Then::Reboot), ("power-off", Then::PowerOff)];

/// The section in the file.
pub(super) fn read(top: &Table<'_>, report: &mut Report<'_>) -> Written {
    let Some(table) = top.table("agent", &["wipe", "then"], report) else { return Written::default() };
    Written { wipe: table.text("wipe", "auto", report), then: table.text("then", "reboot", report) }
}

impl Written {
    /// Adds what a further file says.
    pub(super) fn add(&mut self, more: Self, report: &mut Report<'_>) {
        one(&mut self.wipe, more.wipe, report);
        one(&mut self.then, more.then, report);
    }
}

/// The settings.
pub(super) fn check(from: &Written, report: &mut Report<'_>) -> Agent {
    let wipe = from.wipe.as_ref().and_then(|at| at.read(report, |text| value::choice(text, &WIPE)));
    let then = from.then.as_ref().and_then(|at| at.read(report, |text| value::choice(text, &THEN)));
    Agent { wipe: wipe.unwrap_or_default(), then: then.unwrap_or_default() }
}
