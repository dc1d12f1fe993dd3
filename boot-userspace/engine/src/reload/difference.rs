//! What a new configuration changes, in words, and which of it waits for a restart.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{Config, Group, Http, Interface, Machine, Profile, Subnet, Tftp, Tls};

/// How many machines are named of those that were added, changed or removed.
const MOST_NAMED: usize = 20;

/// What is different in a new configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What has changed, each as a few words.
    pub changed: Vec<String>,
    /// The keys that stay as they were until xpxe is restarted.
    pub waiting: Vec<String>,
    /// The machines of the registry that are not served with it and were before, each as a sentence.
    pub not_served: Vec<String>,
}

/// The new configuration as far as it can be served without a restart; the rest is that of the running one.
#[must_use]
pub fn live(running: &Config, new: Config) -> Config {
    let Config { state_dir, store, boot_dir, pin_dir, fast_path_memory, boots, ipxe, interfaces, .. } =
        running.clone();
    let http = Http {
        shared_addresses: new.http.shared_addresses,
        signed_links: new.http.signed_links,
        tls: running_tls(running.http.tls.as_ref(), new.http.tls),
        fronts: new.http.fronts,
        inventory_clients: new.http.inventory_clients,
        bss_writers: new.http.bss_writers,
        pixiecore_api: new.http.pixiecore_api,
        ..running.http.clone()
    };
    let tftp = Tftp { clients: new.tftp.clients, ..running.tftp.clone() };
    let api = running.api.clone();
    Config {
        api,
        state_dir,
        store,
        boot_dir,
        pin_dir,
        fast_path_memory,
        boots,
        ipxe,
        interfaces,
        http,
        tftp,
        ..new
    }
}

/// A listening socket stays as it is; what is shown there is replaced.
fn running_tls(running: Option<&Tls>, new: Option<Tls>) -> Option<Tls> {
    let running = running?;
    Some(new.map_or_else(|| running.clone(), |new| Tls { listen: running.listen, ..new }))
}

/// What a new configuration changes of the running one.
#[must_use]
pub fn changes(running: &Config, new: &Config) -> Changes {
    let mut changed = machines(&running.machines, &new.machines);
    changed.extend(subnets(&running.subnets, &new.subnets));
    changed.extend(profiles(running, new));
    changed.extend(groups(&running.groups, &new.groups));
    changed.extend(templates(running, new));
    let mut note = |differs: bool, what: &str| {
        if differs {
            changed.push(format!("changed {what}"));
        }
    };
    note(running.boot_files != new.boot_files, "[[boot_file]]");
    note(running.default.profile != new.default.profile, "default.profile");
    note(running.lifecycle != new.lifecycle, "[lifecycle]");
    note(running.identity != new.identity, "[identity]");
    note(running.agent != new.agent, "[agent]");
    note(running.webhooks != new.webhooks, "[[webhook]]");
    note(running.default.unknown != new.default.unknown, "default.unknown");
    note(running.http.shared_addresses != new.http.shared_addresses, "http.shared_addresses");
    note(running.http.signed_links != new.http.signed_links, "http.signed_links");
    if let (Some(was), Some(is)) = (&running.http.tls, &new.http.tls) {
        note(was.certificate != is.certificate, "http.tls.certificate");
        note(was.key != is.key, "http.tls.key");
    }
    note(running.images.size != new.images.size, "images.size");
    note(running.images.check != new.images.check, "images.check");
    note(running.images.upstreams != new.images.upstreams, "[[images.upstream]]");
    note(running.http.fronts != new.http.fronts, "http.fronts");
    note(running.http.inventory_clients != new.http.inventory_clients, "http.inventory_clients");
    note(running.http.bss_writers != new.http.bss_writers, "http.bss_writers");
    note(running.http.pixiecore_api != new.http.pixiecore_api, "http.pixiecore_api");
    note(running.tftp.clients != new.tftp.clients, "tftp.clients");
    note(running.traces != new.traces, "[traces]");
    Changes { changed, waiting: waiting(running, new), not_served: Vec::new() }
}

fn waiting(running: &Config, new: &Config) -> Vec<String> {
    let (http, tftp) = (&running.http, &running.tftp);
    let keys = [
        ("state_dir", running.state_dir != new.state_dir),
        ("store", running.store != new.store),
        ("boot_dir", running.boot_dir != new.boot_dir),
        ("pin_dir", running.pin_dir != new.pin_dir),
        ("fast_path_memory", running.fast_path_memory != new.fast_path_memory),
        ("boots", running.boots != new.boots),
        ("http.listen", http.listen != new.http.listen),
        ("http.advertise", http.advertise != new.http.advertise),
        ("http.connections_per_address", http.connections_per_address != new.http.connections_per_address),
        ("http.trusted_proxies", http.trusted_proxies != new.http.trusted_proxies),
        ("http.threads", http.threads != new.http.threads),
        ("http.tls", tls_listens(http) != tls_listens(&new.http)),
        ("[api]", running.api != new.api),
        ("tftp.windowsize", tftp.windowsize != new.tftp.windowsize),
        ("tftp.single_port", tftp.single_port != new.tftp.single_port),
        ("ipxe", running.ipxe != new.ipxe),
    ];
    let keys = keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned());
    let of = |config: &Config, name: &str| -> Option<Interface> {
        config.interfaces.iter().find(|interface| interface.name == name).cloned()
    };
    let mut interfaces: Vec<&str> =
        running.interfaces.iter().chain(&new.interfaces).map(|interface| interface.name.as_str()).collect();
    interfaces.sort_unstable();
    interfaces.dedup();
    let interfaces = interfaces.into_iter().filter(|name| of(running, name) != of(new, name));
    keys.chain(interfaces.map(|name| format!("[[interface]] {name}"))).collect()
}

fn tls_listens(http: &Http) -> Option<SocketAddr> {
    http.tls.as_ref().map(|tls| tls.listen)
}

fn machines(running: &[Arc<Machine>], new: &[Arc<Machine>]) -> Vec<String> {
    let by_name = |machines: &[Arc<Machine>]| -> HashMap<String, Arc<Machine>> {
        machines.iter().map(|machine| (called(machine), Arc::clone(machine))).collect()
    };
    let (before, now) = (by_name(running), by_name(new));
    let not_in = |machines: &[Arc<Machine>], others: &HashMap<String, Arc<Machine>>| -> Vec<String> {
        machines.iter().map(|machine| called(machine)).filter(|name| !others.contains_key(name)).collect()
    };
    let changed = new.iter().map(|machine| called(machine));
    let changed = changed.filter(|name| before.get(name).is_some_and(|was| now.get(name) != Some(was)));
    let mut said = Vec::new();
    for (verb, names) in
        [("added", not_in(new, &before)), ("changed", changed.collect()), ("removed", not_in(running, &now))]
    {
        said.extend(names.iter().take(MOST_NAMED).map(|name| format!("{verb} machine {name}")));
        if names.len() > MOST_NAMED {
            said.push(format!("{verb} {} more machines", names.len() - MOST_NAMED));
        }
    }
    said
}

/// A machine's name, or else what it is known by.
fn called(machine: &Machine) -> String {
    let identity = || {
        let identity = crate::machines::Identity::all(machine).next();
        identity.map_or_else(String::new, |identity| identity.to_string())
    };
    machine.name.clone().unwrap_or_else(identity)
}

fn subnets(running: &[Subnet], new: &[Subnet]) -> Vec<String> {
    let mut said = Vec::new();
    for subnet in new {
        match running.iter().find(|was| was.cidr == subnet.cidr) {
            None => said.push(format!("added subnet {}", subnet.cidr)),
            Some(was) if was != subnet => {
                said.push(format!(
                    "changed subnet {}: {}",
                    subnet.cidr,
                    keys_of_subnet(was, subnet).join(", ")
                ));
            }
            Some(_) => {}
        }
    }
    let gone = running.iter().filter(|was| new.iter().all(|subnet| subnet.cidr != was.cidr));
    said.extend(gone.map(|was| format!("removed subnet {}", was.cidr)));
    said
}

fn keys_of_subnet(was: &Subnet, now: &Subnet) -> Vec<&'static str> {
    let keys = [
        ("pool", was.pool != now.pool),
        ("router", was.router != now.router),
        ("dns", was.dns != now.dns),
        ("domain", was.domain != now.domain),
        ("lease", was.lease != now.lease),
        ("boot_lease", was.boot_lease != now.boot_lease),
        ("probe", was.probe != now.probe),
        ("authoritative", was.authoritative != now.authoritative),
        ("options", was.options != now.options),
    ];
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

fn profiles(running: &Config, new: &Config) -> Vec<String> {
    let mut said = Vec::new();
    for (name, profile) in &new.profiles {
        match running.profiles.get(name) {
            None => said.push(format!("added profile {name}")),
            Some(was) if was != profile => {
                said.push(format!("changed profile {name}: {}", keys_of_profile(was, profile).join(", ")));
            }
            Some(_) => {}
        }
    }
    let gone = running.profiles.keys().filter(|name| !new.profiles.contains_key(*name));
    said.extend(gone.map(|name| format!("removed profile {name}")));
    said
}

fn templates(running: &Config, new: &Config) -> Vec<String> {
    let changed = new
        .templates
        .iter()
        .filter(|(name, text)| running.templates.get(*name).is_some_and(|was| was != *text));
    changed.map(|(name, _)| format!("changed {name}")).collect()
}

fn groups(running: &[Group], new: &[Group]) -> Vec<String> {
    let of = |groups: &[Group], name: &str| groups.iter().find(|group| group.name == name).cloned();
    let mut said = Vec::new();
    for group in new {
        match of(running, &group.name) {
            None => said.push(format!("added group {}", group.name)),
            Some(was) if was != *group => {
                let keys = [
                    ("match", was.fits != group.fits),
                    ("profile", was.profile != group.profile),
                    ("args", was.args != group.args),
                    ("documents", was.documents != group.documents),
                    ("options", was.options != group.options),
                ];
                let keys = keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key);
                said.push(format!("changed group {}: {}", group.name, keys.collect::<Vec<_>>().join(", ")));
            }
            Some(_) => {}
        }
    }
    let gone = running.iter().filter(|was| of(new, &was.name).is_none());
    said.extend(gone.map(|was| format!("removed group {}", was.name)));
    let order = |groups: &[Group]| groups.iter().map(|group| group.name.clone()).collect::<Vec<_>>();
    if said.is_empty() && order(running) != order(new) {
        said.push("changed the order of the groups".to_owned());
    }
    said
}

fn keys_of_profile(was: &Profile, now: &Profile) -> Vec<&'static str> {
    let keys = [
        (now.kind.key(), was.menu.is_none() && (was.kind, &was.kernel) != (now.kind, &now.kernel)),
        ("menu", was.menu != now.menu),
        ("initrd", was.initrd != now.initrd),
        ("args", was.args != now.args),
        ("console", was.console != now.console),
        ("template", was.template != now.template),
        ("documents", was.documents != now.documents),
        ("arch", was.arch != now.arch),
        ("boot_file", was.boot_file != now.boot_file),
        ("options", was.options != now.options),
    ];
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}
