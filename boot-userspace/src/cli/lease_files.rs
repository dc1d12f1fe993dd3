//! Lease files of other servers.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use boot_common::Mac;
use clap::ValueEnum;

use crate::http::admin::rfc3339;
use crate::http::leases::ImportedLease;
use boot_engine::config::Subnet;
use reservation::Reservation;

mod dnsmasq;
mod isc;
mod kea;
pub(super) mod reservation;

/// The format of a lease file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Recognised by its content
    Auto,
    /// dnsmasq.leases
    Dnsmasq,
    /// dhcpd.leases of ISC dhcpd
    Isc,
    /// kea-leases4.csv of Kea
    Kea,
    /// The output of `xpxe leases list --json`
    Json,
}

/// The content of a lease file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    /// Running leases, each with its place in the file.
    pub(super) leases: Vec<(String, ImportedLease)>,
    /// Entries that are left out: place and reason.
    pub(super) skipped: Vec<(String, String)>,
    /// Entries that cannot be read: place and reason.
    pub(super) bad: Vec<(String, String)>,
    /// The other server's reservations, each with its place in the file.
    pub(super) reservations: Vec<(String, Reservation)>,
}

/// A lease as it stands in a file.
struct Found {
    line: usize,
    mac: Mac,
    address: Ipv4Addr,
    /// Unix seconds; 0: never.
    ends: u64,
    hostname: Option<String>,
}

/// The lines of a file, the input of [`newest`].
#[derive(Default)]
struct Lines {
    found: Vec<Found>,
    /// Lines without a lease, and the reason.
    skipped: Vec<(usize, String)>,
    /// Lines that cannot be read, and the reason.
    bad: Vec<(usize, String)>,
    reservations: Vec<(usize, Reservation)>,
}

impl Lines {
    fn skip(&mut self, line: usize, why: String) {
        self.skipped.push((line, why));
    }

    fn bad(&mut self, line: usize, why: String) {
        self.bad.push((line, why));
    }
}

/// The lease file as text, behind the text of the files that belong to it.
#[derive(Debug, Default)]
pub(super) struct Source {
    text: String,
    /// The files in the text: first line and name of each.
    files: Vec<(usize, String)>,
    /// Files that are left out, and the reason.
    left_out: Vec<(String, String)>,
}

impl Source {
    /// Reads a lease file and, for Kea, the files beside it that belong to it.
    ///
    /// # Errors
    /// The file that cannot be read, and the reason.
    pub(super) fn read(path: &Path, format: Format) -> Result<Self, (PathBuf, io::Error)> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| (path.to_owned(), error));
        // Only names of machines could be anything else than UTF-8.
        let own = String::from_utf8_lossy(&read(path)?).into_owned();
        let is_kea = format == Format::Kea || format == Format::Auto && guess(&own) == Format::Kea;
        if !is_kea {
            return Ok(Self { text: own, ..Self::default() });
        }
        let with = |ending: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let (endings, left_out) = kea::beside(|ending| with(ending).exists());
        let mut source = Self::default();
        for ending in endings {
            let text = String::from_utf8_lossy(&read(&with(ending))?).into_owned();
            source.add(file_name(&with(ending)), &text);
        }
        source.add(if source.files.is_empty() { String::new() } else { file_name(path) }, &own);
        let why = |(ending, why): (&str, &str)| (file_name(&with(ending)), why.to_owned());
        source.left_out = left_out.into_iter().map(why).collect();
        Ok(source)
    }

    fn add(&mut self, name: String, text: &str) {
        self.files.push((self.text.lines().count(), name));
        self.text.push_str(text);
        if !text.is_empty() && !text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// The place of a line: file and number.
    fn place(&self, line: usize) -> String {
        match self.files.iter().rev().find(|(first, _)| *first < line) {
            Some((first, name)) if !name.is_empty() => format!("{name}: line {}", line - first),
            _ => format!("line {line}"),
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Reads a lease file. `subnets` are those of the configuration; `now` is in Unix seconds.
///
/// # Errors
/// If nothing in it can be read: one sentence that begins with the line.
pub(super) fn parse(source: &Source, format: Format, subnets: &[Subnet], now: u64) -> Result<Parsed, String> {
    let text = source.text.as_str();
    let lines = match format {
        Format::Auto => return parse(source, guess(text), subnets, now),
        Format::Dnsmasq => dnsmasq::leases(text),
        Format::Isc => isc::leases(text),
        Format::Kea => kea::leases(text),
        Format::Json => return json(text),
    };
    match lines.bad.iter().min() {
        Some((line, why))
            if lines.found.is_empty() && lines.skipped.is_empty() && lines.reservations.is_empty() =>
        {
            Err(format!("{}: {why}", source.place(*line)))
        }
        _ => {
            let mut parsed = newest(lines, subnets, now, |line| source.place(line));
            parsed.skipped.extend(source.left_out.iter().cloned());
            Ok(parsed)
        }
    }
}

fn json(text: &str) -> Result<Parsed, String> {
    let leases: Vec<ImportedLease> = serde_json::from_str(text)
        .map_err(|wrong| format!("line {}: not a list of leases: {wrong}", wrong.line()))?;
    let mut parsed = Parsed::default();
    for (number, lease) in (1..).zip(leases) {
        let place = format!("entry {number}");
        if lease.rests() {
            parsed.skipped.push((place, format!("{} is on hold", lease.address)));
        } else {
            parsed.leases.push((place, lease));
        }
    }
    Ok(parsed)
}

fn guess(text: &str) -> Format {
    let begins = |line: &str| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("lease" | "host" | "server-duid" | "authoring-byte-order" | "failover"))
    };
    match text {
        _ if text.trim_start().starts_with('[') => Format::Json,
        _ if text.trim_start().starts_with(kea::HEAD) => Format::Kea,
        _ if text.lines().any(begins) => Format::Isc,
        _ => Format::Dnsmasq,
    }
}

/// An Ethernet address. Other hardware is noted as skipped, a mistake as bad.
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

/// Leaves out expired leases and, if a machine has several leases in one subnet, all but the one that ends last.
fn newest(lines: Lines, subnets: &[Subnet], now: u64, at: impl Fn(usize) -> String) -> Parsed {
    let Lines { found, mut skipped, bad, reservations } = lines;
    // Never is later than any time.
    let late = |found: &Found| (found.ends == 0, found.ends);
    let place =
        |found: &Found| (found.mac, subnets.iter().position(|subnet| subnet.cidr.contains(&found.address)));
    let mut last: HashMap<(Mac, Option<usize>), &Found> = HashMap::new();
    for lease in &found {
        let best = last.entry(place(lease)).or_insert(lease);
        if late(lease) >= late(best) {
            *best = lease;
        }
    }
    let mut leases = Vec::new();
    for lease in &found {
        let Found { line, mac, address, ends, hostname } = lease;
        if *ends != 0 && *ends <= now {
            skipped.push((*line, format!("the lease of {address} ended at {}", rfc3339(*ends))));
        } else if let Some(other) = last.get(&place(lease)).filter(|other| other.line != *line) {
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
    let reservations = reservations.into_iter().map(|(line, reserved)| (at(line), reserved)).collect();
    let named = |mut lines: Vec<(usize, String)>| {
        lines.sort();
        lines.into_iter().map(|(line, why)| (at(line), why)).collect()
    };
    Parsed { leases, skipped: named(skipped), bad: named(bad), reservations }
}

#[cfg(test)]
mod tests;
