//! What the causes are looked for in: one boot, what is known of the machine, and how far the boot got.

use boot_common::class::{Class, Stage};

use super::network::Network;
use super::steps::{Given, What};
use super::timeline::{Boot, Timed};
use crate::boot::choice::{Booting, Choice};
use crate::config::Config;

/// What the configuration says of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its name.
    pub name: Option<String>,
    /// Its profile; none: it waits until it has one.
    pub profile: Option<String>,
    /// The kernel as the profile names it, or what is fetched in its place: a path, an image or a URL; empty without a
    /// profile, or where a person chooses.
    pub kernel: String,
    /// The initrds.
    pub initrds: Vec<String>,
}

impl Facts {
    /// Of a machine whose boot used these.
    #[must_use]
    pub fn of(config: &Config, booting: &Booting<'_>) -> Self {
        let choice = Choice::new(config, booting);
        let profile = choice.profile.map(|(_, profile)| profile);
        Self {
            name: booting.machine.and_then(|machine| machine.name.clone()),
            profile: choice.profile.map(|(name, _)| name.to_owned()),
            kernel: profile.and_then(|profile| profile.first_file(booting.arch)).unwrap_or_default(),
            initrds: profile.map(|profile| profile.initrd_of(booting.arch).to_vec()).unwrap_or_default(),
        }
    }
}

/// One boot, and everything that may tell why it went as it did.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The boot.
    pub boot: &'a Boot,
    /// The machine's boots before it, the newest first.
    pub before: &'a [&'a Boot],
    /// The machine.
    pub facts: &'a Facts,
    /// What is on the wire beside this server.
    pub network: &'a Network,
    /// Now, in milliseconds since the Unix epoch.
    pub now: u64,
}

impl<'a> Case<'a> {
    /// How long the machine has been silent, in milliseconds. A boot that is over is silent for ever.
    pub(super) fn silence(&self) -> u64 {
        if self.boot.is_over { u64::MAX } else { self.now.saturating_sub(self.boot.last()) }
    }

    /// The same, as it is written in a sentence: of a boot that is over, until its end is looked at.
    pub(super) fn boot_silence(&self) -> u64 {
        self.now.saturating_sub(self.boot.last())
    }

    /// The steps for which this holds.
    pub(super) fn steps(&self, holds: impl Fn(&What) -> bool) -> Vec<&'a Timed> {
        self.boot.steps.iter().filter(|step| holds(&step.what)).collect()
    }

    /// The position of the last step for which this holds.
    pub(super) fn last_position(&self, holds: impl Fn(&What) -> bool) -> Option<usize> {
        self.boot.steps.iter().rposition(|step| holds(&step.what))
    }

    /// Whether a step for which this holds comes behind that position.
    pub(super) fn comes_behind(&self, position: usize, holds: impl Fn(&What) -> bool) -> bool {
        self.boot.steps.iter().skip(position + 1).any(|step| holds(&step.what))
    }

    /// Whether a file is the machine's kernel.
    pub(super) fn is_kernel(&self, file: &str) -> bool {
        is_same(file, &self.facts.kernel)
    }

    /// Whether a file is an initrd of the machine.
    pub(super) fn is_initrd(&self, file: &str) -> bool {
        self.facts.initrds.iter().any(|initrd| is_same(file, initrd))
    }

    /// Whether the kernel comes from a server that is not this one.
    pub(super) fn kernel_is_elsewhere(&self) -> bool {
        self.facts.kernel.contains("://")
    }

    /// How far the boot got.
    pub(super) fn reached(&self) -> Reached {
        self.boot.steps.iter().map(|step| self.reached_by(&step.what)).max().unwrap_or(Reached::Nothing)
    }

    fn reached_by(&self, what: &What) -> Reached {
        match what {
            What::Answered { given, class, .. } => {
                let stage = Class::from_key(*class).map(|class| class.stage);
                match (stage, given) {
                    (Some(Stage::Os), Given::Offer) => Reached::Nothing,
                    (Some(Stage::Os), _) => Reached::System,
                    (Some(Stage::Ipxe), Given::Offer) => Reached::IpxeOffered,
                    (Some(Stage::Ipxe), _) => Reached::IpxeAddressed,
                    (_, Given::Offer) => Reached::Offered,
                    _ => Reached::Addressed,
                }
            }
            What::TookElsewhere { class, .. } => match Class::from_key(*class).map(|class| class.stage) {
                Some(Stage::Os) => Reached::System,
                Some(Stage::Ipxe) => Reached::IpxeAddressed,
                _ => Reached::Addressed,
            },
            What::ChoseOther { .. } | What::GivenByOther { .. } => Reached::Offered,
            What::TftpSent { file, .. } | What::FileSent { file, .. } => {
                if self.is_kernel(file) || self.is_initrd(file) { Reached::Kernel } else { Reached::Loader }
            }
            What::TftpStalled { .. }
            | What::TftpMissing { .. }
            | What::TftpAborted { .. }
            | What::FileAsked { .. }
            | What::FileMissing { .. }
            | What::FileCut { .. }
            | What::NoTls { .. } => Reached::FileAsked,
            What::ScriptSent | What::NoScript { .. } => Reached::Script,
            What::DocumentSent { .. } | What::NoDocument { .. } => Reached::System,
            What::PhoneHome { .. } => Reached::Home,
            What::Unanswered { .. }
            | What::Refused { .. }
            | What::RefusedByOther { .. }
            | What::Stray { .. }
            | What::AddressInUse { .. }
            | What::NoLoader { .. } => Reached::Nothing,
        }
    }
}

/// The stages of a boot, as far as they are seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reached {
    /// It asked, at most.
    Nothing,
    /// It was offered an address.
    Offered,
    /// It has an address.
    Addressed,
    /// It asked for a file.
    FileAsked,
    /// It has its boot file.
    Loader,
    /// iPXE was offered an address.
    IpxeOffered,
    /// iPXE has an address.
    IpxeAddressed,
    /// It asked for its script.
    Script,
    /// It has its kernel, or an initrd.
    Kernel,
    /// Its operating system asked for something.
    System,
    /// It reported.
    Home,
}

/// Whether a path that was asked for ends in the one of the configuration.
fn is_same(file: &str, configured: &str) -> bool {
    let configured = configured.strip_prefix("image:").unwrap_or(configured);
    let configured = configured.rsplit("://").next().unwrap_or(configured);
    if configured.is_empty() {
        return false;
    }
    let file = file.trim_start_matches('/');
    let last = configured.rsplit('/').next().unwrap_or(configured);
    file == configured || file.rsplit('/').next() == Some(last)
}
