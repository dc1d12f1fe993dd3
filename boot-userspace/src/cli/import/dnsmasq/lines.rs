//! dnsmasq's files as statements.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::setup::{Place, Setup};

/// A statement: `key=value`.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) value: String,
}

impl Line {
    /// The parts between commas.
    pub(super) fn words(&self) -> Vec<&str> {
        let mut words = Vec::new();
        let (mut start, mut is_quoted) = (0, false);
        for (at, c) in self.value.char_indices() {
            match c {
                '"' => is_quoted = !is_quoted,
                ',' if !is_quoted => {
                    words.push(&self.value[start..at]);
                    start = at + 1;
                }
                _ => {}
            }
        }
        words.push(&self.value[start..]);
        let words = words.into_iter().map(|word| word.trim().trim_matches('"'));
        if self.value.is_empty() { Vec::new() } else { words.collect() }
    }

    pub(super) fn text(&self) -> String {
        match self.value.is_empty() {
            true => self.key.clone(),
            false => format!("{}={}", self.key, self.value),
        }
    }
}

/// Files in each other, at most.
const DEEPEST: usize = 20;

/// Every statement of a file or a directory, and of the files that they name.
///
/// # Errors
/// The file that cannot be read.
pub(super) fn read(path: &Path, setup: &mut Setup) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    if path.is_dir() {
        for file in files(path, &[]).map_err(|error| format!("cannot read {}: {error}", path.display()))? {
            text(&file, setup, &mut lines, 0)?;
        }
    } else {
        text(path, setup, &mut lines, 0)?;
    }
    Ok(lines)
}

fn text(path: &Path, setup: &mut Setup, lines: &mut Vec<Line>, depth: usize) -> Result<(), String> {
    let name = path.display().to_string();
    let text = setup.read(path)?;
    for (number, text) in (1..).zip(text.lines()) {
        let place = Place::new(&name, number);
        let text = without_comment(text).trim();
        if text.is_empty() {
            continue;
        }
        let (key, value) = text.split_once('=').map_or((text, ""), |(key, value)| (key.trim(), value.trim()));
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            setup.bad(&place, format!("{text:?} is no statement of dnsmasq"));
            continue;
        }
        let line = Line { place, key: key.to_owned(), value: value.to_owned() };
        include(path, &line, setup, lines, depth);
        lines.push(line);
    }
    Ok(())
}

/// A `#` begins a comment at the beginning or behind a blank, outside of quotes.
fn without_comment(text: &str) -> &str {
    let (mut is_quoted, mut before) = (false, ' ');
    for (at, c) in text.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            '#' if !is_quoted && before.is_whitespace() => return &text[..at],
            _ => {}
        }
        before = c;
    }
    text
}

fn include(from: &Path, line: &Line, setup: &mut Setup, lines: &mut Vec<Line>, depth: usize) {
    let words = line.words();
    let Some((first, rest)) = words.split_first() else { return };
    let path = beside(from, first);
    let found = match line.key.as_str() {
        "conf-file" => Ok(vec![path]),
        "conf-dir" => files(&path, rest).map_err(|error| format!("cannot be read: {error}")),
        "dhcp-hostsfile" | "dhcp-optsfile" => {
            let key = if line.key == "dhcp-hostsfile" { "dhcp-host" } else { "dhcp-option" };
            if let Err(why) = values(&path, key, setup, lines) {
                setup.left(&line.place, line.text(), why);
            }
            return;
        }
        _ => return,
    };
    let read = found.and_then(|files| {
        if depth >= DEEPEST {
            return Err("includes itself".to_owned());
        }
        files.iter().try_for_each(|file| text(file, setup, lines, depth + 1))
    });
    if let Err(why) = read {
        setup.left(&line.place, line.text(), why);
    }
}

/// A file with a value of this statement in each line.
fn values(path: &Path, key: &str, setup: &mut Setup, lines: &mut Vec<Line>) -> Result<(), String> {
    let text = setup.read(path)?;
    let name = path.display().to_string();
    for (number, text) in (1..).zip(text.lines()) {
        let value = without_comment(text).trim();
        if !value.is_empty() {
            let place = Place::new(&name, number);
            lines.push(Line { place, key: key.to_owned(), value: value.to_owned() });
        }
    }
    Ok(())
}

/// A path as dnsmasq finds it; a relative one beside the file that names it.
fn beside(from: &Path, name: &str) -> PathBuf {
    from.parent().unwrap_or(Path::new("")).join(name)
}

/// The files of a directory by name. `*.conf` takes only those, `.bak` leaves those out.
fn files(dir: &Path, patterns: &[&str]) -> std::io::Result<Vec<PathBuf>> {
    let taken: Vec<&str> = patterns.iter().filter_map(|pattern| pattern.strip_prefix('*')).collect();
    let left: Vec<&str> = patterns.iter().filter(|pattern| !pattern.starts_with('*')).copied().collect();
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_copy =
            name.starts_with('.') || name.ends_with('~') || name.starts_with('#') && name.ends_with('#');
        let is_taken = (taken.is_empty() || taken.iter().any(|end| name.ends_with(end)))
            && !left.iter().any(|end| !end.is_empty() && name.ends_with(end));
        if path.is_file() && !is_copy && is_taken {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
