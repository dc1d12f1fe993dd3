//! `[[group]]`: what machines get that fit a description, as it stands in the file and as what it becomes.

use std::collections::HashMap;

use ipnet::Ipv4Net;

use super::arch::Arch;
use super::checked::{Group, Subnet};
use super::matching::Match;
use super::profile_names::ProfileNames;
use super::reader::Table;
use super::report::{At, Place, Report, once};
use super::template::tame;
use super::texts::Texts;
use super::value::{choice, quoted};
use super::{address, bytes, documents, hardware, name, option, value};

const MATCH: [&str; 7] = ["labels", "mac", "circuit_id", "remote_id", "subnet", "arch", "serial"];

/// The keys of `match`.
fn keys() -> Vec<&'static str> {
    MATCH.into_iter().chain(hardware::KEYS.iter().map(|(key, _)| *key)).collect()
}

/// A group as it stands in the file.
pub(super) struct Written {
    pub(super) place: Place,
    pub(super) name: Option<At<String>>,
    labels: Vec<(String, At<String>)>,
    lists: Vec<(&'static str, Vec<At<String>>)>,
    hardware: hardware::Written,
    has_match: bool,
    pub(super) profile: Option<At<String>>,
    pub(super) args: Option<At<String>>,
    pub(super) documents: documents::Written,
    pub(super) options: Vec<option::Written>,
}

/// The groups in the file.
pub(super) fn read(top: &Table<'_>, report: &mut Report<'_>) -> Vec<Written> {
    let tables = top.tables("group", &["name", "match", "profile", "args", "documents", "options"], report);
    let known = keys();
    let group = |table: Table<'_>| {
        let conditions = table.table("match", &known, report);
        let labels = conditions
            .as_ref()
            .map(|table| table.free_texts("labels", "role = \"worker\"", report))
            .unwrap_or_default();
        let examples = [
            ("mac", "52:54:00"),
            ("circuit_id", "Ethernet1/7"),
            ("remote_id", "switch1"),
            ("subnet", "10.1.0.0/16"),
            ("arch", "arm64"),
            ("serial", "CZ1234"),
        ];
        let list = |(key, example): (&'static str, &str)| {
            let texts = conditions.as_ref().map(|table| table.one_or_more_texts(key, example, report));
            (key, texts.unwrap_or_default())
        };
        let lists = examples.into_iter().map(list).collect();
        let hardware = conditions.as_ref().map(|table| hardware::read(table, report)).unwrap_or_default();
        Written {
            name: table.required_text("name", "workers", report),
            labels,
            lists,
            hardware,
            has_match: table.has("match"),
            profile: table.text("profile", "talos", report),
            args: table.text("args", "console=ttyS0", report),
            documents: documents::read(&table, report),
            options: option::read(&table, report),
            place: table.place,
        }
    };
    tables.into_iter().map(group).collect()
}

/// What groups have to know about the rest of the file.
pub(super) struct Others<'o> {
    pub(super) profiles: &'o ProfileNames<'o>,
    pub(super) default_profile: Option<&'o str>,
    pub(super) subnets: &'o [Subnet],
}

/// The groups in their order.
pub(super) fn check(
    from: &[Written],
    others: &Others<'_>,
    texts: &mut Texts<'_>,
    report: &mut Report<'_>,
) -> Vec<Group> {
    let mut seen = HashMap::new();
    let mut groups = Vec::new();
    for written in from {
        let name = written.name.as_ref().and_then(|at| {
            let name = at.read(report, name::profile)?;
            once(&mut seen, name.clone(), at, "group", report);
            Some(name)
        });
        if !written.has_match {
            let message = "is missing; write match = { labels = { role = \"worker\" } }, or match = {} for all machines";
            let place = Place { key: format!("{}.match", written.place.key), line: written.place.line };
            report.add(&place, message);
        }
        let fits = conditions(written, others.subnets, report);
        let profile =
            written.profile.as_ref().and_then(|at| at.read(report, |text| others.profiles.find(text)));
        let args = written.args.as_ref().and_then(|at| at.read(report, |text| texts.args(text)));
        let args = args.unwrap_or_default();
        if let Some(at) = written.args.as_ref() {
            let profile = written.profile.as_ref().map(|at| at.value.as_str()).or(others.default_profile);
            others.profiles.with_args(at, profile, 0, report);
        }
        let documents = documents::check(&written.documents, texts, report);
        let options = option::check(&written.options, false, report);
        if let Some(option) = written.options.first().filter(|_| !fits.serial.is_empty()) {
            let message =
                "DHCP tells no serial numbers, so options cannot depend on them; match by mac or labels";
            report.add(option.place(), message);
        }
        groups.extend(name.map(|name| Group { name, fits, profile, args, documents, options }));
    }
    groups
}

fn conditions(written: &Written, subnets: &[Subnet], report: &mut Report<'_>) -> Match {
    let label = |(key, at): &(String, At<String>)| {
        Some((key.clone(), at.read(report, |text| value::label(key, text))?))
    };
    let labels = written.labels.iter().filter_map(label).collect();
    let list = |key: &str| {
        let found = written.lists.iter().find(|(other, _)| *other == key);
        found.map_or(&[][..], |(_, list)| list.as_slice())
    };
    let arch = Arch::ALL;
    Match {
        labels,
        mac: list("mac").iter().filter_map(|at| at.read(report, bytes::mac_prefix)).collect(),
        circuit_id: list("circuit_id").iter().filter_map(|at| at.read(report, bytes::relay_value)).collect(),
        remote_id: list("remote_id").iter().filter_map(|at| at.read(report, bytes::relay_value)).collect(),
        subnet: list("subnet").iter().filter_map(|at| at.read(report, |text| net(text, subnets))).collect(),
        arch: list("arch").iter().filter_map(|at| at.read(report, |text| choice(text, &arch))).collect(),
        serial: list("serial").iter().filter_map(|at| at.read(report, serial)).collect(),
        hardware: hardware::check(&written.hardware, report),
    }
}

/// Answers are made by subnet, so none can be in a group by half.
fn net(text: &str, subnets: &[Subnet]) -> Result<Ipv4Net, String> {
    let net = address::cidr(text)?;
    match subnets.iter().find(|subnet| subnet.cidr.contains(&net) && subnet.cidr != net) {
        Some(subnet) => {
            Err(format!("{net} is a part of the subnet {0}; write \"{0}\", the whole of it", subnet.cidr))
        }
        None => Ok(net),
    }
}

/// What a machine says is compared after everything but letters, digits, `.`, `_` and `-` has become `_`.
fn serial(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!("{} is no serial number; write one as dmidecode shows it", quoted(text)));
    }
    Ok(tame(text))
}
