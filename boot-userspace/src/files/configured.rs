//! The boot files that the configuration names, and what each has to be.

use std::collections::BTreeMap;

use super::BootFiles;
use super::inspect::Need;
use super::path::tidy;
use boot_engine::config::{BootFileRule, Config, ImageRef, Kind};

/// A file that the configuration names.
#[derive(Debug)]
pub(super) struct Named {
    /// As [`BootFiles::open`] takes it.
    pub(super) name: String,
    /// Which setting names it, for people.
    pub(super) place: String,
    needs: Vec<Need>,
}

impl BootFiles {
    /// The files of a configuration, which knows more of some names than they say: what they are there for.
    #[must_use]
    pub fn configured(config: &Config) -> Self {
        let files = Self::new(config.boot_dir.clone(), config.ipxe.clone());
        files.follow(config);
        files
    }

    /// What another configuration says of names counts from now on. Where the files are stays as it is.
    pub fn follow(&self, config: &Config) {
        let mut all: BTreeMap<String, Vec<Need>> = BTreeMap::new();
        let mut signed = Vec::new();
        for Named { name, needs, .. } in named(config) {
            if let Ok(name) = tidy(&name) {
                if needs.contains(&Need::Ipxe) {
                    signed.push(name.clone());
                }
                all.entry(name.to_ascii_lowercase()).or_default().extend(needs);
            }
        }
        self.needs.replace(all);
        self.signed.follow(config.http.signed_links, signed);
    }
}

/// Every file in `boot_dir` that the configuration names, in its order: profiles, rules, machines. URLs and images are not there.
pub(super) fn named(config: &Config) -> Vec<Named> {
    let mut named = Vec::new();
    let mut add = |name: &str, place: String, needs: Vec<Need>| {
        // Without a name there is nothing to boot on that architecture.
        if !name.is_empty() && !name.contains("://") && ImageRef::read(name).is_none() {
            named.push(Named { name: name.to_owned(), place, needs });
        }
    };
    for (name, profile) in &config.profiles {
        let key = profile.kind.key();
        match profile.kind {
            _ if profile.menu.is_some() => {}
            Kind::Linux | Kind::Windows => {
                add(&profile.kernel, format!("{key} of profile {name}"), vec![Need::Ipxe]);
            }
            // Firmware fetches it, too, which signs nothing.
            Kind::Iso => add(&profile.kernel, format!("{key} of profile {name}"), Vec::new()),
            Kind::Esxi => {
                add(&format!("{}/boot.cfg", profile.kernel), format!("{key} of profile {name}"), Vec::new());
            }
        }
        for initrd in &profile.initrd {
            add(initrd, format!("initrd of profile {name}"), vec![Need::Ipxe]);
        }
        for (arch, of) in &profile.arch {
            if let Some(kernel) = &of.kernel {
                add(kernel, format!("kernel of profile {name} on {arch}"), vec![Need::Ipxe]);
            }
            for initrd in of.initrd.iter().flatten() {
                add(initrd, format!("initrd of profile {name} on {arch}"), vec![Need::Ipxe]);
            }
        }
        if let Some(file) = &profile.boot_file {
            add(file, format!("boot_file of profile {name}"), vec![Need::Firmware]);
        }
    }
    for (index, rule) in config.boot_files.iter().enumerate() {
        add(&rule.file, format!("file of boot_file[{index}]"), needs_of(rule));
    }
    for (index, machine) in config.machines.iter().enumerate() {
        if let Some(file) = &machine.boot_file {
            let who = machine.name.clone().unwrap_or_else(|| format!("machine[{index}]"));
            add(file, format!("boot_file of {who}"), vec![Need::Firmware]);
        }
    }
    named
}

fn needs_of(rule: &BootFileRule) -> Vec<Need> {
    if rule.arch.is_empty() {
        return vec![Need::Firmware];
    }
    rule.kinds().into_iter().map(Need::of_firmware).collect()
}
