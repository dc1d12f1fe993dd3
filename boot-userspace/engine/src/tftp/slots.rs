//! The flights that transfers occupy, in memory that the kernel half may share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use boot_common::tftp::Flight;

/// How long a slot rests after a transfer, so that no program of the kernel half is still at work on it.
const REST: Duration = Duration::from_secs(1);

/// Memory with flights.
pub trait Flights: Send + Sync {
    /// All of them.
    fn all(&self) -> &[Flight];
}

impl Flights for Vec<Flight> {
    fn all(&self) -> &[Flight] {
        self
    }
}

/// Which flights are taken.
#[derive(Clone)]
pub struct Slots {
    flights: Arc<dyn Flights>,
    free: Arc<Mutex<VecDeque<Free>>>,
}

/// A free slot, and since when, if it was ever taken.
type Free = (u32, Option<Duration>);

impl Slots {
    /// All free, except those that transfers of an earlier daemon occupy.
    #[must_use]
    pub fn new(flights: Arc<dyn Flights>, taken: impl Fn(u32) -> bool) -> Self {
        let count = u32::try_from(flights.all().len()).unwrap_or(u32::MAX);
        let free = (0..count).filter(|slot| !taken(*slot)).map(|slot| (slot, None)).collect();
        Self { flights, free: Arc::new(Mutex::new(free)) }
    }

    /// Slots of this process alone.
    #[must_use]
    pub fn own(count: usize) -> Self {
        Self::new(Arc::new(std::iter::repeat_with(Flight::default).take(count).collect::<Vec<_>>()), |_| {
            false
        })
    }

    /// What is in a slot.
    #[must_use]
    pub fn flight(&self, slot: u32) -> Option<&Flight> {
        self.flights.all().get(slot as usize)
    }

    /// Takes a free one, for a transfer that goes on with another flight than it began with.
    #[must_use]
    pub fn take_for_adoption(&self) -> Option<u32> {
        self.take(Duration::MAX)
    }

    pub(super) fn take(&self, now: Duration) -> Option<u32> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, since) = free.front()?;
        if since.is_some_and(|since| now < since + REST) {
            return None;
        }
        free.pop_front().map(|(slot, _)| slot)
    }

    /// Makes a slot free.
    pub fn give_back(&self, slot: u32, now: Duration) {
        if let Some(flight) = self.flight(slot) {
            flight.end();
        }
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push_back((slot, Some(now)));
    }
}
