//! Who has asked for its script or its data, and when.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::host::clock;

/// What a machine has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Endpoint {
    Bootscript,
    UserData,
}

impl Endpoint {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bootscript => "bootscript",
            Self::UserData => "user-data",
        }
    }
}

/// When each machine with a name has asked for what, in Unix seconds. Forgotten when xpxe ends.
#[derive(Debug, Default)]
pub struct History(Mutex<BTreeMap<(String, Endpoint), u64>>);

impl History {
    pub(super) fn note(&self, name: &str, endpoint: Endpoint) {
        let now = clock::wall().as_secs();
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.insert((name.to_owned(), endpoint), now);
    }

    pub(super) fn all(&self) -> BTreeMap<(String, Endpoint), u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
