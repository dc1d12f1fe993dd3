//! File shape → checked shape. Every check reports and goes on.

use std::collections::{BTreeMap, HashMap};

use super::checked::{Config, Default, DhcpRole, FastPath, Interface, Machine, Tftp, TftpClients, Unknown};
use super::report::{At, Place, Report, once};
use super::template::ReadText;
use super::texts::Texts;
use super::value::quoted;
use super::{
    address, agent, amount, api, bmc, boot_file, file, group, http, identity, images, lifecycle, machine,
    name, profile, store, subnet, traces, value, webhook,
};

/// The configuration without its machines, and these; complete only if nothing was reported.
pub(super) fn check(
    file: &file::File,
    read: &ReadText<'_>,
    report: &mut Report<'_>,
) -> (Config, Vec<Machine>) {
    let mut config = Config::empty();
    let mut texts = Texts::new(all_labels(file), read);
    directories(file, &mut config, report);
    config.store = store::check(file.store.as_ref(), file.store_password_file.as_ref(), report);
    if let Some(memory) = &file.fast_path_memory {
        config.fast_path_memory = memory.read(report, amount::memory).unwrap_or(config.fast_path_memory);
    }
    if let Some(boots) = &file.boots {
        config.boots = boots.value;
    }
    config.http = http::check(&file.http, report);
    let listens: Vec<_> =
        std::iter::once(config.http.listen).chain(config.http.tls.as_ref().map(|tls| tls.listen)).collect();
    config.api = api::check(&file.api, &listens, report);
    config.traces = traces::check(&file.traces, config.boots, report);
    config.images = images::check(&file.images, report);
    config.tftp = tftp(file, config.tftp, report);
    for (kind, path) in &file.ipxe {
        config.ipxe.extend(path.read(report, value::absolute).map(|path| ((*kind).to_owned(), path)));
    }
    config.interfaces = interfaces(file, report);
    let (subnets, nets) = subnet::check(&file.subnets, report);
    config.subnets = subnets;
    let (profiles, names) = profile::profiles(file, &config.boot_dir, &mut texts, report);
    config.profiles = profiles;
    let default_profile = file.default_profile.as_ref().map(|at| at.value.as_str());
    let others = group::Others { profiles: &names, default_profile, subnets: &config.subnets };
    config.groups = group::check(&file.groups, &others, &mut texts, report);
    config.boot_files = boot_file::check(&file.boot_files, &config.boot_dir, report);
    let default = file.default_profile.as_ref();
    config.default = Default {
        profile: default.and_then(|at| at.read(report, |text| names.find(text))),
        unknown: chosen(file.unknown.as_ref(), &UNKNOWN, Unknown::Boot, report),
    };
    let groups: Vec<&str> = config.groups.iter().map(|group| group.name.as_str()).collect();
    config.agent = agent::check(&file.agent, report);
    config.identity = identity::check(&file.identity, report);
    config.lifecycle = lifecycle::check(&file.lifecycle, &names, &groups, report);
    config.bmc = bmc::check_all(file.bmc.as_ref(), report);
    config.webhooks = webhook::check(&file.webhooks, report);
    let others = machine::Others {
        nets: &nets,
        profiles: &names,
        default_profile,
        groups: &config.groups,
        boot_dir: &config.boot_dir,
    };
    let machines = machine::check(&file.machines, &others, &mut texts, report);
    config.templates = texts.finish(report);
    (config, machines)
}

/// Every label that a machine has, with the first of its values.
fn all_labels(file: &file::File) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (key, at) in file.machines.iter().flat_map(|machine| &machine.labels) {
        if !labels.contains_key(key) {
            labels.insert(key.clone(), at.value.clone());
        }
    }
    labels
}

const DHCP: [(&str, DhcpRole); 3] =
    [("server", DhcpRole::Server), ("proxy", DhcpRole::Proxy), ("off", DhcpRole::Off)];
const FAST_PATH: [(&str, FastPath); 4] =
    [("auto", FastPath::Auto), ("xdp", FastPath::Xdp), ("tc", FastPath::Tc), ("off", FastPath::Off)];
const UNKNOWN: [(&str, Unknown); 3] =
    [("boot", Unknown::Boot), ("discover", Unknown::Discover), ("ignore", Unknown::Ignore)];

fn chosen<T: Copy>(at: Option<&At<String>>, words: &[(&str, T)], default: T, report: &mut Report<'_>) -> T {
    at.and_then(|at| at.read(report, |text| value::choice(text, words))).unwrap_or(default)
}

fn directories(file: &file::File, config: &mut Config, report: &mut Report<'_>) {
    let mut path = |at: &Option<At<String>>| at.as_ref().and_then(|at| at.read(report, value::absolute));
    if let Some(state_dir) = path(&file.state_dir) {
        config.boot_dir = state_dir.join("boot");
        config.state_dir = state_dir;
    }
    if let Some(boot_dir) = path(&file.boot_dir) {
        config.boot_dir = boot_dir;
    }
    if let Some(pin_dir) = path(&file.pin_dir) {
        config.pin_dir = pin_dir;
    }
}

fn tftp(file: &file::File, default: Tftp, report: &mut Report<'_>) -> Tftp {
    let windowsize = file.windowsize.as_ref().and_then(|at| u16::try_from(at.value).ok());
    Tftp {
        windowsize: windowsize.unwrap_or(default.windowsize),
        single_port: file.single_port.as_ref().map_or(default.single_port, |at| at.value),
        clients: tftp_clients(&file.clients, report),
    }
}

fn tftp_clients(written: &[At<String>], report: &mut Report<'_>) -> TftpClients {
    match written {
        [only] if only.value == "any" => return TftpClients::Any,
        [only] if only.value == "served" => return TftpClients::Served(Vec::new()),
        _ => {}
    }
    let network = |text: &str| {
        address::cidr(text).map_err(|why| match text {
            "any" | "served" => {
                format!("\"{text}\" stands alone; write clients = \"{text}\", or networks only")
            }
            _ if text.contains('/') => why,
            _ => format!(
                "{} is neither \"served\" nor \"any\" nor a network; write clients = [\"10.2.0.0/16\"]",
                quoted(text)
            ),
        })
    };
    TftpClients::Served(written.iter().filter_map(|at| at.read(report, network)).collect())
}

fn interfaces(file: &file::File, report: &mut Report<'_>) -> Vec<Interface> {
    if !file.has_interfaces {
        let message = "there is no interface to serve on; write an [[interface]] section with name = \"eth1\", the \
                       network card that machines boot from";
        report.add(&Place { key: "interface".to_owned(), line: None }, message);
    }
    let mut seen = HashMap::new();
    let mut server: Option<&Place> = None;
    let mut interfaces = Vec::new();
    for from in &file.interfaces {
        let name = from.name.as_ref().and_then(|at| {
            let name = at.read(report, name::interface)?;
            once(&mut seen, name.clone(), at, "interface", report);
            Some(name)
        });
        let dhcp = chosen(from.dhcp.as_ref(), &DHCP, DhcpRole::Server, report);
        let fast_path = chosen(from.fast_path.as_ref(), &FAST_PATH, FastPath::Auto, report);
        server = server.or(match &from.dhcp {
            Some(at) if at.value == "server" => Some(&at.place),
            None if !from.has_dhcp => Some(&from.place),
            _ => None,
        });
        let router_advertisement = from.router_advertisement.unwrap_or(true);
        interfaces.extend(name.map(|name| Interface { name, dhcp, fast_path, router_advertisement }));
    }
    if let Some(place) = server {
        addresses_to_serve(file, place, report);
    }
    interfaces
}

/// A DHCP server without addresses would leave every machine waiting.
fn addresses_to_serve(file: &file::File, server: &Place, report: &mut Report<'_>) {
    let instead = "or write dhcp = \"proxy\" if another server hands them out";
    if !file.has_subnets {
        let message = format!(
            "a DHCP server needs addresses; write a [[subnet]] with cidr = \"10.1.0.0/16\" and \
             pool = [\"10.1.1.33-10.1.1.233\"], {instead}"
        );
        report.add(server, message);
    } else if !file.subnets.is_empty()
        && !file.subnets.iter().any(|subnet| subnet.has_pool)
        && !file.machines.iter().any(|machine| machine.has_ip)
    {
        let message = format!(
            "a DHCP server needs addresses, but no [[subnet]] has a pool and no [[machine]] an ip; \
             write pool = [\"10.1.1.33-10.1.1.233\"] in a [[subnet]], {instead}"
        );
        report.add(server, message);
    }
}
