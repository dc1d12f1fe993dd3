//! Boot parameters that were written while xpxe runs: kernel, initrd, arguments and cloud-init's data, as clients of BSS write
//! them.
//!
//! The more specific goes first, and what is written goes before the configuration at each step: what is written for the machine
//! itself, the profile of its `[[machine]]`, what is written for its role, the profile of a group, what is written for `Default` or
//! `Unknown-` with its architecture, the profile of `[default]`.

mod change;
mod name;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use boot_common::Mac;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::asked::Asked;
use super::level::Level;
use crate::config::Machine;
pub use change::{Act, Change, LARGEST_TABLE, Refused, card, image, patch};
pub use name::Name;

/// For machines of the configuration or the registry that nothing else is written for.
pub const DEFAULT: &str = "Default";
/// What stands before an architecture: for machines that nobody knows.
pub const UNKNOWN: &str = "Unknown-";
/// cloud-init's data for every machine.
pub const GLOBAL: &str = "Global";

/// What is booted, and with what. An empty text is not written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// The kernel's arguments.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub params: String,
    /// A path in `boot_dir`, a URL that the machine fetches, or `s3://BUCKET/KEY`.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub kernel: String,
    /// The same, as an initrd.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub initrd: String,
    /// What cloud-init gets.
    #[serde(rename = "cloud-init", default, skip_serializing_if = "Option::is_none")]
    pub cloud_init: Option<CloudInit>,
    /// Names what was written by one request.
    #[serde(rename = "referral-token", default, skip_serializing_if = "String::is_empty")]
    pub token: String,
}

/// What cloud-init gets of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudInit {
    /// `meta-data`
    #[serde(rename = "meta-data", default)]
    pub meta_data: Option<Map<String, Value>>,
    /// `user-data`
    #[serde(rename = "user-data", default)]
    pub user_data: Option<Map<String, Value>>,
    /// `phone-home`
    #[serde(rename = "phone-home", default)]
    pub phone_home: Option<Map<String, Value>>,
}

/// What a client of BSS writes, and how it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Names of machines, roles, `Default`, `Unknown-` with an architecture, `Global`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub hosts: Vec<String>,
    /// MAC addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub macs: Vec<String>,
    /// Node numbers: the label `nid`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub nids: Vec<u32>,
    /// What they boot.
    #[serde(flatten)]
    pub parameters: Parameters,
}

/// JSON of other languages has `null` where there is nothing.
fn or_default<'d, D: Deserializer<'d>, T: Default + Deserialize<'d>>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// What parameters are written for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A machine by its name, a role, [`DEFAULT`], [`UNKNOWN`] with an architecture, or [`GLOBAL`].
    Host(Name),
    /// A card whose machine has no name.
    Mac(Mac),
    /// A node number that no machine with a name has.
    Nid(u32),
    /// Every set with this kernel.
    Kernel(String),
    /// Every set with this initrd.
    Initrd(String),
}

/// All that is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(BTreeMap<Target, Arc<Parameters>>);

/// Whose parameters are looked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Whose<'a> {
    /// Its `[[machine]]`, or what the registry has of it.
    pub machine: Option<&'a Machine>,
    /// The card that asks.
    pub mac: Option<Mac>,
    /// iPXE's build architecture, as it says.
    pub arch: Option<&'a str>,
}

impl<'a> From<&'a Asked> for Whose<'a> {
    fn from(asked: &'a Asked) -> Self {
        Self { machine: asked.machine(), mac: asked.mac, arch: asked.arch.as_deref() }
    }
}

/// What is written for a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is written for.
    pub target: Target,
    /// What is written.
    pub parameters: Arc<Parameters>,
    /// The arguments that are written for its kernel and its initrd.
    pub more: String,
}

impl Found {
    /// Whether it is written for every machine that nothing else is written for.
    #[must_use]
    pub fn is_for_all(&self) -> bool {
        let Target::Host(name) = &self.target else { return false };
        *name == Name::from(DEFAULT) || name.as_str().starts_with(UNKNOWN)
    }
}

impl Table {
    /// Everything, in an order that stays.
    pub fn all(&self) -> impl Iterator<Item = (&Target, &Arc<Parameters>)> {
        self.0.iter()
    }

    /// What is written for one name, card or number.
    #[must_use]
    pub fn of(&self, target: &Target) -> Option<&Arc<Parameters>> {
        self.0.get(target)
    }

    /// What is written for a name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Parameters>> {
        self.of(&Target::Host(Name::from(name)))
    }

    /// What a machine boots of it, if that goes before what the configuration has for it at `level`.
    #[must_use]
    pub fn boots(&self, whose: &Whose<'_>, level: Level) -> Option<Found> {
        if self.0.is_empty() {
            return None;
        }
        let found = |target| self.found(target);
        let own = whose.own_targets().into_iter().find_map(found);
        let of_role = || whose.role().filter(|_| level <= Level::Group).and_then(found);
        let of_all = || {
            let default = whose.machine.map(|_| Target::host(DEFAULT));
            let unknown = whose.arch.map(|arch| Target::host(format!("{UNKNOWN}{arch}")));
            default.into_iter().chain(unknown).filter(|_| level == Level::Default).find_map(found)
        };
        own.or_else(of_role).or_else(of_all)
    }

    /// What is written for a target, if that is a kernel to boot.
    #[must_use]
    pub fn found(&self, target: Target) -> Option<Found> {
        let parameters = self.of(&target).filter(|parameters| !parameters.kernel.is_empty())?;
        Some(Found { more: self.of_images(parameters), parameters: Arc::clone(parameters), target })
    }

    /// What is written of cloud-init's data for a machine: that of its role, then its own or that of [`DEFAULT`].
    #[must_use]
    pub fn cloud_init(&self, whose: &Whose<'_>) -> Vec<&CloudInit> {
        let own = whose.own_targets().into_iter().find(|target| self.0.contains_key(target));
        let own = own.unwrap_or_else(|| Target::host(DEFAULT));
        let all = whose.role().into_iter().chain([own]);
        all.filter_map(|target| self.of(&target)?.cloud_init.as_ref()).collect()
    }

    fn of_images(&self, of: &Parameters) -> String {
        let images = [Target::Kernel(of.kernel.clone()), Target::Initrd(of.initrd.clone())];
        let params = images.iter().filter_map(|image| Some(self.of(image)?.params.as_str()));
        params.filter(|params| !params.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// The images that it names.
    pub fn images(&self) -> impl Iterator<Item = String> {
        self.0.values().flat_map(|parameters| parameters.images())
    }
}

impl Whose<'_> {
    /// What is written for the machine alone is written for one of these: its name, its cards, its number.
    fn own_targets(&self) -> Vec<Target> {
        let machine = self.machine;
        let name = machine.and_then(|machine| machine.name.as_deref()).map(Target::host);
        let macs = machine.map_or(&[][..], |machine| &machine.macs).iter().copied().chain(self.mac);
        let nid = machine.and_then(|machine| machine.labels.get("nid")?.parse().ok()).map(Target::Nid);
        name.into_iter().chain(macs.map(Target::Mac)).chain(nid).collect()
    }

    fn role(&self) -> Option<Target> {
        Some(Target::host(self.machine?.labels.get("role")?.as_str()))
    }
}

impl Target {
    /// A name.
    pub fn host(name: impl Into<String>) -> Self {
        Self::Host(Name::from(name.into()))
    }

    /// As people call it.
    #[must_use]
    pub fn called(&self) -> String {
        match self {
            Self::Host(name) => name.to_string(),
            Self::Mac(mac) => mac.to_string(),
            Self::Nid(nid) => format!("nid{nid}"),
            Self::Kernel(path) | Self::Initrd(path) => path.clone(),
        }
    }
}

impl Parameters {
    /// The kernel as a profile would name it.
    #[must_use]
    pub fn kernel(&self) -> String {
        as_file(&self.kernel)
    }

    /// The initrds as a profile would name them: one, or none.
    #[must_use]
    pub fn initrds(&self) -> Vec<String> {
        Some(as_file(&self.initrd)).filter(|initrd| !initrd.is_empty()).into_iter().collect()
    }

    /// Arguments without those that name initrds: whoever writes a script names them.
    #[must_use]
    pub fn args(&self, more: &str) -> String {
        let words = self.params.split_whitespace().chain(more.split_whitespace());
        words.filter(|word| !word.starts_with("initrd=")).collect::<Vec<_>>().join(" ")
    }

    fn images(&self) -> Vec<String> {
        let of_params = self.params.split_whitespace().filter_map(|word| Some(image_in(word)?.1));
        [self.kernel(), as_file(&self.initrd)].into_iter().chain(of_params).collect()
    }
}

/// An argument whose value is fetched from S3: what stands before the value, and the image.
pub(super) fn image_in(word: &str) -> Option<(&'static str, String)> {
    let (key, url) =
        ["metal.server=", "root=live:"].into_iter().find_map(|key| Some((key, word.strip_prefix(key)?)))?;
    url.starts_with("s3://").then(|| (key, as_file(url)))
}

/// What BSS has as kernel or initrd, as a profile names it.
fn as_file(text: &str) -> String {
    match text.split_once("://") {
        // The bucket may stand where others have a host, or behind it.
        Some(("s3", rest)) => format!("image:s3://{}", rest.trim_start_matches('/')),
        Some(_) => text.to_owned(),
        None => text.trim_start_matches('/').to_owned(),
    }
}

/// What is written, for everybody who reads it. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct BootParameters(Arc<RwLock<Arc<Table>>>);

impl BootParameters {
    /// As it is now.
    #[must_use]
    pub fn get(&self) -> Arc<Table> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another table in its place.
    pub fn replace(&self, table: Table) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }
}
