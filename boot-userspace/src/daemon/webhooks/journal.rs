//! Deliveries on disk, so that a daemon that is killed has them again.
//!
//! The file has a JSON object a line: a delivery as it is now, or the number of one that is over. The last line of a delivery
//! counts. When most lines are old, the file is written anew. What is appended is not synced: a power cut loses some seconds.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::daemon::boots::Unreadable;
use crate::host::regular;
use crate::host::replace::{PRIVATE, replace_by};

/// The file's name in `state_dir`.
const FILE: &str = "webhooks.jsonl";
/// So many lines more than there are deliveries, and the file is written anew.
const MOST_OLD: usize = 10_000;
/// No delivery has so long a line: a damaged file must fill no memory.
const LONGEST_LINE: u64 = 1 << 20;

/// An event on its way to a webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Delivery {
    /// Its number: a later one has a greater one.
    pub(super) id: u64,
    /// The webhook's name.
    pub(super) webhook: String,
    /// The machine's MAC; empty for events of no machine.
    pub(super) lane: String,
    /// Whether that machine may be made up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_of_stranger: bool,
    /// The kind of its event.
    pub(super) kind: String,
    /// How the machine is called, where it is known which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) machine: Option<String>,
    /// When the event happened, in Unix seconds.
    pub(super) at: u64,
    /// What is sent.
    pub(super) body: String,
    /// Why it was given up, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dead: Option<Death>,
}

/// Why a delivery was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Death {
    /// When, in Unix seconds.
    pub(super) at: u64,
    /// How often it was tried.
    pub(super) tries: u32,
    /// Why the last try failed.
    pub(super) why: String,
}

/// A line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Delivery(Box<Delivery>),
    Over(u64),
}

/// The file.
pub(super) struct Journal {
    path: PathBuf,
    file: Option<File>,
    lines: usize,
}

impl Journal {
    /// Reads what an earlier daemon has left: deliveries in the order of their numbers.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn open(state_dir: &Path) -> (Self, io::Result<Vec<Delivery>>) {
        let path = state_dir.join(FILE);
        let read = match read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Found::default()),
            read => read,
        };
        let lines = read.as_ref().map_or(0, |found| found.lines);
        if let Ok(found) = &read {
            found.unreadable.warn(&path, "Deliveries that only they have are not made");
        }
        (Self { path, file: None, lines }, read.map(|found| found.deliveries))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes deliveries as they are now.
    pub(super) fn put<'d>(&mut self, deliveries: impl IntoIterator<Item = &'d Delivery>) -> io::Result<()> {
        self.append(deliveries.into_iter().map(|delivery| Line::Delivery(Box::new(delivery.clone()))))
    }

    /// Writes that deliveries are over.
    pub(super) fn forget(&mut self, ids: impl IntoIterator<Item = u64>) -> io::Result<()> {
        self.append(ids.into_iter().map(Line::Over))
    }

    fn append(&mut self, lines: impl Iterator<Item = Line>) -> io::Result<()> {
        let mut text = Vec::new();
        let mut count = 0;
        for line in lines {
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
            count += 1;
        }
        if count == 0 {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(append_to(&self.path)?),
        };
        if let Err(error) = file.write_all(&text) {
            // The last line may be cut, so the next one begins after a line's end.
            self.file = None;
            return Err(error);
        }
        self.lines += count;
        Ok(())
    }

    /// Whether most lines are old, where so many deliveries are not over.
    pub(super) fn is_long(&self, live: usize) -> bool {
        self.lines > live + MOST_OLD
    }

    /// Writes the file anew with these deliveries only.
    pub(super) fn rewrite<'d>(&mut self, deliveries: impl Iterator<Item = &'d Delivery>) -> io::Result<()> {
        let mut lines = 0;
        replace_by(&self.path, PRIVATE, |file| {
            let mut writer = BufWriter::new(file);
            for delivery in deliveries {
                serde_json::to_writer(&mut writer, &Line::Delivery(Box::new(delivery.clone())))?;
                writer.write_all(b"\n")?;
                lines += 1;
            }
            writer.flush()
        })?;
        self.file = None;
        self.lines = lines;
        Ok(())
    }
}

/// Opens the file for appending; what was cut off by a kill is ended.
fn append_to(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).mode(PRIVATE).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    if let Some(at) = file.metadata()?.len().checked_sub(1) {
        let mut last = [0];
        file.read_exact_at(&mut last, at)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

/// What a file has.
#[derive(Default)]
struct Found {
    lines: usize,
    deliveries: Vec<Delivery>,
    unreadable: Unreadable,
}

fn read(path: &Path) -> io::Result<Found> {
    let mut file = BufReader::new(regular::open(path)?);
    let (mut lines, mut unreadable, mut line) = (0, Unreadable::default(), Vec::new());
    let mut found = BTreeMap::new();
    loop {
        line.clear();
        if (&mut file).take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(Found { lines, deliveries: found.into_values().collect(), unreadable });
        }
        if !line.ends_with(b"\n") {
            file.skip_until(b'\n')?;
        }
        lines += 1;
        match serde_json::from_slice(&line) {
            Ok(Line::Delivery(delivery)) => drop(found.insert(delivery.id, *delivery)),
            Ok(Line::Over(id)) => drop(found.remove(&id)),
            Err(_) => unreadable.add(lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn delivery(id: u64) -> Delivery {
        Delivery { id, webhook: "chat".to_owned(), body: format!("{{\"n\":{id}}}"), ..Delivery::default() }
    }

    fn stored(dir: &Path) -> Vec<Delivery> {
        Journal::open(dir).1.unwrap()
    }

    #[test]
    fn what_is_not_over_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, none) = Journal::open(dir.path());
        assert!(none.unwrap().is_empty());
        let dead = Delivery { dead: Some(Death { at: 1, tries: 2, why: "500".to_owned() }), ..delivery(2) };
        journal.put(&[delivery(1), delivery(2), delivery(3)]).unwrap();
        journal.forget([1]).unwrap();
        journal.put([&dead]).unwrap();
        assert_eq!(stored(dir.path()), [dead.clone(), delivery(3)]);
        // A kill may cut a line.
        let path = dir.path().join(FILE);
        let mut text = fs::read_to_string(&path).unwrap();
        text.truncate(text.len() - 4);
        fs::write(&path, &text).unwrap();
        assert_eq!(stored(dir.path()), [delivery(2), delivery(3)]);
        let mut cut = Unreadable::default();
        cut.add(5);
        assert_eq!(read(&path).unwrap().unreadable, cut);
        let (mut journal, _) = Journal::open(dir.path());
        journal.put([&delivery(4)]).unwrap();
        assert_eq!(stored(dir.path()), [delivery(2), delivery(3), delivery(4)]);
        journal.rewrite([delivery(4)].iter()).unwrap();
        journal.put([&delivery(5)]).unwrap();
        assert_eq!(stored(dir.path()), [delivery(4), delivery(5)]);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
        assert!(!journal.is_long(2));
        journal.forget(0..=MOST_OLD as u64 + 2).unwrap();
        assert!(journal.is_long(2));
    }
}
