//! How far a boot has come, in one word: what a wall of machines is coloured by.

use boot_common::class::Stage;
use serde::{Deserialize, Serialize};

use super::boot::Boot;
use super::causes::Cause;
use super::steps::{Given, What};

/// How far a boot has come.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
#[schema(as = BootProgress)]
pub enum Progress {
    /// The machine was not heard.
    #[default]
    Silent,
    /// Its firmware asks for an address.
    Address,
    /// It fetches its loader, or has it.
    Loader,
    /// It has its script, or asks for it.
    Script,
    /// It fetches its operating system, or runs it.
    System,
    /// It has booted.
    Up,
}

impl Progress {
    /// What one step shows, without those before it.
    #[must_use]
    pub fn shown_by(what: &What) -> Self {
        match what {
            What::TftpSent { .. }
            | What::TftpMissing { .. }
            | What::TftpStalled { .. }
            | What::TftpAborted { .. }
            | What::NoTls { .. } => Self::Loader,
            What::ScriptSent { .. } | What::NoScript { .. } => Self::Script,
            What::FileAsked { .. }
            | What::FileSent { .. }
            | What::FileMissing { .. }
            | What::FileCut { .. }
            | What::DocumentSent { .. }
            | What::NoDocument { .. } => Self::System,
            What::PhoneHome { success: true, .. } => Self::Up,
            What::PhoneHome { success: false, .. } => Self::System,
            _ => match what.class().map(|class| class.stage) {
                Some(Stage::Ipxe | Stage::ReducedIpxe) => Self::Loader,
                Some(Stage::Os) => Self::System,
                _ => Self::Address,
            },
        }
    }

    /// What a whole boot has come to, with this verdict.
    #[must_use]
    pub fn of(boot: &Boot, cause: Option<Cause>) -> Self {
        if cause == Some(Cause::Boots) {
            return Self::Up;
        }
        let mut furthest = Self::Silent;
        for step in &boot.steps {
            let shown = match Self::shown_by(&step.what) {
                // Firmware that boots by HTTP fetches its loader as others fetch a kernel.
                Self::System if is_file(&step.what) && furthest < Self::Loader => Self::Loader,
                shown => shown,
            };
            furthest = furthest.max(shown);
        }
        furthest
    }
}

fn is_file(what: &What) -> bool {
    matches!(
        what,
        What::FileAsked { .. } | What::FileSent { .. } | What::FileMissing { .. } | What::FileCut { .. }
    )
}

/// Milliseconds in which firmware gathers its first offers (EDK2, and the PXE ROMs after the specification).
const FIRST_WINDOW: u64 = 4000;

impl Boot {
    /// Whether the firmware had an offer in its first window and did not have to ask for another one; none if it has
    /// got no offer, which may be another server's business.
    #[must_use]
    pub fn is_answered_at_once(&self) -> Option<bool> {
        let is_offer = |what: &What| {
            matches!(what, What::Answered { given: Given::Offer, .. }) && what.is_answer_to(Stage::Rom)
        };
        let offer = self.steps.iter().find(|step| is_offer(&step.what))?;
        Some(offer.at.saturating_sub(self.opened) < FIRST_WINDOW && offer.last - offer.at < FIRST_WINDOW)
    }
}

impl Cause {
    /// Whether somebody has to do something about it.
    #[must_use]
    pub fn is_wrong(self) -> bool {
        !matches!(
            self,
            Self::Boots
                | Self::UnderWay
                | Self::OutOfSight
                | Self::NeverAsked
                | Self::NotAllocated
                | Self::FromDisk
                | Self::InMaintenance
                | Self::Ignored
        )
    }
}

#[cfg(test)]
mod tests {
    use boot_common::Mac;
    use boot_common::class::{Class, Firmware};

    use super::*;
    use crate::diagnosis::{By, Timed};

    fn boot(steps: impl IntoIterator<Item = (u64, What)>) -> Boot {
        let timed = |(at, what)| Timed { at, last: at, count: 1, by: By::Daemon, secs: 0, what };
        let steps: Vec<Timed> = steps.into_iter().map(timed).collect();
        Boot {
            mac: Mac([2; 6]),
            link: None,
            relay: None,
            opened: 1000,
            is_over: false,
            steps,
            more: 0,
            beside: Vec::new(),
        }
    }

    fn answered(stage: Stage, given: Given) -> What {
        let class = Class { firmware: Firmware::EfiX64, stage }.key();
        What::Answered { given, class, address: std::net::Ipv4Addr::new(10, 1, 0, 9) }
    }

    #[test]
    fn a_boot_goes_forward_step_by_step() {
        let file = || What::FileAsked { file: "vmlinuz".into() };
        let mut steps = vec![(1000, answered(Stage::Rom, Given::Offer))];
        assert_eq!(Progress::of(&boot(steps.clone()), None), Progress::Address);
        steps.push((1001, What::TftpSent { file: "a".into(), bytes: 1, millis: 1, confirmed: true }));
        assert_eq!(Progress::of(&boot(steps.clone()), None), Progress::Loader);
        steps.push((1002, What::ScriptSent { uuid: None }));
        assert_eq!(Progress::of(&boot(steps.clone()), None), Progress::Script);
        steps.push((1003, file()));
        steps.push((1004, answered(Stage::Rom, Given::Ack)));
        assert_eq!(Progress::of(&boot(steps.clone()), None), Progress::System, "what it had it has");
        assert_eq!(Progress::of(&boot(steps), Some(Cause::Boots)), Progress::Up);
        let by_http = boot([(1000, answered(Stage::Rom, Given::Ack)), (1001, file())]);
        assert_eq!(Progress::of(&by_http, None), Progress::Loader, "HTTP Boot");
        assert_eq!(Progress::of(&boot([]), None), Progress::Silent);
    }

    #[test]
    fn an_offer_at_once_is_one_that_the_firmware_takes() {
        let offer = || answered(Stage::Rom, Given::Offer);
        assert_eq!(boot([(1000, offer())]).is_answered_at_once(), Some(true));
        assert_eq!(
            boot([(5000, offer())]).is_answered_at_once(),
            Some(false),
            "too late for the first window"
        );
        let mut again = boot([(1000, offer())]);
        again.steps[0].last = 5100;
        assert_eq!(again.is_answered_at_once(), Some(false), "the first one was lost");
        assert_eq!(boot([(1000, answered(Stage::Os, Given::Offer))]).is_answered_at_once(), None);
    }

    #[test]
    fn what_is_nobodys_fault_is_not_wrong() {
        let fine: Vec<_> =
            Cause::ALL.iter().filter(|cause| !cause.is_wrong()).map(|cause| cause.name()).collect();
        let of_registry = ["not-allocated", "from-disk", "in-maintenance", "ignored"];
        assert_eq!(fine[..4], ["boots", "under-way", "out-of-sight", "never-asked"]);
        assert_eq!(fine[4..], of_registry);
    }
}
