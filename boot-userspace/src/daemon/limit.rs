//! A limit for log lines: what a broken or hostile client provokes must not fill the disk, nor take the daemon's time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, info, warn};
use tracing_subscriber::layer::{Context, Layer};

use super::shares::Shares;

/// The name of those log lines of which every boot has some. All other kinds are limited to a few within a second.
pub(super) const STEP: &str = "step";

/// How many lines of a kind may be written at once, and how many more in each second after that: those from one place in
/// the code are of a kind. So each machine of a row is named, and who goes on and on writes little.
const MOST: Budget = Budget { at_once: 500, a_second: 10 };
/// The same for a [`STEP`] of a boot: thousands of machines are powered on at once, but not without end.
const MOST_STEPS: Budget = Budget { at_once: 60_000, a_second: 100 };
/// How many lines of a kind one machine has in a minute: GRUB asks for a hundred modules.
const MOST_OF_ONE: u32 = 300;
const MINUTE: u32 = 60;
/// How many machines with more than that are named in each minute.
const MOST_NAMED: usize = 20;
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
pub struct Limit(Arc<Mutex<Option<Counted>>>);

#[derive(Debug)]
struct Counted {
    kinds: HashMap<Identifier, Kind>,
    /// Lines of a kind by the machine that they name.
    shares: Shares<(Identifier, String)>,
    seconds: u32,
}

impl Default for Counted {
    fn default() -> Self {
        Self { kinds: HashMap::new(), shares: Shares::new(MOST_OF_ONE), seconds: 0 }
    }
}

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
    /// What one says that was not written because its machine had too many.
    repeated: String,
}

impl Limit {
    /// Starts to count. Whoever calls it calls [`next_second`](Self::next_second) from then on.
    pub fn begin(&self) {
        self.counted().get_or_insert_default();
    }

    /// Begins a new second, and says how many lines the last one had beyond those that were written.
    pub fn next_second(&self) {
        let mut summaries = Vec::new();
        let mut over = Vec::new();
        if let Some(counted) = self.counted().as_mut() {
            for kind in counted.kinds.values_mut() {
                let Budget { at_once, a_second } = kind.budget;
                kind.left = at_once.min(kind.left + a_second);
                let (more, example) = (std::mem::take(&mut kind.more), std::mem::take(&mut kind.example));
                if more > 0 {
                    summaries.push((kind.level, more, example));
                }
            }
            counted.seconds += 1;
            if counted.seconds >= MINUTE {
                counted.seconds = 0;
                for ((kind, machine), more) in counted.shares.next_minute() {
                    let said = counted.kinds.get(&kind).map(|kind| kind.repeated.clone()).unwrap_or_default();
                    over.push((machine, more, said));
                }
            }
        }
        let unnamed = over.len().saturating_sub(MOST_NAMED);
        for (machine, more, said) in over.into_iter().take(MOST_NAMED) {
            warn!(name: SUMMARY, step = "flood", machine, more, "and {more} more lines of {machine} within this minute, of the kind: {said}");
        }
        if unnamed > 0 {
            warn!(name: SUMMARY, step = "flood", unnamed, "and {unnamed} more machines with as many lines");
        }
        for (level, more, example) in summaries {
            if level == Level::INFO {
                info!(name: SUMMARY, step = "summary", more, "and {more} more lines within this second like: {example}");
            } else {
                warn!(name: SUMMARY, step = "summary", more, "and {more} more lines within this second like: {example}");
            }
        }
    }

    fn counted(&self) -> MutexGuard<'_, Option<Counted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.name() == SUMMARY {
            return true;
        }
        let mut counted = self.counted();
        let Some(counted) = counted.as_mut() else { return true };
        let callsite = metadata.callsite();
        let kind = counted.kinds.entry(callsite.clone()).or_insert_with(|| {
            let budget = if metadata.name() == STEP { MOST_STEPS } else { MOST };
            let (more, example, repeated) = (0, String::new(), String::new());
            Kind { level: *metadata.level(), budget, left: budget.at_once, more, example, repeated }
        });
        if kind.left == 0 {
            if kind.more == 0 {
                event.record(&mut Message(&mut kind.example));
            }
            kind.more += 1;
            return false;
        }
        let mut machine = Machine::default();
        event.record(&mut machine);
        if let Some(machine) = machine.client.or(machine.mac)
            && !counted.shares.admit((callsite, machine))
        {
            if kind.repeated.is_empty() {
                event.record(&mut Message(&mut kind.repeated));
            }
            return false;
        }
        kind.left -= 1;
        true
    }
}

/// Takes the machine out of a line: its address, and its MAC.
#[derive(Default)]
struct Machine {
    client: Option<String>,
    mac: Option<String>,
}

impl Visit for Machine {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "client" => self.client = Some(format!("{value:?}")),
            "mac" => self.mac = Some(format!("{value:?}")),
            _ => {}
        }
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

    #[test]
    fn one_machine_has_its_lines_in_a_minute_and_others_theirs() {
        let (lines, limit) = (Lines::default(), Limit::default());
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log.with(limit.clone()), || {
            limit.begin();
            let sent = |client: &str| info!(name: STEP, client = %client, "sent boot.ipxe");
            for _ in 0..60 {
                (0..1000).for_each(|_| sent("10.1.0.7"));
                sent("10.1.0.8");
                limit.next_second();
            }
            let written = lines.take();
            let of = |machine: &str| written.iter().filter(|line| line.contains(machine)).count();
            assert_eq!((of("client=10.1.0.7"), of("client=10.1.0.8")), (300, 60));
            let flood: Vec<_> = written.iter().filter(|line| line.contains("flood")).collect();
            assert_eq!(flood.len(), 1, "{flood:?}");
            let says = "and 59700 more lines of 10.1.0.7 within this minute, of the kind: sent boot.ipxe";
            assert!(flood[0].contains(says), "{}", flood[0]);
            sent("10.1.0.7");
            assert_eq!(lines.take().len(), 1, "a new minute");
        });
    }
}
