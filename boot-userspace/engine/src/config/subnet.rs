//! `[[subnet]]`

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::address::{self, edges, not_an_edge};
use super::checked::{DEFAULT_BOOT_LEASE, DEFAULT_LEASE, Subnet};
use super::report::{At, Place, Report};
use super::value::quoted;
use super::{amount, file, name, option};

/// What machines have to know about the subnets.
pub(super) struct Nets {
    nets: Vec<(Ipv4Net, Option<Ipv4Addr>)>,
    /// Every subnet could be read, so an address that is in none of them is a mistake.
    complete: bool,
}

pub(super) fn check(from: &[file::Subnet], report: &mut Report<'_>) -> (Vec<Subnet>, Nets) {
    let mut subnets: Vec<Subnet> = Vec::new();
    let mut before: Vec<(Ipv4Net, &Place)> = Vec::new();
    for from in from {
        let cidr = from.cidr.as_ref().and_then(|at| Some((at.read(report, address::cidr)?, &at.place)));
        if let Some((cidr, place)) = cidr {
            if let Some((other, at)) = before.iter().find(|(other, _)| overlap(*other, cidr)) {
                let at = report.name(at, place);
                report.add(place, format!("{cidr} overlaps {other} of {at}; write subnets that do not"));
            }
            before.push((cidr, place));
        }
        let cidr = cidr.map(|(cidr, _)| cidr);
        let pool = pool(&from.pool, cidr, report);
        let router = from.router.as_ref().and_then(|at| at.read(report, |text| router(text, cidr)));
        let dns = from.dns.iter().filter_map(|at| at.read(report, address::host)).collect();
        let domain = from.domain.as_ref().and_then(|at| at.read(report, name::domain));
        let lease =
            from.lease.as_ref().and_then(|at| at.read(report, amount::lease)).unwrap_or(DEFAULT_LEASE);
        let boot_lease = boot_lease(from, lease, report);
        let probe = from.probe.unwrap_or(true);
        let authoritative = from.authoritative.unwrap_or(false);
        let options = option::check(&from.options, false, report);
        subnets.extend(cidr.map(|cidr| Subnet {
            cidr,
            pool,
            router,
            dns,
            domain,
            lease,
            boot_lease,
            probe,
            authoritative,
            options,
        }));
    }
    let nets = subnets.iter().map(|subnet| (subnet.cidr, subnet.router)).collect();
    let complete = subnets.len() == from.len();
    (subnets, Nets { nets, complete })
}

fn boot_lease(from: &file::Subnet, lease: Duration, report: &mut Report<'_>) -> Duration {
    // A lease that could not be read is no limit.
    let limit = match &from.lease {
        Some(at) => amount::lease(&at.value).ok().map(|_| at.value.as_str()),
        None => (!from.has_lease).then_some("10m"),
    };
    let written = from.boot_lease.as_ref().and_then(|at| {
        at.read(report, |text| {
            let boot_lease = amount::lease(text)?;
            match limit.filter(|_| boot_lease > lease) {
                Some(limit) => Err(format!(
                    "{} is longer than the lease; write at most {limit:?} or a longer lease",
                    quoted(text)
                )),
                None => Ok(boot_lease),
            }
        })
    });
    written.unwrap_or(DEFAULT_BOOT_LEASE.min(lease))
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}

fn router(text: &str, cidr: Option<Ipv4Net>) -> Result<Ipv4Addr, String> {
    let router = address::host(text)?;
    if let Some(cidr) = cidr {
        if !cidr.contains(&router) {
            return Err(format!(
                "{router} is not in {cidr}; write the address the router has in this subnet"
            ));
        }
        not_an_edge(router, cidr)?;
    }
    Ok(router)
}

fn pool(from: &[At<String>], cidr: Option<Ipv4Net>, report: &mut Report<'_>) -> Vec<(Ipv4Addr, Ipv4Addr)> {
    let mut pool: Vec<(Ipv4Addr, Ipv4Addr)> = Vec::new();
    let mut places: Vec<&Place> = Vec::new();
    for at in from {
        let range = at.read(report, |text| {
            let range = address::range(text)?;
            inside(range, cidr)?;
            let before =
                pool.iter().zip(&places).find(|((low, high), _)| *low <= range.1 && range.0 <= *high);
            if let Some(((low, high), place)) = before {
                return Err(format!("overlaps {low}-{high} of {place}; write ranges that do not"));
            }
            Ok(range)
        });
        if let Some(range) = range {
            pool.push(range);
            places.push(&at.place);
        }
    }
    pool
}

fn inside((low, high): (Ipv4Addr, Ipv4Addr), cidr: Option<Ipv4Net>) -> Result<(), String> {
    let Some(cidr) = cidr else { return Ok(()) };
    let (first, last) = match edges(cidr) {
        Some((network, broadcast)) => {
            (Ipv4Addr::from(u32::from(network) + 1), Ipv4Addr::from(u32::from(broadcast) - 1))
        }
        None => (cidr.network(), cidr.broadcast()),
    };
    if low < first || high > last {
        return Err(format!(
            "{low}-{high} is not within the host addresses of {cidr}; write a range in {first}-{last}"
        ));
    }
    Ok(())
}

impl Nets {
    /// Refuses an address that a machine in these subnets cannot have.
    pub(super) fn accept(&self, ip: Ipv4Addr) -> Result<(), String> {
        let Some((cidr, router)) = self.nets.iter().find(|(cidr, _)| cidr.contains(&ip)) else {
            return match self.complete && !self.nets.is_empty() {
                true => Err(format!("{ip} is in no [[subnet]]; write an address that is, or add its subnet")),
                false => Ok(()),
            };
        };
        if *router == Some(ip) {
            return Err(format!("{ip} is the router of {cidr}; write another one"));
        }
        not_an_edge(ip, *cidr)
    }
}
