//! What makes answers different: options and boot files of a machine, its groups and its profile.

use std::sync::Arc;

use boot_common::class::Stage;

use crate::config::{CustomOption, Group, Kind, Machine, Profile, Subnet};

/// The machine, the groups and the profile that answers are different for.
pub(super) struct Own<'a> {
    pub(super) machine: Option<Arc<Machine>>,
    /// With their positions.
    pub(super) groups: Vec<(usize, &'a Group)>,
    pub(super) profile: Option<&'a Profile>,
}

impl Own<'_> {
    /// The most specific list first.
    pub(super) fn option_lists<'a>(
        &'a self,
        subnet: Option<&'a Subnet>,
    ) -> impl Iterator<Item = &'a [CustomOption]> {
        let machine = self.machine.as_ref().map(|machine| machine.options.as_slice());
        let groups = self.groups.iter().rev().map(|(_, group)| group.options.as_slice());
        let profile = self.profile.map(|profile| profile.options.as_slice());
        let subnet = subnet.map(|subnet| subnet.options.as_slice());
        machine.into_iter().chain(groups).chain(profile).chain(subnet)
    }
}

/// Whether a profile makes a difference to DHCP's answers.
pub(super) fn differs(profile: &Profile) -> bool {
    !profile.options.is_empty() || profile.boot_file.is_some() || profile.kind == Kind::Iso
}

/// The image that UEFI HTTP Boot loads into a RAM disk by itself (UEFI 2.10 section 24.7).
pub(super) fn disk(profile: &Profile) -> Option<&String> {
    (profile.kind == Kind::Iso).then_some(&profile.kernel)
}

/// The option with this code that clients at a stage get from a list: the one that is for them alone before the one that
/// is for all.
pub(super) fn of_code(list: &[CustomOption], code: u8, stage: Stage) -> Option<&CustomOption> {
    list.iter()
        .filter(|option| option.code == code && option.is_for(stage))
        .max_by_key(|option| option.client.is_some())
}

/// How the configuration names a boot file.
#[derive(Clone, Copy)]
pub(super) enum Configured<'a> {
    /// By a key or a rule: on this server, or a URL.
    Key(&'a str),
    /// By option 67: perhaps on another server, which option 66 names.
    Option(&'a str),
}

pub(super) const SERVER_NAME: u8 = 66;
pub(super) const BOOT_FILE: u8 = 67;
