//! Tinkerbell's Hardware: YAML as `kubectl get hardware -A -o yaml` prints it, or as it was applied.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use boot_common::Mac;
use ipnet::Ipv4Net;

use super::options::Value;
use super::setup::{DhcpOption, Place, Setup, Subnet, Table, list, name_of, quoted, time};
use super::tree::{self, Node};

/// Reads a file.
///
/// # Errors
/// The file that cannot be read.
pub(super) fn import(path: &Path) -> Result<Setup, String> {
    let file = path.display().to_string();
    let mut setup = Setup::new();
    let text = setup.read(path)?;
    match tree::yaml(&text, &file) {
        Err(bad) => setup.bad.push(bad),
        Ok(documents) => {
            setup.http.set("fronts", "[\"smee\"]".to_owned(), None).note =
                Some("smee's URLs are answered".to_owned());
            setup.default.text("unknown", "ignore", None).note =
                Some("as Tinkerbell does: only its Hardware is answered".to_owned());
            let mut profiles = BTreeMap::new();
            for document in &documents {
                let items = document.get("items").map(Node::items).unwrap_or_default();
                let whole = items.is_empty().then_some(document);
                for hardware in items.iter().chain(whole) {
                    one(&mut setup, &file, hardware, &mut profiles);
                }
            }
            if setup.machines.is_empty() && setup.bad.is_empty() {
                setup.bad(&Place::new(&file, 1), "has no Hardware with a MAC address");
            }
        }
    }
    Ok(setup)
}

fn one(setup: &mut Setup, file: &str, node: &Node, profiles: &mut BTreeMap<String, String>) {
    let place = Place::new(file, node.line);
    match node.text_of("kind") {
        Some("Hardware") => {}
        Some(kind) => return setup.left(&place, format!("kind: {kind}"), "only Hardware becomes machines"),
        None => return,
    }
    let name = node.get("metadata").and_then(|metadata| metadata.text_of("name")).unwrap_or("unnamed");
    let Some(spec) = node.get("spec") else {
        return setup.left(&place, format!("Hardware {name}"), "has no spec");
    };
    let mut labels = Vec::new();
    for (key, value) in
        node.get("metadata").and_then(|metadata| metadata.get("labels")).map(Node::pairs).unwrap_or_default()
    {
        let is_key = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        match is_key {
            true => labels.push(format!("{key} = {}", quoted(value.text().unwrap_or_default()))),
            false => setup.left(
                &Place::new(file, value.line),
                format!("labels.{key}: {value}"),
                "cannot be the name of a label",
            ),
        }
    }
    let mut is_first = true;
    for interface in spec.get("interfaces").map(Node::items).unwrap_or_default() {
        let place = Place::new(file, interface.line);
        let Some(dhcp) = interface.get("dhcp") else {
            setup.left(&place, format!("interfaces: {interface}"), "has no dhcp");
            continue;
        };
        let Some(mac) = dhcp.text_of("mac") else {
            setup.left(&place, format!("interfaces: {interface}"), "has no mac");
            continue;
        };
        let Ok(mac) = mac.parse::<Mac>() else {
            setup.bad(&Place::new(file, dhcp.line), format!("{mac:?} is no MAC address"));
            continue;
        };
        let mut machine = Table::new("[[machine]]", Some(place.clone()));
        machine.text("mac", &mac.to_string(), Some(&place));
        let own = dhcp.text_of("hostname").filter(|_| is_first).unwrap_or(name);
        let own = name_of(own.split('.').next().unwrap_or_default());
        let own = if is_first { own } else { format!("{own}-{}", mac.to_string().replace(':', "")) };
        machine.text("name", &own, Some(&place));
        if !labels.is_empty() {
            machine.set("labels", format!("{{ {} }}", labels.join(", ")), Some(&place));
        }
        address(setup, file, dhcp, &mut machine);
        netboot(setup, file, interface, &mut machine, profiles);
        is_first = false;
        setup.machines.push(machine);
        let taken = [
            "mac",
            "hostname",
            "ip",
            "lease_time",
            "name_servers",
            "time_servers",
            "uefi",
            "arch",
            "iface_name",
        ];
        for (key, value) in dhcp.pairs() {
            if !taken.contains(&key.as_str()) && !value.is_empty() {
                setup.left(
                    &Place::new(file, value.line),
                    format!("dhcp.{key}: {value}"),
                    "xpxe has nothing like it",
                );
            }
        }
    }
    for (key, value) in spec.pairs().iter().filter(|(key, value)| key != "interfaces" && !value.is_empty()) {
        let what = match key.as_str() {
            // Passwords and tokens of the machine are in there.
            "userData" | "vendorData" => format!("{name}: {key}"),
            _ => format!("{name}: {key}: {value}"),
        };
        let why = match key.as_str() {
            "userData" => "write it as a file, and documents = { user-data = \"FILE\" } into the [[machine]]",
            "vendorData" => {
                "write it as a file, and documents = { vendor-data = \"FILE\" } into the [[machine]]"
            }
            "bmcRef" => "give the machine its bmc, or [bmc] (docs/machines.md)",
            "disks" | "metadata" | "resources" | "tinkVersion" => "is for Tinkerbell's workflows",
            _ => "xpxe has nothing like it",
        };
        setup.left(&Place::new(file, value.line), what, why);
    }
}

/// The address, and the network that it is in.
fn address(setup: &mut Setup, file: &str, dhcp: &Node, machine: &mut Table) {
    let Some(ip) = dhcp.get("ip") else { return };
    let place = Place::new(file, ip.line);
    let Some(Ok(address)) = ip.text_of("address").map(str::parse::<Ipv4Addr>) else {
        return setup.left(&place, format!("ip: {ip}"), "has no IPv4 address");
    };
    machine.text("ip", &address.to_string(), Some(&place));
    let mask = ip.text_of("netmask").and_then(|mask| mask.parse::<Ipv4Addr>().ok());
    let Some(cidr) = mask.and_then(|mask| Ipv4Net::with_netmask(address, mask).ok()) else {
        return setup.left(&place, format!("ip: {ip}"), "has no netmask: write the [[subnet]]");
    };
    let at = setup.subnets.iter().position(|subnet| subnet.cidr.contains(&address));
    let at = at.unwrap_or_else(|| {
        let mut subnet = Subnet::new(cidr, place.clone());
        let seconds =
            dhcp.text_of("lease_time").and_then(|text| text.parse::<u64>().ok()).filter(|lease| *lease > 0);
        let lease = time(seconds.unwrap_or(7 * 86_400).clamp(60, 365 * 86_400));
        subnet.table.text("lease", &lease, Some(&place));
        setup.subnets.push(subnet);
        setup.subnets.len() - 1
    });
    let router = ip.text_of("gateway").map(quoted);
    let servers: Vec<String> = dhcp.texts("name_servers").iter().map(|server| quoted(server)).collect();
    let dns = (!servers.is_empty()).then(|| list(&servers));
    let times: Vec<Ipv4Addr> =
        dhcp.texts("time_servers").iter().filter_map(|server| server.parse().ok()).collect();
    let mut differs = Vec::new();
    if let Some(subnet) = setup.subnets.get_mut(at) {
        for (key, value) in [("router", router), ("dns", dns)] {
            let Some(value) = value else { continue };
            match subnet.table.get(key) {
                Some(other) if other.value != value => differs.push(format!("{key} = {value}")),
                Some(_) => {}
                None => drop(subnet.table.set(key, value, Some(&place))),
            }
        }
    }
    if !times.is_empty() {
        machine.option(DhcpOption {
            code: 42,
            value: Value::Ip(times),
            always: false,
            client: None,
            place: place.clone(),
        });
    }
    for what in differs {
        setup.left(
            &place,
            what,
            "another machine of the subnet says otherwise; write it as an option of the [[machine]]",
        );
    }
}

fn netboot(
    setup: &mut Setup,
    file: &str,
    interface: &Node,
    machine: &mut Table,
    profiles: &mut BTreeMap<String, String>,
) {
    let Some(netboot) = interface.get("netboot") else { return };
    for (key, value) in netboot.pairs() {
        let place = Place::new(file, value.line);
        match key.as_str() {
            "allowPXE" if value.text() == Some("true") => {}
            "allowPXE" => setup.left(
                &place,
                format!("netboot.{key}: {value}"),
                "xpxe offers boot files to every machine that asks for one",
            ),
            "allowWorkflow" => {} // Tinkerbell's own
            "osie" => {
                let base = value.text_of("baseURL").unwrap_or_default().trim_end_matches('/').to_owned();
                if base.is_empty() {
                    setup.left(&place, format!("netboot.osie: {value}"), "has no baseURL");
                    continue;
                }
                let kernel = value.text_of("kernel").unwrap_or("vmlinuz-x86_64");
                let initrd = value.text_of("initrd").unwrap_or("initramfs-x86_64");
                let name = profiles.entry(format!("{base} {kernel} {initrd}")).or_insert_with(|| {
                    let name = format!("osie-{}", setup.profiles.len() + 1);
                    let mut table = Table::new("[[profile]]", Some(place.clone()));
                    table.text("name", &name, Some(&place));
                    table.text("kernel", &format!("{base}/{kernel}"), Some(&place));
                    table.set("initrd", list(&[quoted(&format!("{base}/{initrd}"))]), Some(&place));
                    setup.profiles.push(table);
                    name
                });
                machine.text("profile", name, Some(&place));
            }
            "ipxe" => match value.text_of("url") {
                Some(url) => {
                    let value = Value::Text(url.to_owned());
                    machine.option(DhcpOption {
                        code: 67,
                        value,
                        always: false,
                        client: Some("ipxe"),
                        place,
                    });
                }
                None => {
                    let why = "write the script as a file, and template = \"FILE\" into a [[profile]]";
                    setup.left(&place, format!("netboot.ipxe: {value}"), why);
                }
            },
            _ => setup.left(&place, format!("netboot.{key}: {value}"), "xpxe has nothing like it"),
        }
    }
}
