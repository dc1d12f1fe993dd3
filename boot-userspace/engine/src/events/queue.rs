//! The engine's events, until somebody takes them.

use super::BootEvent;

/// How many events wait at most: many more than one round of packets, or one batch of the kernel half's, makes.
pub const MOST_QUEUED: usize = 16_384;

/// Events in the order in which they happened.
#[derive(Debug, Default)]
pub struct Queue {
    events: Vec<BootEvent>,
    lost: u64,
}

impl Queue {
    /// Adds one, or counts it as lost where there is no room.
    pub fn push(&mut self, event: BootEvent) {
        if self.events.len() < MOST_QUEUED {
            self.events.push(event);
        } else {
            self.lost += 1;
        }
    }

    /// Exchanges the events for an empty list, whose memory is used for the next ones. Gives how many were lost since the
    /// last time.
    pub fn take(&mut self, into: &mut Vec<BootEvent>) -> u64 {
        into.clear();
        std::mem::swap(&mut self.events, into);
        std::mem::take(&mut self.lost)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::events::Step;

    /// At half a million answers a second each one is written here once and read once.
    #[test]
    fn an_event_is_small() {
        assert!(size_of::<BootEvent>() <= 192, "{} bytes", size_of::<BootEvent>());
    }

    #[test]
    fn what_has_no_room_is_counted_and_what_has_keeps_its_order() {
        let mut queue = Queue::default();
        for second in 0..MOST_QUEUED as u64 + 3 {
            queue.push(BootEvent::new(Duration::from_secs(second), Step::RouterAdvertised));
        }
        let mut taken = Vec::new();
        assert_eq!(queue.take(&mut taken), 3);
        let times = taken.iter().map(|event| event.at.as_secs());
        assert!(times.eq(0..MOST_QUEUED as u64));
        assert_eq!((queue.take(&mut taken), taken.len()), (0, 0));
    }
}
