//! What the engine reports: events until somebody reads them, complaints once an hour, and how packets ended.

use boot_common::{Mac, Reason};

use super::complaint::{Complaint, Complaints};
use super::{BootEvent, Queue};
use crate::command::Now;
use crate::dhcp::rogues::{Admitted, Rogues};

/// Everything that somebody may want to hear of. All of it is bounded, whatever is reported.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    events: Queue,
    complaints: Complaints,
    /// Stations that answer as other servers.
    rogues: Rogues,
    /// How packets that reached the daemon ended, by the reason's index.
    ended: Vec<u64>,
}

impl Reports {
    /// Adds an event.
    pub(crate) fn push(&mut self, event: BootEvent) {
        self.events.push(event);
    }

    /// Whether a complaint is due: true the first time within an hour.
    pub(crate) fn is_first(&mut self, what: Complaint, now: Now) -> bool {
        self.complaints.is_first(what, now)
    }

    /// Whether a station may be reported once more as another server.
    pub(crate) fn admit(&mut self, station: Option<Mac>, now: Now) -> Admitted {
        self.rogues.admit(station, now)
    }

    /// Counts a packet by its end.
    pub(crate) fn count(&mut self, reason: Reason) {
        let index = reason.index() as usize;
        if index >= self.ended.len() {
            self.ended.resize(Reason::ALL.len(), 0);
        }
        if let Some(ended) = self.ended.get_mut(index) {
            *ended += 1;
        }
    }

    /// How many packets ended so.
    pub(crate) fn counted(&self, reason: Reason) -> u64 {
        self.ended.get(reason.index() as usize).copied().unwrap_or(0)
    }

    /// See [`Queue::take`].
    pub(crate) fn take(&mut self, into: &mut Vec<BootEvent>) -> u64 {
        self.events.take(into)
    }
}
