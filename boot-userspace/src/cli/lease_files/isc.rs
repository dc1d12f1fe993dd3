//! `dhcpd.leases` of ISC dhcpd: a journal, in which later entries override earlier ones. Beside leases it has the hosts that
//! were made over OMAPI, as Foreman and xCAT do.

use std::collections::{BTreeMap, HashMap};
use std::iter::Peekable;
use std::net::Ipv4Addr;
use std::str::Chars;

use boot_common::Mac;

use super::reservation::Reservation;
use super::{Found, Lines};

/// A line, and its fault.
type Wrong = (usize, String);

/// Statements of the server itself, without a machine.
const ITS_OWN: [&str; 4] = ["authoring-byte-order", "server-duid", "failover", "default-duid"];

/// The content of the file, after all overrides.
#[derive(Default)]
struct Journal {
    leases: HashMap<Ipv4Addr, Entry>,
    /// Hosts by name; none if the host was deleted.
    hosts: BTreeMap<String, Option<Host>>,
    /// Entries that are neither leases nor hosts.
    others: Vec<(usize, String)>,
}

/// Reads every lease and host, and notes other entries. After an unreadable one it continues with the next lease or host.
pub(super) fn leases(text: &str) -> Lines {
    let mut lines = Lines::default();
    let mut journal = Journal::default();
    let mut words = Words { rest: text.chars().peekable(), line: 1 };
    loop {
        match one(&mut words, &mut journal) {
            Ok(true) => {}
            Ok(false) => break,
            Err((line, why)) => {
                lines.bad(line, why);
                let Some(next) = next_entry(text, line) else { break };
                words = next;
            }
        }
    }
    for (address, Entry { line, mac, ends, state, hostname, wrong }) in journal.leases {
        match (state, wrong, mac, ends) {
            (Some(state), ..) if state != "active" => {
                lines.skip(line, format!("the lease of {address} is {state}"));
            }
            (_, Some((line, why)), ..) => lines.bad(line, why),
            (_, _, None, _) => lines.skip(line, format!("the lease of {address} has no Ethernet address")),
            (_, _, _, None) => lines.skip(line, format!("the lease of {address} has no end")),
            (_, _, Some(mac), Some(ends)) => {
                lines.found.push(Found { line, mac, address, ends, hostname });
            }
        }
    }
    lines.found.sort_by_key(|found| found.line);
    for (label, host) in journal.hosts {
        let Some(Host { line, mac, address, hostname, beside, wrong }) = host else { continue };
        match (wrong, mac) {
            (Some((line, why)), _) => lines.bad(line, why),
            (None, None) => lines.skip(line, format!("host {label} has no Ethernet address")),
            (None, Some(mac)) => {
                lines.reservations.push((line, Reservation { label, hostname, mac, address, beside }));
            }
        }
    }
    lines.reservations.sort_by_key(|(line, _)| *line);
    lines.skipped.append(&mut journal.others);
    lines
}

/// The rest of the file from the first lease or host behind a line on.
fn next_entry(text: &str, line: usize) -> Option<Words<'_>> {
    let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
    let mut later = (1..).zip(starts).skip(line);
    let is_entry = |at: usize| {
        text.get(at..).is_some_and(|rest| ["lease ", "host "].iter().any(|word| rest.starts_with(word)))
    };
    let (line, at) = later.find(|(_, at)| is_entry(*at))?;
    Some(Words { rest: text.get(at..)?.chars().peekable(), line })
}

/// Reads one lease, host or something else. False at the end.
fn one(words: &mut Words<'_>, journal: &mut Journal) -> Result<bool, Wrong> {
    let Some((line, word)) = words.next()? else { return Ok(false) };
    match word {
        Word::Text(word) if word == "lease" => {
            let (_, Word::Text(address)) = words.needed("an address")? else {
                return Err((line, "no address behind lease".to_owned()));
            };
            let Ok(address) = address.parse() else {
                return Err((line, format!("{address:?} is no IPv4 address")));
            };
            // Even if unreadable, this entry overrides an earlier one.
            journal.leases.remove(&address);
            let (line_of_brace, Word::Open) = words.needed("{")? else {
                return Err((line, format!("no {{ behind lease {address}")));
            };
            let entry = Entry { line, ..entry(words, line_of_brace)? };
            journal.leases.insert(address, entry);
        }
        Word::Text(word) if word == "host" => {
            let (Word::Text(label) | Word::Quoted(label)) = words.needed("a name")?.1 else {
                return Err((line, "no name behind host".to_owned()));
            };
            journal.hosts.remove(&label);
            let (line_of_brace, Word::Open) = words.needed("{")? else {
                return Err((line, format!("no {{ behind host {label}")));
            };
            let host = host(words, line_of_brace)?.map(|host| Host { line, ..host });
            journal.hosts.insert(label, host);
        }
        Word::Text(word) | Word::Quoted(word) => {
            let rest = words.statement()?;
            if !ITS_OWN.contains(&word.as_str()) {
                let named = std::iter::once(word).chain(rest).collect::<Vec<_>>().join(" ");
                journal.others.push((line, format!("{named} is neither a lease nor a host")));
            }
        }
        Word::Open => words.block(line)?,
        Word::Close => return Err((line, "a } without its {".to_owned())),
        Word::End => {}
    }
    Ok(true)
}

/// The content of a lease's block.
#[derive(Default)]
struct Entry {
    line: usize,
    mac: Option<Mac>,
    ends: Option<u64>,
    state: Option<String>,
    hostname: Option<String>,
    wrong: Option<Wrong>,
}

fn entry(words: &mut Words<'_>, line: usize) -> Result<Entry, Wrong> {
    let mut entry = Entry::default();
    loop {
        let (at, word) = words.next()?.ok_or_else(|| (line, "a { without its }".to_owned()))?;
        let first = match word {
            Word::Close => return Ok(entry),
            Word::Open => {
                words.block(at)?;
                continue;
            }
            Word::End => continue,
            Word::Text(first) => first,
            Word::Quoted(_) => String::new(),
        };
        let rest = words.statement()?;
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        match (first.as_str(), rest.as_slice()) {
            ("hardware", ["ethernet", mac]) => {
                entry.mac = mac.parse().ok();
                if entry.mac.is_none() {
                    entry.wrong = Some((at, format!("{mac:?} is no MAC address")));
                }
            }
            ("ends", when) => {
                entry.ends = time(when);
                if entry.ends.is_none() {
                    entry.wrong = Some((at, format!("ends {}: no time", when.join(" "))));
                }
            }
            ("binding", ["state", state]) => entry.state = Some((*state).to_owned()),
            ("client-hostname", [name]) => entry.hostname = Some((*name).to_owned()),
            _ => {}
        }
    }
}

/// The content of a host's block.
#[derive(Default)]
struct Host {
    line: usize,
    mac: Option<Mac>,
    address: Option<Ipv4Addr>,
    hostname: Option<String>,
    beside: Vec<String>,
    wrong: Option<Wrong>,
}

/// Reads a host's block (dhcpd.leases(5), dhcpd.conf(5)); none if it says that the host was deleted.
fn host(words: &mut Words<'_>, line: usize) -> Result<Option<Host>, Wrong> {
    let mut host = Host::default();
    let mut is_deleted = false;
    loop {
        let (at, word) = words.next()?.ok_or_else(|| (line, "a { without its }".to_owned()))?;
        let first = match word {
            Word::Close => return Ok((!is_deleted).then_some(host)),
            Word::Open => {
                words.block(at)?;
                continue;
            }
            Word::End => continue,
            Word::Text(first) | Word::Quoted(first) => first,
        };
        let rest = words.statement()?;
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        match (first.as_str(), rest.as_slice()) {
            ("dynamic", []) => {}
            ("deleted", []) => is_deleted = true,
            ("hardware", ["ethernet", mac]) => {
                host.mac = mac.parse().ok();
                if host.mac.is_none() {
                    host.wrong = Some((at, format!("{mac:?} is no MAC address")));
                }
            }
            ("fixed-address", addresses) => {
                let mut addresses =
                    addresses.iter().flat_map(|text| text.split(',')).filter(|text| !text.is_empty());
                let first = addresses.next().unwrap_or_default();
                host.address = first.parse().ok();
                if host.address.is_none() {
                    host.wrong = Some((at, format!("fixed-address {first:?} is no IPv4 address")));
                }
                host.beside.extend(addresses.map(|more| format!("fixed-address {more}")));
            }
            ("supersede" | "option", ["host-name", "=", name] | ["host-name", name]) => {
                host.hostname = Some((*name).to_owned());
            }
            // Firmware shows its MAC in any case.
            ("uid", _) => {}
            (first, rest) => {
                let words = std::iter::once(&first).chain(rest).copied().collect::<Vec<_>>();
                host.beside.push(words.join(" "));
            }
        }
    }
}

/// `never`, `epoch 1700000000` or `4 2026/01/01 12:00:00` (UTC), as Unix seconds; 0: never.
fn time(words: &[&str]) -> Option<u64> {
    let (date, clock) = match words {
        ["never"] => return Some(0),
        // 0 would be never.
        ["epoch", seconds] => return Some(seconds.parse::<u64>().ok()?.max(1)),
        [_weekday, date, clock] => (date, clock),
        _ => return None,
    };
    let numbers = |text: &str, between: char| -> Option<[u64; 3]> {
        let numbers: Vec<u64> = text.split(between).map(|part| part.parse().ok()).collect::<Option<_>>()?;
        numbers.try_into().ok()
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '/')?, numbers(clock, ':')?);
    let is_time = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    is_time.then(|| (days * 86_400 + hour * 3600 + minute * 60 + second).max(1))
}

enum Word {
    Text(String),
    Quoted(String),
    Open,
    Close,
    /// `;`
    End,
}

/// The file as words.
struct Words<'t> {
    rest: Peekable<Chars<'t>>,
    line: usize,
}

impl Words<'_> {
    fn take(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    /// The next word and its line.
    fn next(&mut self) -> Result<Option<(usize, Word)>, Wrong> {
        while let Some(c) = self.rest.peek().copied() {
            let line = self.line;
            let word = match c {
                '#' => {
                    while self.rest.next_if(|c| *c != '\n').is_some() {}
                    continue;
                }
                c if c.is_whitespace() => {
                    self.take();
                    continue;
                }
                '{' => Word::Open,
                '}' => Word::Close,
                ';' => Word::End,
                '"' => return Ok(Some((line, Word::Quoted(self.quoted(line)?)))),
                _ => return Ok(Some((line, Word::Text(self.text())))),
            };
            self.take();
            return Ok(Some((line, word)));
        }
        Ok(None)
    }

    fn needed(&mut self, what: &str) -> Result<(usize, Word), Wrong> {
        let line = self.line;
        self.next()?.ok_or_else(|| (line, format!("the file ends where {what} is expected")))
    }

    fn text(&mut self) -> String {
        let mut text = String::new();
        while let Some(c) = self.rest.next_if(|c| !c.is_whitespace() && !"{};\"#".contains(*c)) {
            text.push(c);
        }
        text
    }

    /// Escapes are left as they are: they occur only in identifiers, which the import does not use.
    fn quoted(&mut self, line: usize) -> Result<String, Wrong> {
        let mut text = String::new();
        self.take();
        while let Some(c) = self.take() {
            match c {
                '"' => return Ok(text),
                '\\' => {
                    text.push(c);
                    text.extend(self.take());
                }
                _ => text.push(c),
            }
        }
        Err((line, "a quotation without its end".to_owned()))
    }

    /// The rest of a statement: up to `;` or behind its block.
    fn statement(&mut self) -> Result<Vec<String>, Wrong> {
        let mut words = Vec::new();
        loop {
            match self.needed(";")? {
                (_, Word::End) => return Ok(words),
                (line, Word::Open) => {
                    self.block(line)?;
                    return Ok(words);
                }
                (line, Word::Close) => return Err((line, "a } where ; is expected".to_owned())),
                (_, Word::Text(word) | Word::Quoted(word)) => words.push(word),
            }
        }
    }

    /// Skips a block whose `{` has been read.
    fn block(&mut self, line: usize) -> Result<(), Wrong> {
        let mut open = 1;
        while open > 0 {
            match self.next()?.ok_or_else(|| (line, "a { without its }".to_owned()))? {
                (_, Word::Open) => open += 1,
                (_, Word::Close) => open -= 1,
                _ => {}
            }
        }
        Ok(())
    }
}
