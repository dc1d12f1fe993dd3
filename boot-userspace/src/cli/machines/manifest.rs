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
use super::show::state;
use crate::daemon::request::ImportItem;
use crate::http::machines::Machine;
use boot_engine::config::RegisteredBmc;
use boot_engine::registry::Spec;

/// The first line of a CSV file.
const HEAD: &str = "name,mac,uuid,ip,profile,labels,bmc_address,bmc_mac,bmc_driver,bmc_user";
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
            let mut marks = spec.name.iter().chain(&spec.mac).chain(&spec.uuid).chain(&spec.ip);
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
    match list.specs.iter().position(|spec| called(spec).is_empty()) {
        Some(position) => bail!("{}: machine {} has no name, MAC or UUID", path.display(), position + 1),
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
        let spec = value.get("spec").cloned().unwrap_or(value);
        specs.push(serde_json::from_value(spec)?);
    }
    Ok(List { specs, passwords, columns: None })
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
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (_, head) = lines.next().context("the file is empty")?;
    let keys: Vec<&str> = head.split(',').map(str::trim).collect();
    let is_known = |key: &str| key == PASSWORD || HEAD.split(',').any(|known| known == key);
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
        for (key, cell) in keys.iter().zip(&cells).filter(|(_, cell)| !cell.is_empty()) {
            match *key {
                "name" => spec.name = Some(cell.clone()),
                "mac" => spec.mac = cell.split(';').map(|mac| mac.trim().to_owned()).collect(),
                "uuid" => spec.uuid = Some(cell.clone()),
                "ip" => spec.ip = Some(cell.clone()),
                "profile" => spec.profile = Some(cell.clone()),
                PASSWORD => drop(passwords.insert(specs.len(), cell.clone())),
                key if key.starts_with("bmc_") => put_bmc(&mut spec, key, Some(cell.clone())),
                _ => {
                    for label in labels_of(cell) {
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
    Ok(List { specs, passwords, columns: Some(keys.into_iter().map(str::to_owned).collect()) })
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
    let mut text = HEAD.to_owned() + "\n";
    for Machine { spec, .. } in machines {
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
            or_none(&spec.ip),
            or_none(&spec.profile),
            labels.join(";"),
            bmc("bmc_address"),
            bmc("bmc_mac"),
            bmc("bmc_driver"),
            bmc("bmc_user"),
        ];
        text += &(cells.map(|cell| quoted(&cell)).join(",") + "\n");
    }
    text
}

/// The labels of a cell, between `;`. With a backslash before it, a `;` or a backslash is one of the label's own.
fn labels_of(cell: &str) -> Vec<String> {
    let (mut labels, mut chars) = (vec![String::new()], cell.chars().peekable());
    while let Some(c) = chars.next() {
        let Some(label) = labels.last_mut() else { break };
        match c {
            '\\' => label.push(chars.next_if(|next| matches!(next, ';' | '\\')).unwrap_or(c)),
            ';' => labels.push(String::new()),
            c => label.push(c),
        }
    }
    labels.into_iter().map(|label| label.trim().to_owned()).collect()
}

/// A cell as RFC 4180 has it.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

/// The cells of a line.
fn cells_of(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let (mut is_quoted, mut chars) = (false, line.chars().peekable());
    while let Some(c) = chars.next() {
        let Some(cell) = cells.last_mut() else { break };
        match c {
            '"' if is_quoted && chars.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => cells.push(String::new()),
            c => cell.push(c),
        }
    }
    cells.into_iter().map(|cell| cell.trim().to_owned()).collect()
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
        for (key, value) in [("ansible_host", &spec.ip), ("uuid", &spec.uuid), ("profile", &spec.profile)] {
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
    let target = |machine: &Machine| {
        let spec = &machine.spec;
        let mut labels = serde_json::Map::new();
        labels.insert("__meta_xpxe_state".to_owned(), json!(state(machine)));
        for (key, value) in &spec.labels {
            let key = key.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            labels.insert(format!("__meta_xpxe_label_{key}"), json!(value));
        }
        json!({ "targets": [spec.ip.clone().unwrap_or_else(|| called(spec))], "labels": labels })
    };
    Value::Array(machines.iter().map(target).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        let labels = [("role", "worker"), ("rack", "7, \"left\""), ("note", "k;2\\;group=b;\\")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let spec = Spec {
            name: Some("node1".to_owned()),
            mac: vec!["52:54:00:00:00:01".to_owned(), "52:54:00:00:00:02".to_owned()],
            ip: Some("10.1.1.50".to_owned()),
            labels: labels.into(),
            bmc: Some(RegisteredBmc {
                address: Some("10.9.0.50".to_owned()),
                mac: Some("52:54:00:00:09:01".to_owned()),
                driver: Some("ipmi".to_owned()),
                user: Some("admin".to_owned()),
                ..RegisteredBmc::default()
            }),
            ..Spec::default()
        };
        Machine {
            source: "configuration".to_owned(),
            id: None,
            version: None,
            revision: None,
            spec,
            status: None,
            inventory: None,
        }
    }

    #[test]
    fn what_is_exported_is_imported_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        for format in [Format::Json, Format::Csv] {
            let file = dir.path().join("machines");
            std::fs::write(&file, export(&[machine()], format).unwrap()).unwrap();
            assert_eq!(read(&file).unwrap().specs, [machine().spec], "{format:?}");
        }
    }

    #[test]
    fn a_machine_has_nothing_that_an_earlier_one_of_the_list_has() {
        let text = "name,mac,ip\na,52:54:00:00:00:01,\nb,52-54-00-00-00-01,\nA,52:54:00:00:00:02,\nc,,10.1.1.5\n\
            d,,10.1.1.6\ne,,10.1.1.5\n";
        let twice = from_csv(text).unwrap().twice();
        let expected = [(1, "52-54-00-00-00-01"), (2, "A"), (5, "10.1.1.5")];
        assert_eq!(twice, expected.map(|(position, what)| (position, what.to_owned())));
    }

    #[test]
    fn a_backslash_in_a_csv_file_is_its_own_unless_it_keeps_something() {
        assert_eq!(labels_of("a=C:\\x; b=1\\;2 ;c=\\\\"), ["a=C:\\x", "b=1;2", "c=\\"]);
    }

    #[test]
    fn what_a_csv_file_has_no_column_for_stays() {
        let before = Spec { args: "quiet".to_owned(), uuid: Some("of old".to_owned()), ..machine().spec };
        let imported = |text: &str| from_csv(text).unwrap().items().unwrap()[0].over(Some(&before)).unwrap();
        let whole = Machine { spec: before.clone(), ..machine() };
        assert_eq!(imported(&csv(&[whole])), before, "what is exported");
        let moved = imported("name,ip,profile\nnode1,10.1.1.51,\n");
        assert_eq!(moved, Spec { ip: Some("10.1.1.51".to_owned()), ..before.clone() }, "an IP alone");
        let bare = imported("name,uuid,labels\nnode1,,\n");
        assert_eq!(
            bare,
            Spec { uuid: None, labels: BTreeMap::new(), ..before.clone() },
            "empty cells are said"
        );
        let list = from_json("[{\"name\": \"node1\"}]").unwrap();
        let item = &list.items().unwrap()[0];
        assert_eq!(item.over(Some(&before)).unwrap(), list.specs[0], "JSON says all");
        let bare = imported("name,bmc_address,bmc_mac,bmc_driver,bmc_user\nnode1,,,,\n");
        assert_eq!(bare, Spec { bmc: None, ..before.clone() }, "a BMC of which nothing is said");
    }

    #[test]
    fn passwords_of_a_list_are_read_and_belong_to_no_spec() {
        let csv = from_csv("name,mac,bmc_address,bmc_password\nn1,,10.9.0.1,\nn2,,10.9.0.2,pa ss\n").unwrap();
        assert_eq!(csv.passwords, [(1, "pa ss".to_owned())].into());
        let json = from_json("[{\"name\": \"n1\", \"bmc_password\": \"pa ss\"}]").unwrap();
        assert_eq!(json.passwords, [(0, "pa ss".to_owned())].into());
        for list in [csv, json] {
            assert!(!format!("{:?}", list.specs).contains("pa ss"));
        }
    }

    #[test]
    fn a_manifest_may_be_toml() {
        let dir = tempfile::tempdir().unwrap();
        let text = "# rack 7\n[[machine]]\nname = \"node1\"\nmac = \"52:54:00:00:00:01\"\nip = \"10.1.1.50\"\n\
            labels = { role = \"worker\" }\nbmc_password = \"pa ss\"\n[machine.bmc]\naddress = \"10.9.0.50\"\n\n\
            [[machine]]\nmac = [\"52:54:00:00:00:02\", \"52:54:00:00:00:03\"]\n";
        for name in ["rack7.toml", "rack7"] {
            let file = dir.path().join(name);
            std::fs::write(&file, text).unwrap();
            let list = read(&file).unwrap();
            let [first, second] = &list.specs[..] else { panic!("{:?}", list.specs) };
            assert_eq!((first.mac.len(), second.mac.len()), (1, 2));
            assert_eq!((first.labels["role"].as_str(), second.name.as_deref()), ("worker", None));
            assert_eq!(first.bmc.as_ref().and_then(|bmc| bmc.address.as_deref()), Some("10.9.0.50"));
            assert_eq!(list.passwords, [(0, "pa ss".to_owned())].into());
        }
        for (text, says) in [
            (
                "[[machine]]\nname = \"a\"\n[[machine]]\nnmae = \"b\"\n",
                "line 3: machine 2: unknown field `nmae`",
            ),
            ("[[machine]]\nname = 7\n", "line 1: machine 1: invalid type"),
            ("[[machine]]\nname = a\n", "line 2"),
            ("[[machines]]\n", "unknown field `machines`"),
            ("[[machine]]\nip = \"10.1.1.5\"\n", "machine 1 has no name, MAC or UUID"),
        ] {
            let file = dir.path().join("wrong.toml");
            std::fs::write(&file, text).unwrap();
            let said = format!("{:#}", read(&file).unwrap_err());
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn mistakes_of_a_list_are_named_with_their_line() {
        for (text, says) in [
            ("name,nmae\n", "there is no column \"nmae\""),
            ("name,mac\nnode1\n", "line 2: 1 columns"),
            ("name,labels\nnode1,worker\n", "line 2: \"worker\" is no list"),
            ("[{\"nmae\": 1}]", "nmae"),
        ] {
            let read = if text.starts_with('[') { from_json(text) } else { from_csv(text) };
            let said = format!("{:#}", read.unwrap_err());
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn other_programs_get_their_own_formats() {
        let ansible: Value = serde_json::from_str(&export(&[machine()], Format::Ansible).unwrap()).unwrap();
        assert_eq!(ansible["role_worker"]["hosts"][0], "node1");
        assert_eq!(ansible["_meta"]["hostvars"]["node1"]["ansible_host"], "10.1.1.50");
        let prometheus: Value =
            serde_json::from_str(&export(&[machine()], Format::PrometheusSd).unwrap()).unwrap();
        assert_eq!(prometheus[0]["targets"][0], "10.1.1.50");
        assert_eq!(prometheus[0]["labels"]["__meta_xpxe_label_role"], "worker");
    }
}
