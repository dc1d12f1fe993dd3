//! Lease files of other servers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use boot_common::Mac;
use clap::ValueEnum;

use crate::http::admin::{ImportedLease, rfc3339};

mod isc;

/// Who wrote the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// By what is in it
    Auto,
    /// dnsmasq.leases
    Dnsmasq,
    /// dhcpd.leases of ISC dhcpd
    Isc,
    /// What `xpxe leases list --json` writes
    Json,
}

/// What a file has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    /// Leases that still run, each with where it is in the file.
    pub(super) leases: Vec<(String, ImportedLease)>,
    /// What is left out: where and why.
    pub(super) skipped: Vec<(String, String)>,
}

/// A lease as a file has it.
struct Found {
    line: usize,
    mac: Mac,
    address: Ipv4Addr,
    /// Unix seconds; 0: never.
    ends: u64,
    hostname: Option<String>,
}

/// What [`newest`] begins with: leases, and lines that hold none.
type Lines = (Vec<Found>, Vec<(usize, String)>);

/// Reads a file. `now` is in Unix seconds.
///
/// # Errors
/// One sentence that begins with the line.
pub(super) fn parse(text: &str, format: Format, now: u64) -> Result<Parsed, String> {
    match format {
        Format::Auto => parse(text, guess(text), now),
        Format::Dnsmasq => Ok(newest(dnsmasq(text)?, now)),
        Format::Isc => Ok(newest(isc::leases(text)?, now)),
        Format::Json => {
            let leases: Vec<ImportedLease> = serde_json::from_str(text)
                .map_err(|wrong| format!("line {}: not a list of leases: {wrong}", wrong.line()))?;
            let entry = |(index, lease)| (format!("entry {}", index + 1), lease);
            Ok(Parsed { leases: leases.into_iter().enumerate().map(entry).collect(), skipped: Vec::new() })
        }
    }
}

fn guess(text: &str) -> Format {
    let begins = |line: &str| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("lease" | "server-duid" | "authoring-byte-order" | "failover"))
    };
    match text {
        _ if text.trim_start().starts_with('[') => Format::Json,
        _ if text.lines().any(begins) => Format::Isc,
        _ => Format::Dnsmasq,
    }
}

/// `<expiry> <mac> <ip> <hostname|*> <client-id|*>` in each line.
fn dnsmasq(text: &str) -> Result<Lines, String> {
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for (line, text) in (1..).zip(text.lines()) {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (ends, mac, address, name) = match *words.as_slice() {
            // The server's own identifier stands before the leases of IPv6.
            [] | ["duid", ..] => continue,
            [ends, mac, address, name, ..] => (ends, mac, address, name),
            _ => {
                return Err(format!(
                    "line {line}: not a line of dnsmasq.leases (expiry, MAC, address, name)"
                ));
            }
        };
        let ends: u64 =
            ends.parse().map_err(|_| format!("line {line}: {ends:?} is no time in Unix seconds"))?;
        let address = match address.parse() {
            Ok(IpAddr::V4(address)) => address,
            Ok(IpAddr::V6(address)) => {
                skipped.push((line, format!("{address} is IPv6")));
                continue;
            }
            Err(_) => return Err(format!("line {line}: {address:?} is no IP address")),
        };
        // Other kinds of hardware are written as 20-00:11:…
        let Ok(mac) = mac.parse() else {
            skipped.push((line, format!("{mac:?} is no Ethernet address")));
            continue;
        };
        let hostname = (name != "*").then(|| name.to_owned());
        found.push(Found { line, mac, address, ends, hostname });
    }
    Ok((found, skipped))
}

/// Leaves out what has ended, and of the leases of one machine all but that which ends last.
fn newest((found, skipped): Lines, now: u64) -> Parsed {
    let at = |line: usize| format!("line {line}");
    let mut skipped: Vec<(usize, String)> = skipped;
    // Never is later than any time.
    let late = |found: &Found| (found.ends == 0, found.ends);
    let mut last: HashMap<Mac, &Found> = HashMap::new();
    for lease in &found {
        let best = last.entry(lease.mac).or_insert(lease);
        if late(lease) >= late(best) {
            *best = lease;
        }
    }
    let mut leases = Vec::new();
    for lease in &found {
        let Found { line, mac, address, ends, hostname } = lease;
        if *ends != 0 && *ends <= now {
            skipped.push((*line, format!("the lease of {address} ended at {}", rfc3339(*ends))));
        } else if let Some(other) = last.get(mac).filter(|other| other.line != *line) {
            skipped.push((*line, format!("{mac} has {} for longer than {address}", other.address)));
        } else {
            let lease = ImportedLease {
                mac: mac.to_string(),
                address: address.to_string(),
                expires: Some(*ends),
                hostname: hostname.clone(),
            };
            leases.push((at(*line), lease));
        }
    }
    skipped.sort();
    Parsed { leases, skipped: skipped.into_iter().map(|(line, why)| (at(line), why)).collect() }
}

#[cfg(test)]
mod tests;
