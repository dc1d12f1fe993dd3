//! Profiles as the API shows them.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::images;
use boot_engine::boot::choice::{Booting, Choice};
use boot_engine::config::{Arch, Config, ImageRef, Profile};
use boot_engine::machines::Machines;

/// A profile, with what it inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Profile)]
pub struct ShownProfile {
    /// Its name.
    pub name: String,
    /// The profiles that it names in `inherit`.
    pub inherits: Vec<String>,
    /// What it boots: `kernel`, `esxi`, `wimboot`, `iso` or `menu`.
    pub kind: String,
    /// The file in `boot_dir`, URL or image that is booted; none where a person chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The initrds, in their order.
    pub initrd: Vec<String>,
    /// The whole command line, without what groups and machines add.
    pub args: String,
    /// What is otherwise on some architectures: all of it, also what is the same.
    pub arch: BTreeMap<String, ShownArch>,
    /// The profiles that a person chooses from.
    pub menu: Vec<String>,
    /// The file that its iPXE script is made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// What firmware gets instead of xpxe's own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_file: Option<String>,
    /// The documents that it has, by their kinds.
    pub documents: Vec<String>,
    /// Machines boot it that have no other.
    pub is_default: bool,
    /// What it is for in `[lifecycle]`: `agent`, `discovery`, `live`.
    pub lifecycle: Vec<String>,
    /// The groups whose machines boot it.
    pub groups: Vec<ShownGroup>,
    /// How many known machines have it, as far as that does not depend on how they boot.
    pub machines: usize,
}

/// What is booted on an architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ProfileArch)]
pub struct ShownArch {
    /// As that of the profile.
    pub kernel: String,
    /// As those of the profile.
    pub initrd: Vec<String>,
    /// As those of the profile.
    pub args: String,
}

/// A group that has a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ProfileGroup)]
pub struct ShownGroup {
    /// Its name.
    pub name: String,
    /// Which machines are in it.
    pub matches: String,
}

/// Every profile, in the order of the names.
pub(super) fn all(config: &Config, machines: &Machines) -> Vec<ShownProfile> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for known in machines.all() {
        let machine = &*known.machine;
        let mac = machine.macs.first().copied();
        let booting = Booting { machine: Some(machine), mac, address: machine.ip, ..Booting::default() };
        if let Some((name, _)) = Choice::new(config, &booting).profile {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    let all = config.profiles.iter();
    all.map(|(name, profile)| shown(config, name, profile, counts.get(name).copied().unwrap_or(0))).collect()
}

fn shown(config: &Config, name: &str, profile: &Profile, machines: usize) -> ShownProfile {
    let lifecycle = &config.lifecycle;
    let is_it = |other: &Option<String>| other.as_deref() == Some(name);
    let roles = [
        ("agent", is_it(&lifecycle.agent)),
        ("discovery", is_it(&lifecycle.discovery)),
        ("live", lifecycle.live.iter().any(|other| other == name)),
    ];
    let groups = config.groups.iter().filter(|group| is_it(&group.profile));
    let arch = profile.arch.keys().map(|arch| (arch.to_string(), on(profile, *arch)));
    ShownProfile {
        name: name.to_owned(),
        inherits: profile.inherits.clone(),
        kind: if profile.menu.is_some() { "menu" } else { profile.kind.key() }.to_owned(),
        kernel: Some(&profile.kernel).filter(|kernel| !kernel.is_empty()).map(|kernel| file(kernel)),
        initrd: profile.initrd.iter().map(|initrd| file(initrd)).collect(),
        args: profile.args_of(None, ""),
        arch: arch.collect(),
        menu: profile.menu.as_ref().map(|menu| menu.entries.clone()).unwrap_or_default(),
        template: profile.template.clone(),
        boot_file: profile.boot_file.as_deref().map(file),
        documents: profile.documents.all().map(|document| document.kind.name().to_owned()).collect(),
        is_default: is_it(&config.default.profile),
        lifecycle: roles.into_iter().filter(|(_, is_it)| *is_it).map(|(role, _)| role.to_owned()).collect(),
        groups: groups
            .map(|group| ShownGroup { name: group.name.clone(), matches: group.fits.to_string() })
            .collect(),
        machines,
    }
}

fn on(profile: &Profile, arch: Arch) -> ShownArch {
    ShownArch {
        kernel: file(profile.kernel_of(Some(arch))),
        initrd: profile.initrd_of(Some(arch)).iter().map(|initrd| file(initrd)).collect(),
        args: profile.args_of(Some(arch), ""),
    }
}

/// What is fetched, without what only xpxe has to know of its upstream.
fn file(text: &str) -> String {
    match ImageRef::read(text) {
        Some(Ok(image)) => format!("image:{}", image.name),
        _ if text.contains("://") => images::shown(text),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use boot_engine::config::parse;

    #[test]
    fn a_profile_is_shown_with_what_it_inherits_and_who_has_it() {
        let text = r#"
            [[interface]]
            name = "eth1"
            dhcp = "proxy"
            [[profile]]
            name = "base"
            kernel = "image:https://me:secret@files.example/vmlinuz?token=secret"
            args = "quiet"
            [[profile]]
            name = "worker"
            inherit = ["base"]
            initrd = ["initrd.img"]
            args = "role=worker"
            [profile.arch.arm64]
            kernel = "arm/vmlinuz"
            args = "arm"
            [[profile]]
            name = "choice"
            menu = ["worker", "local"]
            [[group]]
            name = "rack7"
            match = { labels = { rack = "7" }, mac = "02:00:07" }
            profile = "worker"
            [default]
            profile = "base"
            [lifecycle]
            live = ["worker"]
            [[machine]]
            mac = "02:00:07:00:00:01"
            labels = { rack = "7" }
            [[machine]]
            mac = "02:00:07:00:00:02"
            profile = "worker"
            [[machine]]
            mac = "02:00:08:00:00:01"
        "#;
        let config = parse(text, "test").unwrap();
        let machines = Machines::new(config.machines.iter().cloned()).unwrap();
        let all = all(&config, &machines);
        let [base, choice, worker] = &all[..] else { panic!("{all:?}") };
        assert!(base.is_default && base.machines == 1 && base.groups.is_empty(), "{base:?}");
        assert_eq!((choice.kind.as_str(), &choice.kernel), ("menu", &None));
        assert_eq!(choice.menu, ["worker", "local"]);
        assert_eq!((&worker.inherits[..], worker.machines), (&["base".to_owned()][..], 2));
        assert_eq!(
            (worker.kernel.as_ref(), worker.args.as_str()),
            (base.kernel.as_ref(), "quiet role=worker")
        );
        let arm = ShownArch {
            kernel: "arm/vmlinuz".to_owned(),
            initrd: vec!["initrd.img".to_owned()],
            args: "quiet role=worker arm".to_owned(),
        };
        assert_eq!(worker.arch, [("arm64".to_owned(), arm)].into());
        assert_eq!(worker.lifecycle, ["live"]);
        let group =
            ShownGroup { name: "rack7".to_owned(), matches: "label rack = 7, mac 02:00:07".to_owned() };
        assert_eq!(worker.groups, [group]);
        assert!(!serde_json::to_string(&all).unwrap().contains("secret"));
    }
}
