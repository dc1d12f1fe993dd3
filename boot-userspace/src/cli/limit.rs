//! A limit for log lines: what a broken or hostile client provokes must not fill the disk, nor take the daemon's time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, info, warn};
use tracing_subscriber::layer::{Context, Layer};

use crate::engine::STEP;

/// How many lines of a kind may be written at once, and how many more in each second after that: those from one place in
/// the code are of a kind. So each machine of a row is named, and who goes on and on writes little.
const MOST: Budget = Budget { at_once: 500, a_second: 10 };
/// The same for a [`STEP`] of a boot: hundreds of machines are powered on at once.
const MOST_STEPS: Budget = Budget { at_once: 10_000, a_second: 10_000 };
/// The name of the lines that say how many there were beyond that.
const SUMMARY: &str = "summary";

/// How many lines there may be.
#[derive(Clone, Copy, Debug)]
struct Budget {
    at_once: u32,
    a_second: u32,
}

/// Lets so many lines of a kind pass, from [`begin`](Self::begin) on. What is written for debugging has
/// no limit. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Limit(Arc<Mutex<Option<Kinds>>>);

type Kinds = HashMap<Identifier, Kind>;

/// The lines of one kind.
#[derive(Debug)]
struct Kind {
    level: Level,
    budget: Budget,
    /// What may still be written.
    left: u32,
    /// Those of the current second that were not.
    more: u64,
    /// What the first one says that was not written.
    example: String,
}

impl Limit {
    /// Starts to count. Whoever calls it calls [`next_second`](Self::next_second) from then on.
    pub fn begin(&self) {
        self.kinds().get_or_insert_default();
    }

    /// Begins a new second, and says how many lines the last one had beyond those that were written.
    pub fn next_second(&self) {
        let mut summaries = Vec::new();
        for kind in self.kinds().iter_mut().flat_map(HashMap::values_mut) {
            let Budget { at_once, a_second } = kind.budget;
            kind.left = at_once.min(kind.left + a_second);
            let (more, example) = (std::mem::take(&mut kind.more), std::mem::take(&mut kind.example));
            if more > 0 {
                summaries.push((kind.level, more, example));
            }
        }
        for (level, more, example) in summaries {
            if level == Level::INFO {
                info!(name: SUMMARY, step = "summary", more, "and {more} more lines within this second like: {example}");
            } else {
                warn!(name: SUMMARY, step = "summary", more, "and {more} more lines within this second like: {example}");
            }
        }
    }

    fn kinds(&self) -> MutexGuard<'_, Option<Kinds>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.name() == SUMMARY {
            return true;
        }
        let mut kinds = self.kinds();
        let Some(kinds) = kinds.as_mut() else { return true };
        let kind = kinds.entry(metadata.callsite()).or_insert_with(|| {
            let budget = if metadata.name() == STEP { MOST_STEPS } else { MOST };
            Kind { level: *metadata.level(), budget, left: budget.at_once, more: 0, example: String::new() }
        });
        if kind.left > 0 {
            kind.left -= 1;
            return true;
        }
        if kind.more == 0 {
            event.record(&mut Message(&mut kind.example));
        }
        kind.more += 1;
        false
    }
}

/// Takes the message out of a line.
struct Message<'t>(&'t mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            *self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing::debug;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn take(&self) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
        }
    }

    fn complain(from: u32, count: u32) {
        (from..from + count).for_each(|number| info!("refused number {number}"));
    }

    #[test]
    fn so_many_lines_of_a_kind_are_written_and_then_their_number() {
        let (lines, limit) = (Lines::default(), Limit::default());
        let writer = lines.clone();
        let log = tracing_subscriber::fmt()
            .with_max_level(Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish()
            .with(limit.clone());
        tracing::subscriber::with_default(log, || {
            complain(0, 100);
            limit.next_second();
            assert_eq!(lines.take().len(), 100, "it has not begun yet");

            limit.begin();
            complain(0, 1000);
            warn!("another kind");
            (0..50).for_each(|number| debug!("packet {number}"));
            (0..500).for_each(|number| info!(name: STEP, "offered {number}"));
            let written = lines.take();
            let count = |what: &str| written.iter().filter(|line| line.contains(what)).count();
            let counts = ["refused", "another kind", "packet", "offered"].map(count);
            assert_eq!(counts, [500, 1, 50, 500]);
            assert!(written[0].contains("refused number 0"), "{}", written[0]);

            limit.next_second();
            let summary = lines.take();
            assert_eq!(summary.len(), 1, "{summary:?}");
            let says = "and 500 more lines within this second like: refused number 500";
            assert!(summary[0].contains(says), "{}", summary[0]);
            complain(0, 10);
            limit.next_second();
            assert_eq!(lines.take().len(), 10, "and nothing to sum up");
            complain(0, 100);
            limit.next_second();
            assert_eq!(lines.take().len(), 11, "who goes on");
            (0..60).for_each(|_| limit.next_second());
            complain(0, 100);
            limit.next_second();
            assert_eq!(lines.take().len(), 100, "who was quiet");
        });
    }
}
