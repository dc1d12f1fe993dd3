//! Collects the problems of one file.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use super::problem::{Problem, Problems};

/// Where something stands in the file.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Path of the key; empty for the file itself.
    pub(super) key: String,
    pub(super) line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{} (line {line})", self.key),
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
    text: &'t str,
    /// Byte positions of the newlines.
    newlines: Vec<usize>,
    problems: Vec<Problem>,
    /// Values that are not TOML, waiting for the walk to find out which key they belong to.
    spoilt: Vec<(Range<usize>, String)>,
}

impl<'t> Report<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let newlines =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
        Self { text, newlines, problems: Vec::new(), spoilt: Vec::new() }
    }

    /// The line of a byte position, from 1.
    pub(super) fn line(&self, position: usize) -> usize {
        1 + self.newlines.partition_point(|newline| *newline < position)
    }

    /// The text as it was written.
    pub(super) fn written(&self, span: Range<usize>) -> &'t str {
        self.text.get(span).unwrap_or_default()
    }

    pub(super) fn add(&mut self, place: &Place, message: impl Into<String>) {
        self.problems.push(Problem { line: place.line, key: place.key.clone(), message: message.into() });
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
    pub(super) fn finish<T>(mut self, origin: &str, config: Option<T>) -> Result<T, Problems> {
        for (span, message) in std::mem::take(&mut self.spoilt) {
            let place = Place { key: String::new(), line: Some(self.line(span.start)) };
            self.add(&place, message);
        }
        match config {
            Some(config) if self.problems.is_empty() => Ok(config),
            _ => Err(Problems::new(origin, self.problems)),
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
        report.add(
            &at.place,
            format!("{what} {} is already at {before}; remove one", super::value::quoted(&at.value)),
        );
    } else {
        seen.insert(key, &at.place);
    }
}
