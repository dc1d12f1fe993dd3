//! What BSS has: the answer of `/boot/v1/bootparameters` or `/boot/v1/dumpstate`.

use std::collections::BTreeMap;
use std::path::Path;

use boot_common::Mac;

use super::setup::{Place, Setup, Table, list, name_of, quoted};
use super::tree::{self, Node};

/// A node of the state manager.
#[derive(Clone, Debug, Default)]
struct Component {
    macs: Vec<String>,
    nid: Option<String>,
    role: Option<String>,
}

/// Reads a file.
///
/// # Errors
/// The file that cannot be read.
pub(super) fn import(path: &Path) -> Result<Setup, String> {
    let file = path.display().to_string();
    let mut setup = Setup::new();
    let text = setup.read(path)?;
    let node = match tree::json(&text, &file) {
        Ok(node) => node,
        Err(bad) => {
            setup.bad.push(bad);
            return Ok(setup);
        }
    };
    setup.http.text("listen", "0.0.0.0:27778", None).note = Some("BSS's port".to_owned());
    setup.http.set("fronts", "[\"bss\"]".to_owned(), None);
    setup.note("BSS gives no addresses: xpxe is a proxy beside the DHCP server here.");
    let components = components(&node);
    let parameters = node.get("Params").unwrap_or(&node).items();
    if parameters.is_empty() {
        setup.bad(
            &Place::new(&file, node.line),
            "has no boot parameters: save /boot/v1/bootparameters or /boot/v1/dumpstate",
        );
    }
    let mut profiles: BTreeMap<(String, String), String> = BTreeMap::new();
    let is_default = |entry: &&Node| !entry.texts("hosts").contains(&"Default");
    let mut parameters: Vec<&Node> = parameters.iter().collect();
    parameters.sort_by_key(is_default);
    for entry in parameters {
        boot_parameters(&mut setup, &file, entry, &components, &mut profiles);
    }
    Ok(setup)
}

fn components(node: &Node) -> BTreeMap<String, Component> {
    let all = node.get("Components").map(Node::items).unwrap_or_default();
    let component = |node: &Node| {
        let component = Component {
            macs: node.texts("MAC").into_iter().map(str::to_owned).collect(),
            nid: node.text_of("NID").map(str::to_owned),
            role: node.text_of("Role").map(str::to_owned),
        };
        Some((node.text_of("ID")?.to_owned(), component))
    };
    all.iter().filter_map(component).collect()
}

fn boot_parameters(
    setup: &mut Setup,
    file: &str,
    entry: &Node,
    components: &BTreeMap<String, Component>,
    profiles: &mut BTreeMap<(String, String), String>,
) {
    let place = Place::new(file, entry.line);
    let (hosts, macs, nids) = (entry.texts("hosts"), entry.texts("macs"), entry.texts("nids"));
    let image = |url: &str| if url.starts_with("s3://") { format!("image:{url}") } else { url.to_owned() };
    let kernel = entry.text_of("kernel").map(image).unwrap_or_default();
    let initrd = entry.text_of("initrd").map(image).unwrap_or_default();
    let args = arguments(setup, &place, entry);
    let first = hosts.iter().chain(&macs).chain(&nids).next().copied().unwrap_or("parameters");
    let profile = (!kernel.is_empty()).then(|| {
        let made = profiles.entry((kernel.clone(), initrd.clone()));
        made.or_insert_with(|| {
            let mut table = Table::new("[[profile]]", Some(place.clone()));
            let name = name_of(&format!("of-{first}"));
            table.text("name", &name, Some(&place));
            table.text("kernel", &kernel, Some(&place));
            if !initrd.is_empty() {
                table.set("initrd", list(&[quoted(&initrd)]), Some(&place));
            }
            setup.profiles.push(table);
            name
        })
        .clone()
    });
    for host in &hosts {
        let is_xname = host.starts_with('x') && host.bytes().any(|b| b.is_ascii_digit());
        match (*host, components.get(*host)) {
            ("Default", _) => {
                let name = own_profile(setup, profile.as_deref(), "default", &args, &place);
                setup.default.text("profile", &name, Some(&place));
            }
            (tag, _) if tag.starts_with("Unknown-") => {
                setup.default.text("unknown", "boot", Some(&place));
                if setup.default.get("profile").is_none() {
                    let name = own_profile(setup, profile.as_deref(), &name_of(tag), &args, &place);
                    setup.default.text("profile", &name, Some(&place));
                    continue;
                }
                let why = "unknown machines boot the profile of [default]; write its differences into [profile.arch.…]";
                setup.left(&place, format!("hosts: {tag}"), why);
            }
            (host, Some(component)) if !component.macs.is_empty() => {
                machine(setup, Some(host), component, profile.as_deref(), &args, &place);
            }
            (host, _) if is_xname => {
                let why =
                    "its MAC address is not in the file; save /boot/v1/dumpstate, or write the [[machine]]";
                setup.left(&place, format!("hosts: {host}"), why);
            }
            (role, _) => {
                let mut group = Table::new("[[group]]", Some(place.clone()));
                group.text("name", &name_of(role), Some(&place));
                group.set("match", format!("{{ labels = {{ role = {} }} }}", quoted(role)), Some(&place));
                if let Some(profile) = &profile {
                    group.text("profile", profile, Some(&place));
                }
                if !args.is_empty() {
                    group.args(&args, Some(&place));
                }
                setup.groups.push(group);
            }
        }
    }
    for mac in &macs {
        let component = Component { macs: vec![(*mac).to_owned()], ..Component::default() };
        machine(setup, None, &component, profile.as_deref(), &args, &place);
    }
    for nid in &nids {
        let known = components.iter().find(|(_, component)| component.nid.as_deref() == Some(nid));
        match known.filter(|(_, component)| !component.macs.is_empty()) {
            Some((host, component)) => {
                machine(setup, Some(host), component, profile.as_deref(), &args, &place);
            }
            None => setup.left(
                &place,
                format!("nids: {nid}"),
                "its MAC address is not in the file; write the [[machine]]",
            ),
        }
    }
    for (key, value) in entry.pairs() {
        let is_taken = ["hosts", "macs", "nids", "params", "kernel", "initrd"].contains(&key.as_str());
        if !is_taken && !value.is_empty() {
            let why = match key.as_str() {
                "cloud-init" => "write its parts as documents (user-data, meta-data) of docs/documents.md",
                _ => "xpxe has nothing like it",
            };
            setup.left(&Place::new(file, value.line), format!("{key}: {value}"), why);
        }
    }
}

/// The arguments without those that BSS fills in itself.
fn arguments(setup: &mut Setup, place: &Place, entry: &Node) -> String {
    let mut args = Vec::new();
    for arg in entry.text_of("params").unwrap_or_default().split_whitespace() {
        match arg.contains("${SPIRE_JOIN_TOKEN}") {
            true => setup.left(place, arg, "xpxe asks no SPIRE server for tokens"),
            false => args.push(arg),
        }
    }
    args.join(" ")
}

/// A profile that has these arguments, too.
fn own_profile(setup: &mut Setup, of: Option<&str>, name: &str, args: &str, place: &Place) -> String {
    let mut table = Table::new("[[profile]]", Some(place.clone()));
    table.text("name", name, Some(place));
    if let Some(of) = of {
        table.text("inherit", of, Some(place));
    }
    if !args.is_empty() {
        table.args(args, Some(place));
    }
    setup.profiles.push(table);
    name.to_owned()
}

fn machine(
    setup: &mut Setup,
    name: Option<&str>,
    component: &Component,
    profile: Option<&str>,
    args: &str,
    place: &Place,
) {
    let mut machine = Table::new("[[machine]]", Some(place.clone()));
    let mac = |mac: &String| mac.parse::<Mac>().map_or_else(|_| mac.clone(), |mac| mac.to_string());
    let macs: Vec<String> = component.macs.iter().map(|text| quoted(&mac(text))).collect();
    let value = match macs.as_slice() {
        [one] => one.clone(),
        several => list(several),
    };
    machine.set("mac", value, Some(place));
    if let Some(name) = name {
        machine.text("name", name, Some(place));
    }
    if let Some(profile) = profile {
        machine.text("profile", profile, Some(place));
    }
    if !args.is_empty() {
        machine.args(args, Some(place));
    }
    let labels = [("nid", &component.nid), ("role", &component.role)];
    let labels =
        labels.iter().filter_map(|(key, value)| Some(format!("{key} = {}", quoted(value.as_ref()?))));
    let labels: Vec<String> = labels.collect();
    if !labels.is_empty() {
        machine.set("labels", format!("{{ {} }}", labels.join(", ")), Some(place));
    }
    setup.machines.push(machine);
}
