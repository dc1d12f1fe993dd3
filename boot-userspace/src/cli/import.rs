//! Lease files of other servers.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use boot_common::Mac;
use clap::ValueEnum;

use crate::http::admin::{ImportedLease, rfc3339};

mod dnsmasq;
mod isc;
mod kea;

/// Who wrote the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// By what is in it
    Auto,
    /// dnsmasq.leases
    Dnsmasq,
    /// dhcpd.leases of ISC dhcpd
    Isc,
    /// kea-leases4.csv of Kea
    Kea,
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
    /// What cannot be read: where and why.
    pub(super) bad: Vec<(String, String)>,
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

/// What [`newest`] begins with.
#[derive(Default)]
struct Lines {
    found: Vec<Found>,
    /// Lines that hold no lease, and why.
    skipped: Vec<(usize, String)>,
    /// Lines that cannot be read, and why.
    bad: Vec<(usize, String)>,
}

impl Lines {
    fn skip(&mut self, line: usize, why: String) {
        self.skipped.push((line, why));
    }

    fn bad(&mut self, line: usize, why: String) {
        self.bad.push((line, why));
    }
}

/// Reads a file. `now` is in Unix seconds.
///
/// # Errors
/// When nothing in it can be read: one sentence that begins with the line.
pub(super) fn parse(text: &str, format: Format, now: u64) -> Result<Parsed, String> {
    let lines = match format {
        Format::Auto => return parse(text, guess(text), now),
        Format::Dnsmasq => dnsmasq::leases(text),
        Format::Isc => isc::leases(text),
        Format::Kea => kea::leases(text),
        Format::Json => return json(text),
    };
    match lines.bad.iter().min() {
        Some((line, why)) if lines.found.is_empty() && lines.skipped.is_empty() => {
            Err(format!("line {line}: {why}"))
        }
        _ => Ok(newest(lines, now)),
    }
}

fn json(text: &str) -> Result<Parsed, String> {
    let leases: Vec<ImportedLease> = serde_json::from_str(text)
        .map_err(|wrong| format!("line {}: not a list of leases: {wrong}", wrong.line()))?;
    let mut parsed = Parsed::default();
    for (number, lease) in (1..).zip(leases) {
        let place = format!("entry {number}");
        if lease.rests() {
            parsed.skipped.push((place, format!("{} rests", lease.address)));
        } else {
            parsed.leases.push((place, lease));
        }
    }
    Ok(parsed)
}

fn guess(text: &str) -> Format {
    let begins = |line: &str| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("lease" | "server-duid" | "authoring-byte-order" | "failover"))
    };
    match text {
        _ if text.trim_start().starts_with('[') => Format::Json,
        _ if text.trim_start().starts_with(kea::HEAD) => Format::Kea,
        _ if text.lines().any(begins) => Format::Isc,
        _ => Format::Dnsmasq,
    }
}

/// An Ethernet address. What is none is noted: other hardware, or a mistake.
fn hardware(text: &str, line: usize, lines: &mut Lines) -> Option<Mac> {
    let mac = text.parse().ok();
    let octet = |octet: &str| (1..=2).contains(&octet.len()) && octet.bytes().all(|c| c.is_ascii_hexdigit());
    let octets = text.split(':').count();
    if mac.is_none() && (text.is_empty() || octets > 6 && text.split(':').all(octet)) {
        lines.skip(line, format!("{text:?} is no Ethernet address"));
    } else if mac.is_none() {
        lines.bad(line, format!("{text:?} is no MAC address"));
    }
    mac
}

/// Leaves out what has ended, and of the leases of one machine all but that which ends last.
fn newest(lines: Lines, now: u64) -> Parsed {
    let at = |line: usize| format!("line {line}");
    let Lines { found, mut skipped, bad } = lines;
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
                state: None,
                expires: Some(*ends),
                hostname: hostname.clone(),
            };
            leases.push((at(*line), lease));
        }
    }
    let named = |mut lines: Vec<(usize, String)>| {
        lines.sort();
        lines.into_iter().map(|(line, why)| (at(line), why)).collect()
    };
    Parsed { leases, skipped: named(skipped), bad: named(bad) }
}

#[cfg(test)]
mod tests;
