//! matchbox's directory: `profiles/*.json`, `groups/*.json`, `ignition/` and the others, `assets/`.

use std::fs;
use std::path::{Component, Path, PathBuf};

use boot_common::Mac;

use super::setup::{Place, Setup, Table, list, name_of, quoted};
use super::tree::{self, Node};

/// Reads a data directory.
///
/// # Errors
/// The directory or file that cannot be read.
pub(super) fn import(path: &Path) -> Result<Setup, String> {
    let mut setup = Setup::new();
    // The result may lie anywhere.
    let whole = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (profiles, groups) = (path.join("profiles"), path.join("groups"));
    if !profiles.is_dir() && !groups.is_dir() {
        return Err(format!(
            "{} has neither profiles/ nor groups/: name matchbox's data directory",
            path.display()
        ));
    }
    setup.http.set("fronts", "[\"matchbox\"]".to_owned(), None).note =
        Some("machines that ask at matchbox's URLs are answered".to_owned());
    setup.top.text("boot_dir", &whole.join("assets").display().to_string(), None).note =
        Some("matchbox's /assets/".to_owned());
    for (file, node) in read(&profiles, &mut setup)? {
        profile(&mut setup, &whole, &file, &node);
    }
    for (file, node) in read(&groups, &mut setup)? {
        group(&mut setup, &file, &node);
    }
    setup.note("matchbox gives no addresses: xpxe is a proxy beside the DHCP server here. With xpxe import dnsmasq it can be both.");
    Ok(setup)
}

/// The JSON files of a directory by name.
fn read(dir: &Path, setup: &mut Setup) -> Result<Vec<(String, Node)>, String> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let fail = |path: &Path, error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| fail(dir, error))? {
        paths.push(entry.map_err(|error| fail(dir, error))?.path());
    }
    paths.sort();
    let mut nodes = Vec::new();
    for path in paths {
        let file = path.display().to_string();
        if path.extension().is_none_or(|ending| ending != "json") {
            setup.left(&Place::new(&file, 1), "the file", "matchbox reads only files that end in .json");
            continue;
        }
        let text = setup.read(&path)?;
        match tree::json(&text, &file) {
            Ok(node) => nodes.push((file, node)),
            Err(bad) => setup.bad.push(bad),
        }
    }
    Ok(nodes)
}

/// `/assets/x` and `http://…/assets/x` are files of `boot_dir`.
fn asset(url: &str) -> String {
    let path =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).map_or(url, |(_, path)| path);
    match path.trim_start_matches('/').strip_prefix("assets/") {
        Some(file) => file.to_owned(),
        None => url.to_owned(),
    }
}

fn profile(setup: &mut Setup, dir: &Path, file: &str, node: &Node) {
    let place = |node: &Node| Place::new(file, node.line);
    let Some(id) = node.text_of("id") else {
        return setup.bad(&place(node), "a profile without an id");
    };
    let mut table = Table::new("[[profile]]", Some(place(node)));
    table.text("name", &name_of(id), Some(&place(node)));
    if let Some(title) = node.text_of("name") {
        table.notes.push(title.to_owned());
    }
    if let Some(boot) = node.get("boot") {
        if let Some(kernel) = boot.get("kernel").filter(|kernel| kernel.text().is_some()) {
            table.text("kernel", &asset(kernel.text().unwrap_or_default()), Some(&place(kernel)));
        }
        // `--name main /assets/initrd`
        let initrds: Vec<String> = boot
            .texts("initrd")
            .iter()
            .map(|initrd| quoted(&asset(initrd.rsplit(' ').next().unwrap_or_default())))
            .collect();
        if !initrds.is_empty() {
            table.set("initrd", list(&initrds), boot.get("initrd").map(place).as_ref());
        }
        let mut args = Vec::new();
        for arg in boot.get("args").map(Node::items).unwrap_or_default() {
            match arg.text().unwrap_or_default() {
                // The name of an initrd, which xpxe writes itself.
                text if text.starts_with("initrd=") => {}
                text if text.contains("${") => {
                    let why =
                        "iPXE's variables are not for a kernel; write the variables of docs/documents.md";
                    setup.left(&place(arg), text, why);
                }
                text => args.push(text.to_owned()),
            }
        }
        if !args.is_empty() {
            table.args(&args.join(" "), boot.get("args").map(place).as_ref());
        }
        others(setup, file, boot, &["kernel", "initrd", "args"]);
    }
    let mut documents = Vec::new();
    for (key, kind, sub) in [
        ("ignition_id", "ignition", "ignition"),
        ("cloud_id", "user-data", "cloud"),
        ("generic_id", "generic", "generic"),
    ] {
        let Some(id) = node.get(key).filter(|id| id.text().is_some()) else { continue };
        let name = Path::new(id.text().unwrap_or_default());
        let path = dir.join(sub).join(name);
        let why = match setup.read(&path) {
            // matchbox looks nowhere else either.
            _ if !name.components().all(|part| matches!(part, Component::Normal(_))) => {
                format!("it leaves {}", dir.join(sub).display())
            }
            Err(why) => why,
            Ok(text) if text.contains("{{") => {
                format!(
                    "{} is a template for matchbox; write it with the variables of docs/documents.md",
                    path.display()
                )
            }
            Ok(_)
                if kind == "ignition"
                    && !path.extension().is_some_and(|ending| ending == "ign" || ending == "json") =>
            {
                format!(
                    "{} is Butane; translate it with butane, and name the result in documents",
                    path.display()
                )
            }
            Ok(_) => {
                documents.push((format!("{kind} = {}", quoted(&path.display().to_string())), place(id)));
                continue;
            }
        };
        setup.left(&place(id), format!("{key}: {id}"), why);
    }
    if let Some((_, first)) = documents.first() {
        let all: Vec<&str> = documents.iter().map(|(document, _)| document.as_str()).collect();
        table.set("documents", format!("{{ {} }}", all.join(", ")), Some(first));
    }
    others(setup, file, node, &["id", "name", "boot", "ignition_id", "cloud_id", "generic_id"]);
    setup.profiles.push(table);
}

fn group(setup: &mut Setup, file: &str, node: &Node) {
    let place = Place::new(file, node.line);
    let profile = node.text_of("profile").map(name_of);
    let selectors = node.get("selector").map(Node::pairs).unwrap_or_default();
    let metadata = node.get("metadata");
    let id = name_of(node.text_of("id").unwrap_or("unnamed"));
    let mut labels = Vec::new();
    let mut flat = Vec::new();
    for (key, value) in metadata.map(Node::pairs).unwrap_or_default() {
        match value.text() {
            Some(text) => flat.push((key.clone(), text.to_owned(), value.line)),
            None => {
                let place = Place::new(file, value.line);
                setup.left(
                    &place,
                    format!("metadata.{key}: {value}"),
                    "labels are texts; write lists into a template",
                );
            }
        }
    }
    for (key, text, line) in flat {
        let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        match is_key {
            true => labels.push(format!("{key} = {}", quoted(&text))),
            false => setup.left(
                &Place::new(file, line),
                format!("metadata.{key}"),
                "cannot be the name of a label",
            ),
        }
    }
    let selector =
        |name: &str| selectors.iter().find(|(key, _)| key == name).and_then(|(_, node)| node.text());
    let (mac, uuid) = (selector("mac"), selector("uuid"));
    if mac.is_some() || uuid.is_some() {
        let mut machine = Table::new("[[machine]]", Some(place.clone()));
        if let Some(mac) = mac {
            let mac = mac.parse::<Mac>().map_or_else(|_| mac.to_owned(), |mac| mac.to_string());
            machine.text("mac", &mac, Some(&place));
        }
        if let Some(uuid) = uuid {
            machine.text("uuid", uuid, Some(&place));
        }
        machine.text("name", &id, Some(&place));
        if let Some(profile) = &profile {
            machine.text("profile", profile, Some(&place));
        }
        if !labels.is_empty() {
            machine.set("labels", format!("{{ {} }}", labels.join(", ")), Some(&place));
        }
        for (key, value) in selectors.iter().filter(|(key, _)| !["mac", "uuid"].contains(&key.as_str())) {
            let place = Place::new(file, value.line);
            setup.left(
                &place,
                format!("selector.{key}: {value}"),
                "the machine is known by its mac or uuid alone",
            );
        }
        setup.machines.push(machine);
        return;
    }
    let serial = selector("serial");
    let others: Vec<&(String, Node)> = selectors.iter().filter(|(key, _)| key != "serial").collect();
    if let Some((key, value)) = others.first() {
        let place = Place::new(file, value.line);
        let why = "iPXE does not say this at boot; write [[machine]] with mac or uuid and profile";
        return setup.left(
            &place,
            format!("selector.{key}: {value} (profile {})", profile.unwrap_or_default()),
            why,
        );
    }
    if let Some(serial) = serial {
        let mut table = Table::new("[[group]]", Some(place.clone()));
        table.text("name", &id, Some(&place));
        table.set("match", format!("{{ serial = {} }}", quoted(serial)), Some(&place));
        if let Some(profile) = &profile {
            table.text("profile", profile, Some(&place));
        }
        setup.groups.push(table);
    } else {
        if let Some(profile) = &profile {
            setup.default.text("profile", profile, Some(&place));
        }
        setup.default.text("unknown", "boot", Some(&place));
    }
    if !labels.is_empty() {
        let line = metadata.map_or(node.line, |node| node.line);
        setup.left(
            &Place::new(file, line),
            format!("metadata: {}", labels.join(", ")),
            "only a [[machine]] has labels",
        );
    }
}

fn others(setup: &mut Setup, file: &str, node: &Node, taken: &[&str]) {
    for (key, value) in node.pairs() {
        if !taken.contains(&key.as_str()) && !value.is_empty() {
            setup.left(&Place::new(file, value.line), format!("{key}: {value}"), "xpxe has nothing like it");
        }
    }
}
