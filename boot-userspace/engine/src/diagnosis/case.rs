//! What the causes are looked for in: one boot, what is known of the machine, and how far the boot got.

use boot_common::class::{self, Class};

use super::boot::{Boot, Timed};
use super::network::Network;
use super::parts::Usual;
use super::steps::{Given, What};
use crate::boot::choice::{Booting, Choice};
use crate::boot::stage::{Stage, stage_of};
use crate::config::Config;
use crate::lifecycle::State;
use crate::machines::Life;

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
    /// Where it stands, if it is in the registry, or if it is kept from its profile. Of its newest boot only: how it stood
    /// in an earlier one is not kept.
    pub stands: Option<Stands>,
}

/// Where a machine stands in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stands {
    /// Its state; none: it is not in the registry.
    pub state: Option<State>,
    /// Since when, in milliseconds since the Unix epoch; 0 if that is not known.
    pub since: u64,
    /// It is in it for longer than it should be.
    pub is_overdue: bool,
    /// What it waits for.
    pub waits: String,
    /// What it is told in place of a profile to boot; none if it boots one.
    pub told: Option<String>,
    /// That is to leave, and not to wait.
    pub is_sent_away: bool,
    /// It waits because its record is not served.
    pub is_unserved: bool,
}

impl Facts {
    /// Of a machine whose boot used these, and that stands there in its life.
    #[must_use]
    pub fn of(config: &Config, booting: &Booting<'_>, life: Option<&Life>) -> Self {
        let choice = Choice::new(config, booting);
        let called = || booting.mac.map_or_else(|| "the machine".to_owned(), |mac| mac.to_string());
        let (choice, told, is_sent_away) = match stage_of(config, booting.machine, life, called) {
            Ok(Stage::Own) => (choice, None, false),
            Ok(Stage::Other(name)) => (choice.instead(config, name), None, false),
            Ok(Stage::Wait(why)) => (choice, Some(why), false),
            Err(why) => (choice, Some(why.to_string()), true),
        };
        let stands = (life.is_some() || told.is_some()).then(|| Stands {
            state: life.map(|life| life.state),
            since: life.map_or(0, |life| life.since * 1000),
            is_overdue: life.is_some_and(|life| life.is_overdue),
            waits: life.map(|life| life.says.to_string()).unwrap_or_default(),
            told,
            is_sent_away,
            is_unserved: life.is_some_and(Life::waits_to_be_served),
        });
        let profile = choice.profile.map(|(_, profile)| profile);
        Self {
            stands,
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
    /// How long boots of the same profile take.
    pub usual: Option<&'a Usual>,
    /// The newest boots of other cards that show the UUID that this one shows.
    pub twins: &'a [Boot],
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
        // An image is fetched from here, wherever it comes from.
        !self.facts.kernel.starts_with("image:") && self.facts.kernel.contains("://")
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
                    (Some(class::Stage::Os), Given::Offer) => Reached::Nothing,
                    (Some(class::Stage::Os), _) => Reached::System,
                    (Some(class::Stage::Ipxe), Given::Offer) => Reached::IpxeOffered,
                    (Some(class::Stage::Ipxe), _) => Reached::IpxeAddressed,
                    (_, Given::Offer) => Reached::Offered,
                    _ => Reached::Addressed,
                }
            }
            What::TookElsewhere { class, .. } => match Class::from_key(*class).map(|class| class.stage) {
                Some(class::Stage::Os) => Reached::System,
                Some(class::Stage::Ipxe) => Reached::IpxeAddressed,
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
            What::ScriptSent { .. } | What::NoScript { .. } => Reached::Script,
            What::DocumentSent { .. } | What::NoDocument { .. } => Reached::System,
            What::PhoneHome { .. } => Reached::Home,
            What::Unanswered { .. }
            | What::Refused { .. }
            | What::RefusedByOther { .. }
            | What::Stray { .. }
            | What::OtherFile { .. }
            | What::ReplySource { .. }
            | What::SharedIdentity { .. }
            | What::Conflict { .. }
            | What::AddressInUse { .. }
            | What::NoLoader { .. }
            | What::Progress { .. }
            | What::BecameState { .. }
            | What::Overdue { .. }
            | What::Power { .. }
            | What::InventoryChanged { .. } => Reached::Nothing,
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
pub(super) fn is_same(file: &str, configured: &str) -> bool {
    let image = configured.strip_prefix("image:");
    let configured = image.unwrap_or(configured);
    let configured = configured.rsplit("://").next().unwrap_or(configured);
    if configured.is_empty() {
        return false;
    }
    let file = file.trim_start_matches('/');
    let file = file.strip_prefix("image ").unwrap_or(file);
    let last = configured.rsplit('/').next().unwrap_or(configured);
    let name = file.rsplit('/').next().unwrap_or(file);
    // The link of an image has a few digits behind its name.
    let is_link = || image.is_some() && name.strip_prefix(last).is_some_and(|rest| rest.starts_with('-'));
    file == configured || name == last || is_link()
}
