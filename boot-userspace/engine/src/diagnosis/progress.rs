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
mod tests;
