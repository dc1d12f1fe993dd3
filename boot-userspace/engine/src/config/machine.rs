//! `[[machine]]`

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::Path;

use boot_common::Mac;

use super::checked::{Group, Machine, RelayPort};
use super::matching::Described;
use super::profile_names::ProfileNames;
use super::report::{At, Place, Report, once};
use super::subnet::Nets;
use super::texts::Texts;
use super::{address, bmc, bytes, documents, file, name, option, relay_port, value};

/// What machines have to know about the rest of the file.
pub(super) struct Others<'o> {
    pub(super) nets: &'o Nets,
    pub(super) profiles: &'o ProfileNames<'o>,
    pub(super) default_profile: Option<&'o str>,
    pub(super) groups: &'o [Group],
    pub(super) boot_dir: &'o Path,
}

pub(super) fn check(
    from: &[file::Machine],
    others: &Others<'_>,
    texts: &mut Texts<'_>,
    report: &mut Report<'_>,
) -> Vec<Machine> {
    let mut seen = Seen::default();
    from.iter().map(|from| machine(from, others, texts, &mut seen, report)).collect()
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
    texts: &mut Texts<'_>,
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
    let label = |(key, at): &(String, At<String>)| {
        Some((key.clone(), at.read(report, |text| value::label(key, text))?))
    };
    let labels = from.labels.iter().filter_map(label).collect();
    let args = from.args.as_ref().and_then(|at| {
        let args = at.read(report, |text| texts.args_of(text, &labels))?;
        let machine = Described {
            labels: Some(&labels),
            mac: macs.first().copied(),
            switch_port: relay_port.as_ref().map(RelayPort::seen),
            inventory: None,
        };
        let groups = others.groups.iter().filter(|group| group.fits.fits_machine(&machine));
        let between =
            groups.clone().map(|group| group.args.len() + usize::from(!group.args.is_empty())).sum();
        let of_groups = groups.filter_map(|group| group.profile.as_deref()).next_back();
        let own = from.profile.as_ref().map(|at| at.value.as_str());
        others.profiles.with_args(at, own.or(of_groups).or(others.default_profile), between, report);
        Some(args)
    });
    let boot_file = from.boot_file.as_ref();
    let boot_file = boot_file.and_then(|at| at.read(report, |text| value::boot_file(text, others.boot_dir)));
    let options = option::check(&from.options, from.has_name, report);
    let args = args.unwrap_or_default();
    let documents = documents::check(&from.documents, texts, report);
    let documents = (!documents.is_empty()).then(|| Box::new(documents));
    let bmc = from.bmc.as_ref().map(|bmc| Box::new(bmc::check(bmc, report)));
    Machine {
        macs,
        uuid,
        serial: None,
        relay_port,
        name,
        ip,
        profile,
        args,
        documents,
        labels,
        boot_file,
        options,
        bmc,
        image: None,
        inventory: None,
    }
}
