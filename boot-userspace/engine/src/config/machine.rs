//! `[[machine]]`

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::Path;

use boot_common::Mac;

use super::checked::Machine;
use super::profile::ProfileNames;
use super::report::{At, Place, Report, once};
use super::subnet::Nets;
use super::value::MAX_ARGS;
use super::{address, bytes, file, name, option, relay_port, value};

/// What machines have to know about the rest of the file.
pub(super) struct Others<'o> {
    pub(super) nets: &'o Nets,
    pub(super) profiles: &'o ProfileNames<'o>,
    pub(super) default_profile: Option<&'o str>,
    pub(super) boot_dir: &'o Path,
}

pub(super) fn check(from: &[file::Machine], others: &Others<'_>, report: &mut Report<'_>) -> Vec<Machine> {
    let mut seen = Seen::default();
    from.iter().map(|from| machine(from, others, &mut seen, report)).collect()
}

/// What may be there only once.
#[derive(Default)]
struct Seen<'f> {
    macs: HashMap<Mac, &'f Place>,
    uuids: HashMap<[u8; 16], &'f Place>,
    relay_ports: relay_port::Seen<'f>,
    /// In lower case.
    names: HashMap<String, &'f Place>,
    ips: HashMap<Ipv4Addr, &'f Place>,
}

fn machine<'f>(
    from: &'f file::Machine,
    others: &Others<'_>,
    seen: &mut Seen<'f>,
    report: &mut Report<'_>,
) -> Machine {
    if !from.has_identity {
        let message =
            "nothing tells this machine from others; write mac = \"52:54:00:00:00:01\", uuid or relay_port";
        report.add(&from.place, message);
    }
    let mut macs = Vec::new();
    for at in &from.macs {
        if let Some(mac) = at.read(report, address::mac) {
            once(&mut seen.macs, mac, at, "MAC address", report);
            macs.push(mac);
        }
    }
    let uuid = from.uuid.as_ref().and_then(|at| {
        let uuid = at.read(report, bytes::uuid)?;
        once(&mut seen.uuids, bytes::in_either_order(uuid), at, "UUID", report);
        Some(uuid)
    });
    let relay_port = from.relay_port.as_ref();
    let relay_port = relay_port.and_then(|port| relay_port::check(port, &mut seen.relay_ports, report));
    let name = from.name.as_ref().and_then(|at| {
        let name = at.read(report, name::machine)?;
        once(&mut seen.names, name.to_lowercase(), at, "machine", report);
        Some(name)
    });
    let ip = from.ip.as_ref().and_then(|at| {
        let ip = at.read(report, |text| {
            let ip = address::host(text)?;
            others.nets.accept(ip).map(|()| ip)
        })?;
        once(&mut seen.ips, ip, at, "address", report);
        Some(ip)
    });
    let profile = from.profile.as_ref().and_then(|at| at.read(report, |text| others.profiles.find(text)));
    let args = from.args.as_ref().and_then(|at| {
        let args = at.read(report, value::args)?;
        let profile = from.profile.as_ref().map(|at| at.value.as_str()).or(others.default_profile);
        together(at, profile, others.profiles, report);
        Some(args)
    });
    let label = |(key, at): &(String, At<String>)| Some((key.clone(), at.read(report, value::label_text)?));
    let labels = from.labels.iter().filter_map(label).collect();
    let boot_file = from.boot_file.as_ref();
    let boot_file = boot_file.and_then(|at| at.read(report, |text| value::boot_file(text, others.boot_dir)));
    let options = option::check(&from.options, from.has_name, report);
    let args = args.unwrap_or_default();
    Machine { macs, uuid, relay_port, name, ip, profile, args, labels, boot_file, options }
}

/// The kernel gets the arguments of the profile, a space, and those of the machine.
fn together(args: &At<String>, profile: Option<&str>, profiles: &ProfileNames<'_>, report: &mut Report<'_>) {
    let Some(of_profile) = profile.and_then(|name| profiles.known.get(name)) else { return };
    let total = of_profile + 1 + args.value.len();
    if total > MAX_ARGS {
        let message =
            format!("has {total} bytes with the arguments of its profile; shorten it to at most {MAX_ARGS}");
        report.add(&args.place, message);
    }
}
