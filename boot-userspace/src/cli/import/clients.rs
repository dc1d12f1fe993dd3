//! Where xpxe's configuration has what the other server's statements say.

use std::collections::BTreeSet;

use super::options::Value;
use super::setup::{DhcpOption, Setup, Table, list, name_of, quoted};
pub(super) use super::stated::{BootRule, Clients};

/// Every description of `a` together with every one of `b`.
pub(super) fn all_of(a: &[Clients], b: &[Clients]) -> Vec<Clients> {
    a.iter().flat_map(|a| b.iter().filter_map(|b| a.and(b))).collect()
}

/// The architectures of IANA's registry that boot over the network.
const LAST_ARCH: u16 = 41;

fn arch_name(arch: u16) -> Option<&'static str> {
    Some(match arch {
        0 | 20 => "bios",
        7 | 9 | 16 | 17 => "x64",
        6 | 15 => "ia32",
        10 | 18 => "arm32",
        11 | 19 => "arm64",
        27 | 28 => "riscv64",
        39 | 40 => "loongarch64",
        _ => return None,
    })
}

/// Puts boot files, of which the first one that fits counts, where the configuration has them.
pub(super) fn place_boot_files(setup: &mut Setup, rules: Vec<BootRule>) {
    setup.rules.clone_from(&rules);
    let (specific, general): (Vec<_>, Vec<_>) =
        rules.into_iter().partition(|rule| rule.clients.archs.is_some());
    let named: BTreeSet<u16> = specific
        .iter()
        .filter(|rule| rule.clients.ipxe != Some(true))
        .filter_map(|rule| rule.clients.archs.clone())
        .flatten()
        .collect();
    for mut rule in specific.into_iter().chain(general) {
        if rule.clients.not_archs.is_subset(&named) {
            // Rules for those come before this one.
            rule.clients.not_archs.clear();
        }
        place_boot_file(setup, rule);
    }
}

fn place_boot_file(setup: &mut Setup, rule: BootRule) {
    let BootRule { clients, file, server, place, what } = rule;
    let file = match file.strip_prefix('/') {
        Some(rest) if clients.ipxe != Some(true) => rest.to_owned(),
        _ => file,
    };
    if clients.ipxe == Some(true) {
        let url = match &server {
            Some(server) if !file.contains("://") => {
                format!("tftp://{server}/{}", file.trim_start_matches('/'))
            }
            _ => file,
        };
        let option = |code, value| DhcpOption {
            code,
            value,
            always: false,
            client: Some("ipxe"),
            place: place.clone(),
        };
        place_option(setup, &clients, option(67, Value::Text(url)), &what, true);
        return;
    }
    if server.is_none() {
        let is_global = clients.subnet.is_none()
            && clients.machine.is_none()
            && clients.circuit_id.is_none()
            && clients.remote_id.is_none()
            && clients.mac.as_ref().is_none_or(|mac| mac.len() == 8);
        if is_global {
            let mut table = Table::new("[[boot_file]]", Some(place.clone()));
            let archs = clients.archs.clone().or_else(|| {
                let others = (0..=LAST_ARCH).filter(|arch| !clients.not_archs.contains(arch));
                (!clients.not_archs.is_empty()).then(|| others.collect())
            });
            if let Some(archs) = archs {
                let archs: Vec<String> = archs.iter().map(ToString::to_string).collect();
                table.set("arch", list(&archs), Some(&place));
            }
            if let Some(mac) = &clients.mac {
                table.text("oui", mac, Some(&place));
            }
            table.text("file", &file, Some(&place));
            match setup.boot_files.last_mut().filter(|last| is_for_more(last, &table)) {
                Some(last) => {
                    let arch =
                        |table: &Table| table.get("arch").map(|key| key.value.clone()).unwrap_or_default();
                    let both = format!(
                        "{}, {}",
                        arch(last).trim_end_matches(']'),
                        arch(&table).trim_start_matches('[')
                    );
                    let place = last.place.clone();
                    last.set("arch", both, place.as_ref());
                    last.keys.rotate_right(1);
                }
                None => setup.boot_files.push(table),
            }
            return;
        }
        if let Some(machine) = clients.machine.filter(|_| !clients.has_group() && clients.subnet.is_none()) {
            if let Some(table) = setup.machines.get_mut(machine)
                && table.get("boot_file").is_none()
            {
                table.text("boot_file", &file, Some(&place));
            }
            return;
        }
    }
    let option = |code, value| DhcpOption {
        code,
        value,
        always: false,
        client: Some("firmware"),
        place: place.clone(),
    };
    let placed = place_option(setup, &clients, option(67, Value::Text(file)), &what, true);
    if let Some(server) = server.filter(|_| placed) {
        place_option(setup, &clients, option(66, Value::Text(server)), &what, true);
    }
}

/// Whether both rules differ in their architectures only.
fn is_for_more(last: &Table, next: &Table) -> bool {
    let value = |table: &Table, key: &str| table.get(key).map(|key| key.value.clone());
    let same = |key: &str| value(last, key) == value(next, key);
    let (old, new) = (value(last, "arch"), value(next, "arch"));
    same("file") && same("oui") && old.is_some() && new.is_some() && old != new
}

/// Puts an option into the tables of these clients; false if it is left out. With `first`, an option that is there
/// already stays.
pub(super) fn place_option(
    setup: &mut Setup,
    clients: &Clients,
    option: DhcpOption,
    what: &str,
    first: bool,
) -> bool {
    let says_class = |text: &String| ["PXEClient", "HTTPClient"].contains(&text.as_str());
    if option.code == 60 && matches!(&option.value, Value::Text(text) if says_class(text)) {
        setup.left(&option.place, what, "xpxe says it by itself to the firmware that wants to hear it");
        return false;
    }
    let client = match (option.client, clients.ipxe, clients.is_firmware) {
        (Some(client), ..) => vec![Some(client)],
        (None, Some(true), _) => vec![Some("ipxe")],
        (None, _, true) => vec![Some("firmware")],
        (None, Some(false), _) if [43, 60, 66, 67].contains(&option.code) => vec![None],
        (None, Some(false), _) => vec![Some("firmware"), Some("os")],
        (None, None, false) => vec![None],
    };
    let mut is_placed = false;
    let mut put = |table: &mut Table| {
        for client in &client {
            if !(first && table.has_option(option.code, *client)) {
                table.option(DhcpOption { client: *client, ..option.clone() });
                is_placed = true;
            }
        }
    };
    if let Some(machine) = clients.machine {
        if clients.has_group() || clients.subnet.is_some() {
            let why =
                "xpxe has no condition for a machine together with its architecture, subnet or switch port";
            setup.left(&option.place, what, why);
            return false;
        }
        setup.machines.get_mut(machine).map(put);
    } else if clients.has_group() || setup.subnets.is_empty() {
        match group(setup, clients) {
            Ok(group) => setup.groups.get_mut(group).map(put),
            Err(why) => {
                setup.left(&option.place, what, why);
                return false;
            }
        };
    } else if let Some(subnet) = clients.subnet {
        if let Some(subnet) = setup.subnets.get_mut(subnet) {
            put(&mut subnet.table);
        }
    } else {
        setup.subnets.iter_mut().for_each(|subnet| put(&mut subnet.table));
    }
    if !is_placed {
        setup.left(&option.place, what, "an earlier statement for the same clients counts");
    }
    is_placed
}

/// The number of the group with these conditions, which is made if it is not there.
fn group(setup: &mut Setup, clients: &Clients) -> Result<usize, String> {
    let mut conditions = Vec::new();
    let mut names = Vec::new();
    if let Some(mac) = &clients.mac {
        names.push(mac.replace(':', ""));
        conditions.push(format!("mac = {}", quoted(mac)));
    }
    for (key, value) in [("circuit_id", &clients.circuit_id), ("remote_id", &clients.remote_id)] {
        if let Some(value) = value {
            names.push(name_of(value));
            conditions.push(format!("{key} = {}", quoted(value)));
        }
    }
    if let Some(subnet) = clients.subnet.and_then(|subnet| setup.subnets.get(subnet)) {
        names.push(name_of(&subnet.cidr.to_string()));
        conditions.push(format!("subnet = {}", quoted(&subnet.cidr.to_string())));
    }
    let archs = clients.archs.clone().or_else(|| {
        let others = (0..=LAST_ARCH).filter(|arch| !clients.not_archs.contains(arch));
        (!clients.not_archs.is_empty()).then(|| others.collect())
    });
    if let Some(archs) = archs {
        let found: BTreeSet<&str> = archs.iter().filter_map(|arch| arch_name(*arch)).collect();
        if found.is_empty() {
            return Err(format!("groups have no name for the architectures {archs:?}"));
        }
        names.extend(found.iter().map(|name| (*name).to_owned()));
        let found: Vec<String> = found.iter().map(|name| quoted(name)).collect();
        conditions.push(format!("arch = {}", list(&found)));
    }
    let condition = match conditions.is_empty() {
        true => "{}".to_owned(),
        false => format!("{{ {} }}", conditions.join(", ")),
    };
    let is_it = |table: &Table| table.get("match").is_some_and(|key| key.value == condition);
    if let Some(at) = setup.groups.iter().position(is_it) {
        return Ok(at);
    }
    let mut table = Table::new("[[group]]", None);
    let name = if names.is_empty() { "everybody".to_owned() } else { names.join("-") };
    table.text("name", &name_of(&name), None);
    table.set("match", condition, None);
    setup.groups.push(table);
    Ok(setup.groups.len() - 1)
}
