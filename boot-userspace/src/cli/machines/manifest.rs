//! Lists of machines that other programs read and write.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use boot_common::Mac;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Format;
use super::ansible;
use super::names::called;
use super::omni::omni;
use super::show::{address, state};
use crate::daemon::request::ImportItem;
use crate::http::machines::Machine;
use boot_engine::config::RegisteredBmc;
use boot_engine::events::shown;
use boot_engine::registry::Spec;

/// The first line of a CSV file.
const HEAD: &str = "name,mac,uuid,serial,ip,profile,labels,bmc_address,bmc_mac,bmc_driver,bmc_user";
/// Columns that are written and not read: what was seen of a machine.
const SEEN: &str = "address,last_seen,last_boot,last_boot_cause";
/// A column that is read and never written.
const PASSWORD: &str = "bmc_password";

/// A list of machines.
#[derive(Debug)]
pub(super) struct List {
    pub(super) specs: Vec<Spec>,
    /// The passwords of their BMCs, as far as the file has them, by the position of the machine.
    pub(super) passwords: HashMap<usize, String>,
    /// The columns that the file has, if it is CSV. JSON says all of a machine.
    columns: Option<Vec<String>>,
}

impl List {
    /// The machines that have something of an earlier one, by their position, with what that is. A list of thousands is several
    /// requests, and in a dry run none of those knows of the others.
    pub(super) fn twice(&self) -> Vec<(usize, String)> {
        let mut seen = HashMap::new();
        let mut is_new = |position: usize, mark: &str| {
            let same = mark.parse::<Mac>().map_or_else(|_| mark.to_lowercase(), |mac| mac.to_string());
            *seen.entry(same).or_insert(position) == position
        };
        let taken = |(position, spec): (usize, &Spec)| {
            let serial = spec.serial.as_ref().map(|serial| format!("serial:{}", serial.trim()));
            let mut marks =
                spec.name.iter().chain(&spec.mac).chain(&spec.uuid).chain(&spec.ip).chain(&serial);
            Some((position, marks.find(|mark| !is_new(position, mark))?.clone()))
        };
        self.specs.iter().enumerate().filter_map(taken).collect()
    }

    /// The machines as the daemon takes them. What the file has no column for stays as it was.
    pub(super) fn items(&self) -> Result<Vec<ImportItem>> {
        let item = |spec: &Spec| -> Result<ImportItem> {
            let whole = ImportItem::whole(spec)?;
            let Some(columns) = &self.columns else { return Ok(whole) };
            let mut said = serde_json::Map::new();
            for column in columns.iter().filter(|column| *column != PASSWORD) {
                match column.strip_prefix("bmc_") {
                    None => {
                        // A label that is not there any more is none.
                        let value = match column.as_str() {
                            "labels" => Value::Null,
                            _ => whole.spec.get(column).cloned().unwrap_or(Value::Null),
                        };
                        said.insert(column.clone(), value);
                    }
                    Some(key) => {
                        let value = bmc_of(spec, column).flatten().map_or(Value::Null, Value::String);
                        if let Value::Object(bmc) = said.entry("bmc").or_insert_with(|| json!({})) {
                            bmc.insert(key.to_owned(), value);
                        }
                    }
                }
            }
            let labels = columns.iter().any(|column| column == "labels").then(|| spec.labels.clone());
            Ok(ImportItem { spec: said, keep: true, labels })
        };
        self.specs.iter().map(item).collect()
    }
}

/// Reads a list of machines: TOML by its name or by a line with `[[machine]]`, else JSON if it begins with `[`, else CSV.
pub(super) fn read(path: &Path) -> Result<List> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let is_toml = path.extension().is_some_and(|extension| extension == "toml")
        || text.lines().any(|line| line.trim_end() == "[[machine]]");
    let read = match text.trim_start().starts_with('[') {
        _ if is_toml => from_toml(&text),
        true => from_json(&text),
        false => from_csv(&text),
    };
    let list = read.with_context(|| path.display().to_string())?;
    // One that is known by its switch port alone may be the configuration's.
    let is_nobody = |spec: &Spec| called(spec).is_empty() && spec.relay_port.is_none();
    match list.specs.iter().position(is_nobody) {
        Some(position) => {
            bail!("{}: machine {} has no name, MAC, UUID or serial number", path.display(), position + 1)
        }
        None => Ok(list),
    }
}

/// What the API lists, or only the specs of it.
fn from_json(text: &str) -> Result<List> {
    let values: Vec<Value> = serde_json::from_str(text)?;
    let (mut specs, mut passwords) = (Vec::new(), HashMap::new());
    for (position, mut value) in values.into_iter().enumerate() {
        let password = value.as_object_mut().and_then(|object| object.remove(PASSWORD));
        if let Some(Value::String(password)) = password {
            passwords.insert(position, password);
        }
        let said = value.get("spec").unwrap_or(&value);
        let spec = Spec::deserialize(said);
        specs.push(spec.map_err(|error| anyhow!("machine {}{}: {error}", position + 1, named(said)))?);
    }
    Ok(List { specs, passwords, columns: None })
}

/// How a machine is called whose JSON is no spec, as far as it says so.
fn named(said: &Value) -> String {
    let word = |key: &str| {
        let value = said.get(key)?;
        value.as_str().or_else(|| value.get(0)?.as_str()).filter(|word| !word.is_empty())
    };
    let called = ["name", "mac", "uuid", "serial"].into_iter().find_map(word);
    called.map(|called| format!(" ({})", shown(called))).unwrap_or_default()
}

/// `[[machine]]` with the keys of JSON. As in the configuration, one MAC may stand without a list.
fn from_toml(text: &str) -> Result<List> {
    let file: Manifest = toml::from_str(text)?;
    let (mut specs, mut passwords) = (Vec::new(), HashMap::new());
    for (position, machine) in file.machine.into_iter().enumerate() {
        let line = text.get(..machine.span().start).map_or(0, |before| before.matches('\n').count()) + 1;
        let wrong = |what: String| anyhow!("line {line}: machine {}: {what}", position + 1);
        let mut table = machine.into_inner();
        match table.remove(PASSWORD) {
            Some(toml::Value::String(password)) => drop(passwords.insert(position, password)),
            Some(_) => return Err(wrong(format!("{PASSWORD} is no text"))),
            None => {}
        }
        if let Some(mac) = table.get_mut("mac").filter(|mac| mac.is_str()) {
            *mac = toml::Value::Array(vec![mac.clone()]);
        }
        let spec = Spec::deserialize(table).map_err(|error| wrong(error.message().to_owned()))?;
        specs.push(spec);
    }
    Ok(List { specs, passwords, columns: None })
}

/// A manifest as TOML.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    #[serde(default)]
    machine: Vec<toml::Spanned<toml::Table>>,
}

fn from_csv(text: &str) -> Result<List> {
    // Spreadsheets begin a file with it.
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (_, head) = lines.next().context("the file is empty")?;
    let keys: Vec<&str> = head.split(',').map(str::trim).collect();
    let is_seen = |key: &str| SEEN.split(',').any(|seen| seen == key);
    let is_known = |key: &str| key == PASSWORD || is_seen(key) || HEAD.split(',').any(|known| known == key);
    if let Some(unknown) = keys.iter().find(|key| !is_known(key)) {
        bail!("line 1: there is no column {unknown:?}; write some of {HEAD},{PASSWORD}");
    }
    let (mut specs, mut passwords) = (Vec::new(), HashMap::new());
    for (number, line) in lines {
        let wrong = |what: String| anyhow!("line {}: {what}", number + 1);
        let cells = cells_of(line);
        if cells.len() != keys.len() {
            return Err(wrong(format!("{} columns, and the first line has {}", cells.len(), keys.len())));
        }
        let mut spec = Spec::default();
        for (key, (cell, is_quoted)) in keys.iter().zip(&cells).filter(|(_, (cell, _))| !cell.is_empty()) {
            match *key {
                "name" => spec.name = Some(cell.clone()),
                "mac" => spec.mac = cell.split(';').map(|mac| mac.trim().to_owned()).collect(),
                "uuid" => spec.uuid = Some(cell.clone()),
                "serial" => spec.serial = Some(cell.clone()),
                "ip" => spec.ip = Some(cell.clone()),
                "profile" => spec.profile = Some(cell.clone()),
                PASSWORD => drop(passwords.insert(specs.len(), cell.clone())),
                key if is_seen(key) => {}
                key if key.starts_with("bmc_") => put_bmc(&mut spec, key, Some(cell.clone())),
                _ => {
                    for label in labels_of(cell, *is_quoted) {
                        let label = label.split_once('=');
                        let (key, value) =
                            label.ok_or_else(|| wrong(format!("{cell:?} is no list of KEY=VALUE")))?;
                        spec.labels.insert(key.to_owned(), value.to_owned());
                    }
                }
            }
        }
        specs.push(spec);
    }
    let written = keys.into_iter().filter(|key| !is_seen(key));
    Ok(List { specs, passwords, columns: Some(written.map(str::to_owned).collect()) })
}

/// What a machine has in a column of its BMC; nothing if that is no such column.
fn bmc_of(spec: &Spec, column: &str) -> Option<Option<String>> {
    let bmc = spec.bmc.clone().unwrap_or_default();
    match column {
        "bmc_address" => Some(bmc.address),
        "bmc_mac" => Some(bmc.mac),
        "bmc_driver" => Some(bmc.driver),
        "bmc_user" => Some(bmc.user),
        _ => None,
    }
}

fn put_bmc(spec: &mut Spec, column: &str, value: Option<String>) {
    let mut bmc = spec.bmc.take().unwrap_or_default();
    match column {
        "bmc_address" => bmc.address = value,
        "bmc_mac" => bmc.mac = value,
        "bmc_driver" => bmc.driver = value,
        _ => bmc.user = value,
    }
    spec.bmc = Some(bmc).filter(|bmc| *bmc != RegisteredBmc::default());
}

/// Writes a list of machines.
pub(super) fn export(machines: &[Machine], format: Format) -> Result<String> {
    Ok(match format {
        Format::Json => serde_json::to_string_pretty(machines)? + "\n",
        Format::Csv => csv(machines),
        Format::Ansible => serde_json::to_string_pretty(&ansible(machines))? + "\n",
        Format::PrometheusSd => serde_json::to_string_pretty(&prometheus(machines))? + "\n",
        Format::Omni => omni(machines),
    })
}

fn csv(machines: &[Machine]) -> String {
    let mut text = format!("{HEAD},{SEEN}\n");
    for machine in machines {
        let spec = &machine.spec;
        let seen = machine.seen.clone().unwrap_or_default();
        let boot = seen.boot.as_ref();
        let or_none = |value: &Option<String>| value.clone().unwrap_or_default();
        let label = |(key, value): (&String, &String)| {
            format!("{key}={value}").replace('\\', "\\\\").replace(';', "\\;")
        };
        let labels: Vec<String> = spec.labels.iter().map(label).collect();
        let bmc = |column| bmc_of(spec, column).flatten().unwrap_or_default();
        let cells = [
            or_none(&spec.name),
            spec.mac.join(";"),
            or_none(&spec.uuid),
            or_none(&spec.serial),
            or_none(&spec.ip),
            or_none(&spec.profile),
            labels.join(";"),
            bmc("bmc_address"),
            bmc("bmc_mac"),
            bmc("bmc_driver"),
            bmc("bmc_user"),
            or_none(&address(machine)),
            or_none(&seen.last_seen_at),
            boot.map(|boot| boot.began_at.clone()).unwrap_or_default(),
            boot.and_then(|boot| boot.cause.clone()).unwrap_or_default(),
        ];
        text += &(cells.map(|cell| quoted(&cell)).join(",") + "\n");
    }
    text
}

/// The labels of a cell, between `;`. With a backslash before it, a `;` or a backslash is one of the label's own. In a cell that
/// is quoted, so is a blank behind it.
fn labels_of(cell: &str, is_quoted: bool) -> Vec<String> {
    let (mut labels, mut chars) = (vec![String::new()], cell.chars().peekable());
    while let Some(c) = chars.next() {
        let Some(label) = labels.last_mut() else { break };
        match c {
            '\\' => label.push(chars.next_if(|next| matches!(next, ';' | '\\')).unwrap_or(c)),
            ';' => labels.push(String::new()),
            c => label.push(c),
        }
    }
    let trimmed = labels.iter().map(|label| if is_quoted { label.trim_start() } else { label.trim() });
    trimmed.map(str::to_owned).collect()
}

/// A cell as RFC 4180 has it. Whoever reads one may leave out blanks that are not in quotes.
fn quoted(cell: &str) -> String {
    let is_plain = !cell.contains(|c: char| matches!(c, ',' | '"') || c.is_whitespace());
    if is_plain { cell.to_owned() } else { format!("\"{}\"", cell.replace('"', "\"\"")) }
}

/// The cells of a line, each with whether it is quoted. Blanks around a cell are not the cell's; those in quotes are.
fn cells_of(line: &str) -> Vec<(String, bool)> {
    // Each with where its quoted part begins and ends.
    let mut cells = vec![(String::new(), None)];
    let (mut is_quoted, mut chars) = (false, line.chars().peekable());
    while let Some(c) = chars.next() {
        let Some((cell, quotes)) = cells.last_mut() else { break };
        match c {
            '"' if is_quoted && chars.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' => {
                is_quoted = !is_quoted;
                let (begin, _) = quotes.unwrap_or((cell.len(), 0));
                *quotes = Some((begin, cell.len()));
            }
            ',' if !is_quoted => cells.push((String::new(), None)),
            c => cell.push(c),
        }
    }
    let trimmed = |(cell, quotes): (String, Option<(usize, usize)>)| {
        let (begin, end) = quotes.unwrap_or((cell.len(), 0));
        let begin = begin.min(cell.len() - cell.trim_start().len());
        let text = cell.get(begin..end.max(cell.trim_end().len())).unwrap_or_default();
        (text.to_owned(), quotes.is_some())
    };
    cells.into_iter().map(trimmed).collect()
}

/// As `ansible-inventory --list` prints one.
fn ansible(machines: &[Machine]) -> Value {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut hosts = serde_json::Map::new();
    for machine in machines {
        let spec = &machine.spec;
        let host = ansible::host_of(spec);
        let state = machine.status.as_ref().map(|status| status.state.name());
        groups.entry("all".to_owned()).or_default().push(host.clone());
        groups.entry(format!("state_{}", state.unwrap_or("configured"))).or_default().push(host.clone());
        for (key, value) in &spec.labels {
            groups.entry(ansible::group_of(key, value)).or_default().push(host.clone());
        }
        let mut variables = json!({ "mac": spec.mac, "labels": spec.labels });
        let address = address(machine);
        for (key, value) in [("ansible_host", &address), ("uuid", &spec.uuid), ("profile", &spec.profile)] {
            if let (Some(value), Some(object)) = (value, variables.as_object_mut()) {
                object.insert(key.to_owned(), json!(value));
            }
        }
        hosts.insert(host, variables);
    }
    let mut whole = serde_json::Map::new();
    whole.extend(groups.into_iter().map(|(group, hosts)| (group, json!({ "hosts": hosts }))));
    whole.insert("_meta".to_owned(), json!({ "hostvars": hosts }));
    Value::Object(whole)
}

/// As `file_sd_configs` reads it. The port is the business of relabelling.
fn prometheus(machines: &[Machine]) -> Value {
    // Nothing can be asked of a machine without an address: its name need not be one that is resolved.
    let target = |machine: &Machine| {
        let (spec, address) = (&machine.spec, address(machine)?);
        let mut labels = serde_json::Map::new();
        labels.insert("__meta_xpxe_state".to_owned(), json!(state(machine)));
        for (key, value) in &spec.labels {
            let key = key.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            labels.insert(format!("__meta_xpxe_label_{key}"), json!(value));
        }
        Some(json!({ "targets": [address], "labels": labels }))
    };
    Value::Array(machines.iter().filter_map(target).collect())
}

#[cfg(test)]
mod tests;
