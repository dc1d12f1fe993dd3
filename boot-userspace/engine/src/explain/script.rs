//! The groups that a machine is in, its script, its kernel and each of its arguments.

use super::{Explained, Rows};
use crate::boot::choice::Booting;
use crate::boot::level::Level;
use crate::boot::parameters::{Found, Target, UNKNOWN, Whose};
use crate::config::{DocumentFile, Front, Group, Hardware, Match, Unknown};

/// A group that a machine is in, or may be in.
struct In<'c> {
    position: usize,
    group: &'c Group,
    /// Where and how it has to boot; empty: anyhow.
    condition: String,
}

impl Explained<'_> {
    fn booting(&self) -> Booting<'_> {
        let machine = self.machine();
        let address = machine.and_then(|machine| machine.ip);
        Booting { machine, mac: self.mac, address, ..Booting::default() }
    }

    /// The groups that fit the machine, as far as that does not depend on how it boots.
    fn in_groups(&self) -> Vec<In<'_>> {
        let booting = self.booting();
        let groups = self.config.groups.iter().enumerate();
        let fits = groups.filter(|(_, group)| group.fits.fits_machine(&booting.described()));
        let fits = fits.filter(|(_, group)| {
            booting.address.is_none_or(|address| group.fits.fits_subnet(Some(address.into())))
        });
        let condition = |fits: &Match| {
            let list = |word: &str, items: Vec<String>| match &items[..] {
                [] => None,
                items => Some(format!("{word} {}", items.join(" or "))),
            };
            let subnets = fits.subnet.iter().filter(|_| booting.address.is_none());
            let parts = [
                list("in", subnets.map(ToString::to_string).collect()),
                list("on", fits.arch.iter().map(ToString::to_string).collect()),
                list("with serial", fits.serial.clone()),
            ];
            parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
        };
        fits.map(|(position, group)| In { position, group, condition: condition(&group.fits) }).collect()
    }

    pub(super) fn groups(&self, rows: &mut Rows) {
        for In { position, group, condition } in self.in_groups() {
            let place = self.origins.group(position).unwrap_or_default();
            let hardware = &group.fits.hardware;
            let name = match hardware.is_empty() {
                true => group.name.clone(),
                false => format!("{}, by its inventory: {hardware}", group.name),
            };
            rows.add(with("in group", &condition), name, place);
        }
        self.groups_by_unknown_inventory(rows);
        if self.machine().is_none_or(|machine| machine.relay_port.is_none()) {
            for group in self.config.groups.iter().filter(|group| group.fits.is_of_port()) {
                let why = "a relay tells the switch port when the machine boots";
                rows.add("in group", format!("{}, perhaps", group.name), why);
            }
        }
    }

    /// The groups that a machine of the registry may be in once the agent has reported its inventory.
    fn groups_by_unknown_inventory(&self, rows: &mut Rows) {
        let is_of_file = self.position.is_none_or(|position| self.origins.machine(position).is_some());
        let booting = self.booting();
        let described = booting.described();
        if is_of_file || described.inventory.is_some() {
            return;
        }
        for group in self.config.groups.iter().filter(|group| !group.fits.hardware.is_empty()) {
            let else_fits = Match { hardware: Hardware::default(), ..group.fits.clone() };
            if else_fits.fits_machine(&described) {
                let why = format!("{}: the agent has reported no inventory of it yet", group.fits.hardware);
                rows.add("in group", format!("{}, perhaps", group.name), why);
            }
        }
    }

    /// The profile, as far as it does not depend on how the machine boots.
    pub(super) fn profile(&self) -> Option<&str> {
        let groups = self.in_groups();
        let sure = groups.iter().filter(|one| one.condition.is_empty()).map(|one| one.group);
        self.config.profile_of(self.machine(), sure).map(|(name, _)| name)
    }

    pub(super) fn script(&self, rows: &mut Rows) {
        if self.known.is_none() && self.config.default.unknown == Unknown::Discover {
            let place = self.origins.unknown().unwrap_or_default();
            return rows.add("script", "waits until the machine is in the configuration", place);
        }
        let groups = self.in_groups();
        let own = self.of_machine("profile");
        let written = self.written();
        for (condition, found) in &written {
            self.boots_written(rows, found, condition);
        }
        let in_any_case = written.iter().find(|(condition, _)| condition.is_empty()).map(|(_, found)| found);
        if let Some(found) = in_any_case {
            // A group that the machine may be in goes before what is written for everybody.
            if found.is_for_all() {
                for In { position, group, condition } in groups.iter().filter(|one| !one.condition.is_empty())
                {
                    if let Some(name) = &group.profile {
                        let place = self.origins.group_key(*position, "profile").unwrap_or_default();
                        rows.add(with("script", condition), format!("boots profile {name}"), place);
                        self.boots(rows, name, condition);
                    }
                }
            }
            return self.documents(rows, &groups);
        }
        if let Some(api) = self.config.http.pixiecore_api.as_ref().filter(|_| self.level() == Level::Default)
        {
            rows.add("script", format!("boots what {api} says of it"), "http.pixiecore_api");
            return self.documents(rows, &groups);
        }
        match self.profile() {
            None => {
                let why = "neither [[machine]] nor [[group]] nor [default] names a profile";
                rows.add("script", "waits", why);
            }
            Some(name) => {
                let of_group = groups.iter().rev().filter(|one| one.condition.is_empty());
                let of_group = of_group.map(|one| self.origins.group_key(one.position, "profile"));
                let of_group = of_group.flatten().next();
                let place = own.clone().or(of_group).or_else(|| self.origins.default_profile());
                rows.add("script", format!("boots profile {name}"), place.unwrap_or_default());
                self.boots(rows, name, "");
            }
        }
        // A later group that fits in any case stands before it.
        let last_sure =
            groups.iter().rposition(|one| one.condition.is_empty() && one.group.profile.is_some());
        let unsure = groups.iter().skip(last_sure.map_or(0, |last| last + 1));
        for In { position, group, condition } in unsure {
            if let Some(name) = group.profile.as_ref().filter(|_| !condition.is_empty() && own.is_none()) {
                let place = self.origins.group_key(*position, "profile").unwrap_or_default();
                rows.add(with("script", condition), format!("boots profile {name}"), place);
                self.boots(rows, name, condition);
            }
        }
        for In { position, group, condition } in &groups {
            let place = self.origins.group_key(*position, "args").unwrap_or_default();
            for argument in words(&group.args) {
                rows.add(with("argument", condition), argument, &place);
            }
        }
        let of_machine = self.of_machine("args").unwrap_or_default();
        for argument in words(self.machine().map_or("", |machine| &machine.args)) {
            rows.add("argument", argument, &of_machine);
        }
        self.documents(rows, &groups);
    }

    /// What of the configuration names its profile, as far as that does not depend on how the machine boots.
    fn level(&self) -> Level {
        let groups = self.in_groups();
        let mut sure = groups.iter().filter(|one| one.condition.is_empty());
        match self.machine() {
            Some(machine) if machine.profile.is_some() => Level::Machine,
            _ if sure.any(|one| one.group.profile.is_some()) => Level::Group,
            _ => Level::Default,
        }
    }

    /// What somebody has written and the machine boots, with what that depends on.
    fn written(&self) -> Vec<(String, Found)> {
        if !self.config.http.fronts.contains(&Front::Bss) {
            return Vec::new();
        }
        let level = self.level();
        let whose = Whose { machine: self.machine(), mac: self.mac, arch: None };
        if let Some(found) = self.written.boots(&whose, level) {
            return vec![(String::new(), found)];
        }
        let names = self.written.all().filter_map(|(target, _)| match target {
            Target::Host(name) if level == Level::Default => name.as_str().strip_prefix(UNKNOWN),
            _ => None,
        });
        let found = names.filter_map(|arch| {
            let found = self.written.boots(&Whose { arch: Some(arch), ..whose }, level)?;
            Some((format!("on {arch}"), found))
        });
        found.collect()
    }

    fn boots_written(&self, rows: &mut Rows, found: &Found, condition: &str) {
        let Found { target, parameters, more } = found;
        let why = "written through the front for BSS";
        let who = target.called();
        rows.add(with("script", condition), format!("boots the boot parameters of {who}"), why);
        rows.add(with("kernel", condition), parameters.kernel(), why);
        for initrd in parameters.initrds() {
            rows.add(with("initrd", condition), initrd, why);
        }
        for argument in words(&parameters.args(more)) {
            rows.add(with("argument", condition), argument, why);
        }
    }

    /// What its operating system or its installer fetches.
    fn documents(&self, rows: &mut Rows, groups: &[In<'_>]) {
        let profile = self.profile();
        let of_profile = profile.and_then(|name| self.config.profiles.get(name));
        let mut names: Vec<&str> = Vec::new();
        let mut add = |document: &DocumentFile, condition: &str, place: Option<String>| {
            let DocumentFile { kind, file, is_secret } = document;
            if !names.contains(&kind.name()) {
                if condition.is_empty() {
                    names.push(kind.name());
                }
                let secret = if *is_secret { "secret " } else { "" };
                let what = with(&format!("{secret}document {}", kind.name()), condition);
                rows.add(what, &**file, place.unwrap_or_default());
            }
        };
        for document in
            self.machine().and_then(|machine| machine.documents.as_ref()).iter().flat_map(|of| of.all())
        {
            let place = self.position.and_then(|at| self.origins.machine_document(at, document.kind.name()));
            add(document, "", place);
        }
        for In { position, group, condition } in groups.iter().rev() {
            for document in group.documents.all() {
                let place = self.origins.group_document(*position, document.kind.name());
                add(document, condition, place);
            }
        }
        for document in of_profile.iter().flat_map(|profile| profile.documents.all()) {
            let place = profile.and_then(|name| self.origins.profile_document(name, document.kind.name()));
            add(document, "", place);
        }
    }

    /// What a profile boots.
    fn boots(&self, rows: &mut Rows, name: &str, condition: &str) {
        let Some(profile) = self.config.profiles.get(name) else { return };
        let place = |key: &str| self.origins.profile_key(name, key).unwrap_or_default();
        if let Some(template) = &profile.template {
            rows.add(with("template", condition), template, place("template"));
        }
        if let Some(menu) = &profile.menu {
            let time = menu.timeout.map(|time| format!(" after {} s", time.as_secs()));
            let default =
                format!("{}{}", menu.default, time.unwrap_or_else(|| " when Enter is pressed".to_owned()));
            rows.add(
                with("menu", condition),
                format!("{}: {default}", menu.entries.join(", ")),
                place("menu"),
            );
            for entry in &menu.entries {
                self.boots(rows, entry, &with(&format!("if {entry} is chosen"), condition));
            }
            return;
        }
        let key = profile.kind.key();
        rows.add(with(key, condition), &*profile.kernel, place(key));
        for (number, initrd) in profile.initrd.iter().enumerate() {
            rows.add(
                with("initrd", condition),
                initrd,
                self.origins.initrd(name, number).unwrap_or_default(),
            );
        }
        if let Some(console) = &profile.console {
            rows.add(with("argument", condition), format!("console={console}"), place("console"));
        }
        for (args, place) in self.origins.profile_args(name) {
            for argument in words(args) {
                rows.add(with("argument", condition), argument, &place);
            }
        }
        for (arch, of) in &profile.arch {
            let place = |key: &str| self.origins.arch_key(name, *arch, key).unwrap_or_default();
            let what = |what: &str| with(&with(what, &format!("on {arch}")), condition);
            if let Some(kernel) = &of.kernel {
                let kernel = if kernel.is_empty() { "none: it boots nothing" } else { kernel };
                rows.add(what("kernel"), kernel, place("kernel"));
            }
            if of.initrd.as_ref().is_some_and(Vec::is_empty) {
                rows.add(what("initrd"), "none", place("initrd"));
            }
            for initrd in of.initrd.iter().flatten() {
                rows.add(what("initrd"), initrd, place("initrd"));
            }
            if let Some(console) = &of.console {
                rows.add(what("argument"), format!("console={console}"), place("console"));
            }
            for (args, place) in self.origins.arch_args(name, *arch) {
                for argument in words(args) {
                    rows.add(what("argument"), argument, &place);
                }
            }
        }
    }
}

fn with(what: &str, condition: &str) -> String {
    if condition.is_empty() { what.to_owned() } else { format!("{what} {condition}") }
}

/// Arguments as the kernel tells them apart: blanks in double quotes belong to one.
fn words(args: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for character in args.chars() {
        is_quoted ^= character == '"';
        match words.last_mut() {
            Some(word) if is_quoted || !character.is_whitespace() => word.push(character),
            _ => words.push(String::new()),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
