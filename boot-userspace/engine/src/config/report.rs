//! Collects the problems of the files that make up a configuration.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use super::problem::{Problem, Problems};
use super::template::Fault;

/// A line of one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Which file, from 0; the first is the configuration file itself.
    pub(super) file: u16,
    /// From 1.
    pub(super) number: u32,
}

/// Where something stands in the files.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Path of the key in its file; empty for the file itself.
    pub(super) key: String,
    pub(super) line: Option<Line>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{} (line {})", self.key, line.number),
            None => f.write_str(&self.key),
        }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

impl At<String> {
    /// Reads the text as something; what `read` has to say against it becomes a problem at this place.
    pub(super) fn read<T>(
        &self,
        report: &mut Report<'_>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        read(&self.value).map_err(|message| report.add(&self.place, message)).ok()
    }
}

pub(super) struct Report<'t> {
    /// The files' names, the configuration file's first.
    files: Vec<String>,
    /// The file that is read now.
    file: u16,
    text: &'t str,
    /// Byte positions of its newlines.
    newlines: Vec<usize>,
    problems: Vec<Problem>,
    /// Values that are not TOML, waiting for the walk to find out which key they belong to.
    spoilt: Vec<(Range<usize>, String)>,
}

impl<'t> Report<'t> {
    pub(super) fn new(files: Vec<String>) -> Self {
        Self { files, file: 0, text: "", newlines: Vec::new(), problems: Vec::new(), spoilt: Vec::new() }
    }

    /// Positions are those of this text from now on.
    pub(super) fn begin(&mut self, file: u16, text: &'t str) {
        self.file = file;
        self.text = text;
        self.newlines =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
    }

    /// Reports the values of this text that are not TOML and belong to no key.
    pub(super) fn end(&mut self) {
        for (span, message) in std::mem::take(&mut self.spoilt) {
            let place = Place { key: String::new(), line: Some(self.line(span.start)) };
            self.add(&place, message);
        }
    }

    /// The line of a byte position.
    pub(super) fn line(&self, position: usize) -> Line {
        let before = self.newlines.partition_point(|newline| *newline < position);
        Line { file: self.file, number: u32::try_from(before + 1).unwrap_or(u32::MAX) }
    }

    /// A place as something is told of it at another one: with the file's name if that is another file.
    pub(super) fn name(&self, place: &Place, from: &Place) -> String {
        let file = |place: &Place| place.line.map_or(0, |line| line.file);
        match (place.line, self.file_name(place)) {
            (Some(line), Some(name)) if file(place) != file(from) => {
                format!("{} (line {} of {name})", place.key, line.number)
            }
            _ => place.to_string(),
        }
    }

    fn file_name(&self, place: &Place) -> Option<&String> {
        self.files.get(usize::from(place.line.map_or(0, |line| line.file)))
    }

    /// The text as it was written.
    pub(super) fn written(&self, span: Range<usize>) -> &'t str {
        self.text.get(span).unwrap_or_default()
    }

    pub(super) fn add(&mut self, place: &Place, message: impl Into<String>) {
        let file = self.file_name(place).cloned().unwrap_or_default();
        let line = place.line.and_then(|line| usize::try_from(line.number).ok());
        self.problems.push(Problem { file, line, key: place.key.clone(), message: message.into() });
    }

    /// Reports what is wrong with another file, which the configuration names.
    pub(super) fn add_fault(&mut self, Fault { file, line, what }: Fault) {
        let file = file.unwrap_or_default();
        self.problems.push(Problem { file, line, key: String::new(), message: what });
    }

    pub(super) fn add_spoilt(&mut self, span: Range<usize>, message: String) {
        self.spoilt.push((span, message));
    }

    /// Why the value that was written at `span` is not TOML, if it is not.
    pub(super) fn take_spoilt(&mut self, span: &Range<usize>) -> Option<String> {
        let mut found = None;
        self.spoilt.retain(|(at, message)| {
            let inside = span.start <= at.start && at.end <= span.end;
            if inside && found.is_none() {
                found = Some(message.clone());
            }
            !inside
        });
        found
    }

    /// The configuration if there was no problem; `None` is only given together with problems.
    pub(super) fn finish<T>(self, config: Option<T>) -> Result<T, Problems> {
        match config {
            Some(config) if self.problems.is_empty() => Ok(config),
            _ => Err(Problems::new(self.problems)),
        }
    }
}

/// Reports what was there before; `what` is the kind of thing.
pub(super) fn once<'f, K: std::hash::Hash + Eq>(
    seen: &mut HashMap<K, &'f Place>,
    key: K,
    at: &'f At<String>,
    what: &str,
    report: &mut Report<'_>,
) {
    if let Some(before) = seen.get(&key) {
        let before = report.name(before, &at.place);
        report.add(
            &at.place,
            format!("{what} {} is already at {before}; remove one", super::value::quoted(&at.value)),
        );
    } else {
        seen.insert(key, &at.place);
    }
}

/// A key that may be there once.
pub(super) fn one<T>(known: &mut Option<At<T>>, more: Option<At<T>>, report: &mut Report<'_>) {
    match (&known, more) {
        (Some(before), Some(again)) => twice(&before.place, &again.place, report),
        (None, Some(first)) => *known = Some(first),
        (_, None) => {}
    }
}

/// A list that may be there once.
pub(super) fn one_list<T>(known: &mut Vec<At<T>>, more: Vec<At<T>>, report: &mut Report<'_>) {
    match (known.first(), more.first()) {
        (Some(before), Some(again)) => twice(&before.place, &again.place, report),
        (None, Some(_)) => *known = more,
        (_, None) => {}
    }
}

/// Reports a key that two files have.
pub(super) fn twice(before: &Place, again: &Place, report: &mut Report<'_>) {
    let before = report.name(before, again);
    report.add(again, format!("is already set by {before}; write it in one of these files only"));
}
