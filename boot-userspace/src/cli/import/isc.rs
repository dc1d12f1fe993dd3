//! `dhcpd.leases` of ISC dhcpd: a journal, in which later entries override earlier ones.

use std::collections::HashMap;
use std::iter::Peekable;
use std::net::Ipv4Addr;
use std::str::Chars;

use boot_common::Mac;

use super::{Found, Lines};

/// Reads every lease; what else the file has is passed over.
pub(super) fn leases(text: &str) -> Result<Lines, String> {
    let mut words = Words { rest: text.chars().peekable(), line: 1 };
    let mut journal: HashMap<Ipv4Addr, Entry> = HashMap::new();
    while let Some((line, word)) = words.next()? {
        match word {
            Word::Text(word) if word == "lease" => {
                let (_, Word::Text(address)) = words.needed("an address")? else {
                    return Err(format!("line {line}: no address behind lease"));
                };
                let address =
                    address.parse().map_err(|_| format!("line {line}: {address:?} is no IPv4 address"))?;
                let (line_of_brace, Word::Open) = words.needed("{")? else {
                    return Err(format!("line {line}: no {{ behind lease {address}"));
                };
                let entry = Entry { line, ..entry(&mut words, line_of_brace)? };
                journal.insert(address, entry);
            }
            Word::Text(_) | Word::Quoted(_) => {
                words.statement()?;
            }
            Word::Open => words.block(line)?,
            Word::Close => return Err(format!("line {line}: a }} without its {{")),
            Word::End => {}
        }
    }
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for (address, Entry { line, mac, ends, state, hostname }) in journal {
        match (state, mac, ends) {
            (Some(state), ..) if state != "active" => {
                skipped.push((line, format!("the lease of {address} is {state}")));
            }
            (_, None, _) => skipped.push((line, format!("the lease of {address} has no Ethernet address"))),
            (_, _, None) => skipped.push((line, format!("the lease of {address} has no end"))),
            (_, Some(mac), Some(ends)) => found.push(Found { line, mac, address, ends, hostname }),
        }
    }
    found.sort_by_key(|found| found.line);
    Ok((found, skipped))
}

/// What a lease's block says.
#[derive(Default)]
struct Entry {
    line: usize,
    mac: Option<Mac>,
    ends: Option<u64>,
    state: Option<String>,
    hostname: Option<String>,
}

fn entry(words: &mut Words<'_>, line: usize) -> Result<Entry, String> {
    let mut entry = Entry::default();
    loop {
        let (at, word) = words.next()?.ok_or_else(|| format!("line {line}: a {{ without its }}"))?;
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
                entry.mac = Some(mac.parse().map_err(|_| format!("line {at}: {mac:?} is no MAC"))?);
            }
            ("ends", when) => {
                let ends =
                    time(when).ok_or_else(|| format!("line {at}: ends {}: no time", when.join(" ")))?;
                entry.ends = Some(ends);
            }
            ("binding", ["state", state]) => entry.state = Some((*state).to_owned()),
            ("client-hostname", [name]) => entry.hostname = Some((*name).to_owned()),
            _ => {}
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
    fn next(&mut self) -> Result<Option<(usize, Word)>, String> {
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

    fn needed(&mut self, what: &str) -> Result<(usize, Word), String> {
        let line = self.line;
        self.next()?.ok_or_else(|| format!("line {line}: the file ends where {what} is expected"))
    }

    fn text(&mut self) -> String {
        let mut text = String::new();
        while let Some(c) = self.rest.next_if(|c| !c.is_whitespace() && !"{};\"#".contains(*c)) {
            text.push(c);
        }
        text
    }

    /// Escapes are left as they are: they stand in identifiers only, which nobody asks for.
    fn quoted(&mut self, line: usize) -> Result<String, String> {
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
        Err(format!("line {line}: a quotation without its end"))
    }

    /// The rest of a statement: up to `;` or behind its block.
    fn statement(&mut self) -> Result<Vec<String>, String> {
        let mut words = Vec::new();
        loop {
            match self.needed(";")? {
                (_, Word::End) => return Ok(words),
                (line, Word::Open) => {
                    self.block(line)?;
                    return Ok(words);
                }
                (line, Word::Close) => return Err(format!("line {line}: a }} where ; is expected")),
                (_, Word::Text(word) | Word::Quoted(word)) => words.push(word),
            }
        }
    }

    /// Passes over a block whose `{` has been read.
    fn block(&mut self, line: usize) -> Result<(), String> {
        let mut open = 1;
        while open > 0 {
            match self.next()?.ok_or_else(|| format!("line {line}: a {{ without its }}"))? {
                (_, Word::Open) => open += 1,
                (_, Word::Close) => open -= 1,
                _ => {}
            }
        }
        Ok(())
    }
}
