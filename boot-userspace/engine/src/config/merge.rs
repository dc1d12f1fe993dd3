//! Several files as one: what each says is added to what those before it say.

use super::bmc;
use super::file::File;
use super::report::{Report, one, one_list, twice};

impl File {
    /// Adds what a further file says. Interfaces, subnets, profiles, groups, rules, webhooks and machines come behind those that are there;
    /// any other key may be in one file only.
    pub(super) fn add(&mut self, more: Self, report: &mut Report<'_>) {
        self.http.add(more.http, report);
        self.api.add(more.api, report);
        self.traces.add(more.traces, report);
        self.images.add(more.images, report);
        self.lifecycle.add(more.lifecycle, report);
        self.identity.add(more.identity, report);
        bmc::add(&mut self.bmc, more.bmc, report);
        self.agent.add(more.agent, report);
        one(&mut self.state_dir, more.state_dir, report);
        one(&mut self.store, more.store, report);
        one(&mut self.store_password_file, more.store_password_file, report);
        one(&mut self.boot_dir, more.boot_dir, report);
        one(&mut self.pin_dir, more.pin_dir, report);
        one(&mut self.fast_path_memory, more.fast_path_memory, report);
        one(&mut self.boots, more.boots, report);
        one(&mut self.windowsize, more.windowsize, report);
        one(&mut self.single_port, more.single_port, report);
        one(&mut self.default_profile, more.default_profile, report);
        one(&mut self.unknown, more.unknown, report);
        one_list(&mut self.clients, more.clients, report);
        for (kind, path) in more.ipxe {
            match self.ipxe.iter().find(|(other, _)| *other == kind) {
                Some((_, before)) => twice(&before.place, &path.place, report),
                None => self.ipxe.push((kind, path)),
            }
        }
        self.interfaces.extend(more.interfaces);
        self.subnets.extend(more.subnets);
        self.profiles.extend(more.profiles);
        self.groups.extend(more.groups);
        self.boot_files.extend(more.boot_files);
        self.machines.extend(more.machines);
        self.webhooks.extend(more.webhooks);
        self.has_interfaces |= more.has_interfaces;
        self.has_subnets |= more.has_subnets;
        self.has_profiles |= more.has_profiles;
    }
}
