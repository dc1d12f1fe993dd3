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
}
