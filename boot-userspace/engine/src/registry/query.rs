//! Which records somebody asks for.

use std::collections::BTreeMap;

use super::record::Record;
use crate::lifecycle::State;

/// What a record has to have. Nothing: all have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// One of these states.
    pub states: Vec<State>,
    /// All of these labels; without a value: the label, with whatever value.
    pub labels: Vec<(String, Option<String>)>,
    /// Only behind this number.
    pub after: u64,
    /// At most so many.
    pub limit: usize,
}

impl Query {
    /// Whether a record is asked for.
    #[must_use]
    pub fn fits(&self, record: &Record) -> bool {
        (self.states.is_empty() || self.states.contains(&record.status.state))
            && self.fits_labels(&record.spec.labels)
    }

    /// Whether it asks for machines with these labels.
    #[must_use]
    pub fn fits_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |(key, value): &(String, Option<String>)| {
            labels.get(key).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        self.labels.iter().all(has)
    }

    /// Reads a selector: `role=worker,rack` and so on.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_labels(text: &str) -> Result<Vec<(String, Option<String>)>, String> {
        let label = |part: &str| {
            let (key, value) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
            if key.is_empty() {
                return Err(format!("{text:?} is no selector; write one such as role=worker,rack=7"));
            }
            Ok((key.to_owned(), value.map(str::to_owned)))
        };
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(label).collect()
    }
}
