//! One boot of one machine: its steps, and where the next boot begins.

use std::net::Ipv4Addr;

use boot_common::Mac;
use boot_common::class::{Class, Stage};
use serde::{Deserialize, Serialize};

use super::steps::{By, Given, Uuid, What};

/// How many different steps of one boot are kept; a boot has about a dozen, and an installer may fetch hundreds of files.
pub const MOST_STEPS: usize = 64;
/// Of more, so many of the first are kept, which show how the boot came to its kernel. The others are the newest.
const FIRST_STEPS: usize = MOST_STEPS / 2;
/// How many steps beside one boot are kept: a machine goes through half a dozen states.
const MOST_BESIDE: usize = 32;
/// How many of them are what its agent said: it may say as much as it likes, and what was done with the machine stays.
const MOST_PROGRESS: usize = 8;
/// After so many milliseconds without a step, the next one of firmware is of another boot.
const SILENCE: u64 = 90_000;

/// A step with its time. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// When it happened first.
    pub at: u64,
    /// When it happened last.
    pub last: u64,
    /// How often it happened in a row.
    pub count: u32,
    /// Who did it.
    pub by: By,
    /// For how many seconds the machine had asked by then, as it said; 0: that is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub secs: u16,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(secs: &u16) -> bool {
    *secs == 0
}

impl Timed {
    /// The step in words.
    #[must_use]
    pub fn says(&self) -> String {
        match self.secs {
            0 => self.what.to_string(),
            secs => format!("{}; it had asked for {secs} s by then", self.what),
        }
    }

    /// The UUID that the machine shows in it.
    pub(super) fn uuid(&self) -> Option<Uuid> {
        match self.what {
            What::ScriptSent { uuid } => uuid,
            _ => None,
        }
    }
}

/// One boot of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// The machine.
    #[serde(with = "super::mac_text")]
    pub mac: Mac,
    /// The interface that it was heard on first.
    pub link: Option<Box<str>>,
    /// The relay that it was heard through, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<Ipv4Addr>,
    /// When it began.
    pub opened: u64,
    /// Whether it is over: the machine reported, or began another boot.
    pub is_over: bool,
    /// The steps, in their order.
    pub steps: Vec<Timed>,
    /// How many steps more there were than are kept.
    pub more: u32,
    /// What was done with the machine meanwhile, in its order: no cause is looked for there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<Timed>,
}

/// What a step has come to in its boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It is a further one.
    Further,
    /// It says of an earlier one how that ended.
    Ending,
    /// It is counted only, or has an earlier one's place.
    Counted,
}

impl Boot {
    /// Whether the machine has got more than an offer: an address, a file, or a script.
    pub(super) fn got_something(&self) -> bool {
        self.steps.iter().any(|step| {
            matches!(
                step.what,
                What::Answered { given: Given::Ack | Given::Bootp, .. } | What::ScriptSent { .. }
            ) || step.what.sent().is_some()
        })
    }

    /// How many steps are kept, those beside it too.
    pub(super) fn len(&self) -> usize {
        self.steps.len() + self.beside.len()
    }

    /// The steps and what was done beside them, in the order of their times.
    #[must_use]
    pub fn all_steps(&self) -> Vec<&Timed> {
        let mut all: Vec<&Timed> = self.beside.iter().chain(&self.steps).collect();
        all.sort_by_key(|step| step.at);
        all
    }

    /// When something happened last.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.steps.iter().map(|step| step.last).max().unwrap_or(self.opened)
    }

    /// The UUID that the machine has shown last.
    #[must_use]
    pub fn uuid(&self) -> Option<Uuid> {
        self.steps.iter().rev().find_map(Timed::uuid)
    }

    /// Adds what was done beside it. The newest are kept.
    pub(super) fn add_beside(&mut self, step: Timed) -> Added {
        if let Some(last) = self.beside.last_mut()
            && step.what.repeats(&last.what)
        {
            *last = Timed { at: last.at, count: last.count.saturating_add(1), ..step };
            return Added::Counted;
        }
        self.beside.push(step);
        let is_said = |step: &Timed| matches!(step.what, What::Progress { .. });
        let said = self.beside.iter().filter(|step| is_said(step)).count();
        let leaves = if said > MOST_PROGRESS {
            self.beside.iter().position(is_said)
        } else {
            (self.beside.len() > MOST_BESIDE).then_some(0)
        };
        let Some(leaves) = leaves else { return Added::Further };
        self.beside.remove(leaves);
        self.more = self.more.saturating_add(1);
        Added::Ending
    }

    pub(super) fn add(&mut self, step: Timed) -> Added {
        let Timed { at, by, what, secs, .. } = step;
        // What was asked for and is sent now is one step.
        if let What::FileSent { file, .. } | What::FileCut { file, .. } = &what
            && let Some(asked) = self
                .steps
                .iter_mut()
                .rev()
                .find(|step| matches!(&step.what, What::FileAsked { file: other } if other == file))
        {
            *asked = Timed { at: asked.at, last: at, count: asked.count, by, secs, what };
            return Added::Ending;
        }
        // A missing loader is told with every message.
        let is_told_often = matches!(what, What::NoLoader { .. });
        let same = |step: &&mut Timed| what.repeats(&step.what);
        let found = if is_told_often {
            self.steps.iter_mut().rev().find(same)
        } else {
            self.place_of(at).checked_sub(1).and_then(|before| self.steps.get_mut(before)).filter(same)
        };
        if let Some(step) = found {
            step.last = step.last.max(at);
            step.count = step.count.saturating_add(1);
            step.what = what;
            return Added::Counted;
        }
        let is_full = self.steps.len() >= MOST_STEPS;
        if is_full {
            self.make_room();
        }
        self.steps.insert(self.place_of(at), Timed { at, last: at, count: 1, by, secs, what });
        if is_full { Added::Counted } else { Added::Further }
    }

    /// Where a step of this time belongs: the kernel half's are heard later than what the daemon does.
    fn place_of(&self, at: u64) -> usize {
        self.steps.iter().rposition(|step| step.at <= at).map_or(0, |before| before + 1)
    }

    /// Takes out the step that says least of how the boot ends: so its end is known however much comes before.
    fn make_room(&mut self) {
        let later = self.steps.iter().enumerate().skip(FIRST_STEPS);
        let Some((leaves, _)) = later.min_by_key(|(_, step)| worth(&step.what)) else { return };
        self.steps.remove(leaves);
        self.more = self.more.saturating_add(1);
    }

    /// Whether this step is the first one of another boot.
    pub(super) fn is_followed_by(&self, at: u64, what: &What) -> bool {
        if self.is_over {
            // A second report, or an operating system that renews its lease, is still of this boot.
            return begins_one(what) && !is_by_http(what);
        }
        let is_silent = at > self.last().saturating_add(SILENCE);
        let What::Answered { given: Given::Offer | Given::Bootp, class, .. } = what else {
            return is_silent && begins_one(what);
        };
        let Some(class) = Class::from_key(*class) else { return false };
        if class.stage == Stage::Os {
            return false;
        }
        let first = self.steps.iter().find_map(|step| step.what.class());
        let has_file = self.steps.iter().any(|step| {
            step.what.sent().is_some()
                || matches!(step.what, What::ScriptSent { .. } | What::FileAsked { .. })
        });
        // The firmware is at its beginning again: the machine was reset.
        is_silent || has_file && first == Some(class)
    }
}

/// What leaves first, of a boot with too many steps: names that are not there, which anybody can make up, then files.
fn worth(what: &What) -> u8 {
    match what {
        What::TftpMissing { .. } | What::FileMissing { .. } => 0,
        What::TftpSent { .. } | What::FileSent { .. } | What::FileAsked { .. } => 1,
        _ => 2,
    }
}

/// Whether a step can be the first of a boot: what an operating system does is none.
pub(super) fn begins_one(what: &What) -> bool {
    match what {
        What::Answered { .. } | What::TookElsewhere { .. } => {
            what.class().is_some_and(|class| class.stage != Stage::Os)
        }
        What::DocumentSent { .. }
        | What::NoDocument { .. }
        | What::PhoneHome { .. }
        | What::OtherFile { .. } => false,
        _ => true,
    }
}

/// A running operating system may ask for files, too.
pub(super) fn is_by_http(what: &What) -> bool {
    matches!(
        what,
        What::FileAsked { .. }
            | What::FileSent { .. }
            | What::FileMissing { .. }
            | What::FileCut { .. }
            | What::NoTls { .. }
    )
}
