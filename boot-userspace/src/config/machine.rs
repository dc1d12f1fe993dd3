//! `[[machine]]`

use std::collections::HashMap;
use std::net::Ipv4Addr;

use boot_common::Mac;

use super::check::{ProfileNames, once};
use super::checked::Machine;
use super::report::{At, Place, Report};
use super::subnet::Nets;
use super::value::MAX_ARGS;
use super::{address, file, name, value};

pub(super) fn check(
    from: &[file::Machine],
    nets: &Nets,
    profiles: &ProfileNames<'_>,
    default_profile: Option<&str>,
    report: &mut Report<'_>,
) -> Vec<Machine> {
    let mut seen = Seen::default();
    from.iter().map(|from| machine(from, nets, profiles, default_profile, &mut seen, report)).collect()
}

/// What may be there only once.
#[derive(Default)]
struct Seen {
    macs: HashMap<Mac, Place>,
    /// In lower case.
    names: HashMap<String, Place>,
    ips: HashMap<Ipv4Addr, Place>,
}

fn machine(
    from: &file::Machine,
    nets: &Nets,
    profiles: &ProfileNames<'_>,
    default_profile: Option<&str>,
    seen: &mut Seen,
    report: &mut Report<'_>,
) -> Machine {
    let mut macs = Vec::new();
    for at in &from.macs {
        if let Some(mac) = at.read(report, address::mac) {
            once(&mut seen.macs, mac, at, "MAC address", report);
            macs.push(mac);
        }
    }
    let name = from.name.as_ref().and_then(|at| {
        let name = at.read(report, name::machine)?;
        once(&mut seen.names, name.to_lowercase(), at, "machine", report);
        Some(name)
    });
    let ip = from.ip.as_ref().and_then(|at| {
        let ip = at.read(report, |text| {
            let ip = address::host(text)?;
            nets.accept(ip).map(|()| ip)
        })?;
        once(&mut seen.ips, ip, at, "address", report);
        Some(ip)
    });
    let profile = from.profile.as_ref().and_then(|at| at.read(report, |text| profiles.find(text)));
    let args = from.args.as_ref().and_then(|at| {
        let args = at.read(report, value::args)?;
        let profile = from.profile.as_ref().map(|at| at.value.as_str()).or(default_profile);
        together(at, profile, profiles, report);
        Some(args)
    });
    let label = |(key, at): &(String, At<String>)| Some((key.clone(), at.read(report, value::label_text)?));
    let labels = from.labels.iter().filter_map(label).collect();
    Machine { macs, name, ip, profile, args: args.unwrap_or_default(), labels }
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
