//! How many events each station causes that answers as another DHCP server: one that invents servers must not keep the
//! line of a true one out of the log.

use std::collections::HashMap;

use boot_common::Mac;

use crate::command::Now;

/// How many events a station causes within an hour.
pub(crate) const MOST_OF_ONE: u32 = 10;
const HOUR: u64 = 3600;
/// How many stations are told apart. Switches know how many there are at a port, and can bound them.
const MOST_STATIONS: usize = 4096;

/// The stations of the last hour. Those whose MAC is unknown count as one.
#[derive(Debug, Default)]
pub(crate) struct Rogues(HashMap<Option<Mac>, Station>);

#[derive(Debug)]
struct Station {
    since: u64,
    events: u32,
}

/// Whether a station may cause one more event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    Yes,
    /// The event that says so.
    Last,
    No,
}

impl Rogues {
    /// Counts an event of a station.
    pub(crate) fn admit(&mut self, station: Option<Mac>, now: Now) -> Admitted {
        let is_old = |station: &Station| now.seconds() >= station.since + HOUR;
        if self.0.len() >= MOST_STATIONS && !self.0.contains_key(&station) {
            self.0.retain(|_, station| !is_old(station));
            if self.0.len() >= MOST_STATIONS {
                // The log's own limit is left.
                return Admitted::Yes;
            }
        }
        let new = || Station { since: now.seconds(), events: 0 };
        let station = self.0.entry(station).or_insert_with(new);
        if is_old(station) {
            *station = new();
        }
        station.events = station.events.saturating_add(1);
        match station.events {
            ..=MOST_OF_ONE => Admitted::Yes,
            events if events == MOST_OF_ONE + 1 => Admitted::Last,
            _ => Admitted::No,
        }
    }
}
