//! Where a machine of the registry is in its life, for whoever answers it.

use std::sync::Arc;

use crate::lifecycle::State;

/// What decides what a machine of the registry boots. Machines of the configuration have none: they boot their profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its number in the registry.
    pub record: u64,
    /// Its state.
    pub state: State,
    /// What it waits for, or why it has failed: for its console.
    pub says: Arc<str>,
    /// Its image is on its disk.
    pub is_written: bool,
    /// Since when it is in its state, in Unix seconds.
    pub since: u64,
    /// It is in it for longer than it should be.
    pub is_overdue: bool,
    /// The number of its last installation, which its reports quote; 0: it had none.
    pub run: u64,
    /// Its record is not served: it boots nothing but its own disk, whatever its state is.
    pub is_unserved: bool,
    /// When it was heard for the first time, in Unix seconds; 0: that is not known.
    pub heard: u64,
    /// A person has said or ordered something of it: nobody has made it up.
    pub is_chosen: bool,
}

impl Life {
    /// The same of a machine whose record is not served, and why.
    #[must_use]
    pub fn unserved(self, why: &str) -> Self {
        Self { says: format!("not served: {why}").into(), is_unserved: true, ..self }
    }

    /// Whether it waits because its record is not served. One that runs has its disk, and one that is ignored gets no answer.
    #[must_use]
    pub fn waits_to_be_served(&self) -> bool {
        self.is_unserved && !matches!(self.state, State::Running | State::Ignored)
    }
}
