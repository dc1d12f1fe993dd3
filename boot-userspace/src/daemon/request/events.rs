//! Where events go, from every part of the daemon, and where readers get them.

use std::sync::{Arc, OnceLock};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};

use super::boots::Boots;
use super::webhooks::Webhooks;
use boot_engine::diagnosis::Note;
use boot_engine::events::{BootEvent, Counts, Kind, Sink};

/// How many events wait for the slowest reader; it misses those before.
const WAITING: usize = 16_384;

/// The one stream of events. Clones share it.
///
/// Each event is counted, then written into the log by whoever emits it, within the log's limits. Whoever reads the stream
/// beside the log gets all of them, as long as it keeps up: nobody waits for it.
#[derive(Clone)]
pub struct EventStream(Arc<Inner>);

struct Inner {
    log: fn(&BootEvent),
    counts: Arc<Counts>,
    /// The boots that events are noted in, where somebody keeps them.
    boots: OnceLock<Boots>,
    /// Where webhooks are, if there are any.
    webhooks: OnceLock<Webhooks>,
    /// Made with the first reader: until then an event is copied for nobody.
    readers: OnceLock<Sender<Arc<BootEvent>>>,
}

impl EventStream {
    /// A stream whose events are written by `log`.
    #[must_use]
    pub fn new(log: fn(&BootEvent)) -> Self {
        Self(Arc::new(Inner {
            log,
            counts: Arc::default(),
            boots: OnceLock::new(),
            webhooks: OnceLock::new(),
            readers: OnceLock::new(),
        }))
    }

    /// Notes what happens from now on in these boots.
    pub fn note_in(&self, boots: Boots) {
        // A stream has one owner, who does that once.
        drop(self.0.boots.set(boots));
    }

    /// Tells webhooks from now on.
    pub fn tell(&self, webhooks: Webhooks) {
        // A stream has one owner, who does that once.
        drop(self.0.webhooks.set(webhooks));
    }

    /// How many events there were.
    #[must_use]
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.0.counts)
    }

    /// Reads what happens from now on.
    #[must_use]
    pub fn read(&self) -> Reader {
        let sender = self.0.readers.get_or_init(|| broadcast::channel(WAITING).0);
        Reader { events: sender.subscribe(), counts: self.counts() }
    }

    /// Whether anybody reads beside the log.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.sender().is_some()
    }

    /// Whether a webhook wants events of this kind.
    #[must_use]
    pub fn is_wanted(&self, kind: Kind) -> bool {
        self.0.webhooks.get().is_some_and(|webhooks| webhooks.wants(kind))
    }

    /// Takes an event that has a line in the log only if there is room for it.
    pub fn pass(&self, event: BootEvent, is_logged: bool) {
        self.0.counts.add(event.step.kind());
        if is_logged {
            (self.0.log)(&event);
        }
        if let Some(boots) = self.0.boots.get()
            && let Some(note) = Note::of(&event)
        {
            boots.push(note);
        }
        if let Some(webhooks) = self.0.webhooks.get() {
            webhooks.offer(&event);
        }
        if let Some(sender) = self.sender() {
            // The last reader may have just left.
            drop(sender.send(Arc::new(event)));
        }
    }

    fn sender(&self) -> Option<&Sender<Arc<BootEvent>>> {
        self.0.readers.get().filter(|sender| sender.receiver_count() > 0)
    }
}

impl Sink for EventStream {
    fn emit(&self, event: BootEvent) {
        self.pass(event, true);
    }
}

/// Reads the stream.
pub struct Reader {
    events: Receiver<Arc<BootEvent>>,
    counts: Arc<Counts>,
}

impl Reader {
    /// The next event; none when the daemon ends. Those that this reader came too late for are counted and passed over.
    pub async fn next(&mut self) -> Option<Arc<BootEvent>> {
        loop {
            match self.events.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(events)) => self.counts.miss(events),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests;
