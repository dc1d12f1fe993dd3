//! `kea-leases4.csv` of Kea's memfile: a journal, in which later lines override earlier ones.
//!
//! Kea's lease file clean-up (LFC) uses files beside the lease file: `.1` waits for the clean-up, `.2` is the result of the
//! last clean-up, `.completed` is a finished result that is not renamed to `.2` yet, and `.output` is an unfinished one. Kea
//! reads `.completed`, or else `.2` and `.1`, and then the lease file itself; so does the import.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::{Found, Lines, hardware};

/// The beginning of the first line; the columns behind these differ between versions.
pub(super) const HEAD: &str = "address,hwaddr,";
/// A lifetime without an end.
const FOREVER: u32 = u32::MAX;

/// The files beside a lease file that belong to it, in the order in which a server reads them, and those that are left
/// out, with the reason. `exists` returns whether there is a file with this ending.
pub(super) fn beside(
    exists: impl Fn(&str) -> bool,
) -> (Vec<&'static str>, Vec<(&'static str, &'static str)>) {
    let found = |ending: &&'static str| exists(ending);
    let mut left_out = Vec::new();
    if exists(".output") {
        left_out.push((".output", "a clean-up that has not finished; what it has is in the other files"));
    }
    if exists(".completed") {
        left_out.extend(
            [".2", ".1"]
                .into_iter()
                .filter(|ending| exists(ending))
                .map(|ending| (ending, "what it has is in .completed")),
        );
        return (vec![".completed"], left_out);
    }
    ([".2", ".1"].into_iter().filter(found).collect(), left_out)
}

/// The numbers of the columns.
struct Columns {
    hwaddr: usize,
    lifetime: usize,
    expire: usize,
    hostname: Option<usize>,
    state: usize,
}

impl Columns {
    fn of(head: &str) -> Result<Self, String> {
        let names: Vec<&str> = head.trim_end().split(',').collect();
        let find = |wanted: &str| names.iter().position(|name| *name == wanted);
        let needed = |wanted: &str| find(wanted).ok_or_else(|| format!("no column {wanted:?}"));
        if names.first() != Some(&"address") {
            return Err(format!("the first line does not begin with {HEAD:?}"));
        }
        Ok(Self {
            hwaddr: needed("hwaddr")?,
            lifetime: needed("valid_lifetime")?,
            expire: needed("expire")?,
            hostname: find("hostname"),
            state: needed("state")?,
        })
    }
}

/// The meaning of a line for its address.
enum Entry {
    Lease(Found),
    /// No lease, for this reason.
    None(String),
    /// The lease was removed.
    Deleted,
    Bad(String),
}

pub(super) fn leases(text: &str) -> Lines {
    let mut lines = Lines::default();
    let mut columns = None;
    let mut journal: BTreeMap<Ipv4Addr, (usize, Entry)> = BTreeMap::new();
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        // Of several files each has its own head.
        if columns.is_none() || text.starts_with(HEAD) {
            match Columns::of(text) {
                Ok(found) => columns = Some(found),
                Err(why) => {
                    lines.bad(line, why);
                    return lines;
                }
            }
            continue;
        }
        let Some(columns) = &columns else { continue };
        let cells: Vec<&str> = text.trim_end().split(',').collect();
        let address = cells.first().copied().unwrap_or_default();
        match address.parse() {
            Ok(address) => drop(journal.insert(address, (line, entry(line, address, &cells, columns)))),
            Err(_) => lines.bad(line, format!("{address:?} is no IPv4 address")),
        }
    }
    for (line, entry) in journal.into_values() {
        match entry {
            Entry::Lease(found) => lines.found.push(found),
            Entry::None(why) => lines.skip(line, why),
            Entry::Deleted => {}
            Entry::Bad(why) => lines.bad(line, why),
        }
    }
    lines.found.sort_by_key(|found| found.line);
    lines
}

fn entry(line: usize, address: Ipv4Addr, cells: &[&str], columns: &Columns) -> Entry {
    let cell = |column: usize| cells.get(column).copied().unwrap_or_default();
    let Ok(lifetime) = cell(columns.lifetime).parse::<u32>() else {
        return Entry::Bad(format!("{:?} is no lifetime in seconds", cell(columns.lifetime)));
    };
    let Ok(expire) = cell(columns.expire).parse::<u64>() else {
        return Entry::Bad(format!("{:?} is no time in Unix seconds", cell(columns.expire)));
    };
    match cell(columns.state) {
        _ if lifetime == 0 => return Entry::Deleted,
        "0" => {}
        "1" => return Entry::None(format!("{address} is declined")),
        "2" => return Entry::None(format!("the lease of {address} has expired")),
        "3" => return Entry::None(format!("the lease of {address} is released")),
        other => return Entry::Bad(format!("{other:?} is no state of a lease")),
    }
    let mut judged = Lines::default();
    let Some(mac) = hardware(cell(columns.hwaddr), line, &mut judged) else {
        return match (judged.skipped.pop(), judged.bad.pop()) {
            (Some((_, why)), _) => Entry::None(why),
            (None, Some((_, why))) => Entry::Bad(why),
            (None, None) => Entry::Deleted,
        };
    };
    // 0 would be never.
    let ends = if lifetime == FOREVER { 0 } else { expire.max(1) };
    // A comma within a cell is written so.
    let hostname = columns.hostname.map(cell).unwrap_or_default().replace("&#x2c", ",");
    let hostname = hostname.trim_end_matches('.');
    let hostname = (!hostname.is_empty()).then(|| hostname.to_owned());
    Entry::Lease(Found { line, mac, address, ends, hostname })
}
