//! The way of events to webhooks, and what may be asked of who delivers them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use boot_engine::events::{BootEvent, Kind};

/// How many events wait for the thread of the webhooks at most; those beyond are counted as missed.
const WAITING: usize = 4096;
/// How many questions wait.
const ASKS: usize = 16;
/// How long an answer may take: a disk may hang.
const PATIENCE: Duration = Duration::from_secs(5);

/// A webhook, and what became of its deliveries since the start of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookView {
    /// Its name.
    pub name: String,
    /// Scheme, host and port of its URL.
    pub place: String,
    /// How many deliveries wait, those that are being tried among them.
    pub waiting: u64,
    /// How many dead letters there are.
    pub dead: u64,
    /// How many were delivered.
    pub delivered: u64,
    /// How many tries failed.
    pub failed_tries: u64,
    /// How many became dead letters.
    pub died: u64,
    /// How many there was no room for, neither among those that wait nor among the dead letters.
    pub lost: u64,
    /// Why the last try failed, if no other one was successful since.
    pub trouble: Option<String>,
}

/// A delivery that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number.
    pub id: u64,
    /// The webhook.
    pub webhook: String,
    /// The kind of its event.
    pub kind: String,
    /// The machine's name, or else its MAC, where it is known which.
    pub machine: Option<String>,
    /// When the event happened, in Unix seconds.
    pub at: u64,
    /// When it was given up, in Unix seconds.
    pub died: u64,
    /// How often it was tried.
    pub tries: u32,
    /// Why the last try failed.
    pub why: String,
}

/// Which dead letters are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhichLetters {
    /// All of them.
    All,
    /// All of a webhook.
    Of(String),
    /// One, by its number.
    One(u64),
}

/// Why something is not done with dead letters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhooksError {
    /// There is none.
    #[error("there is no such dead letter; xpxe webhooks list shows all")]
    Unknown,
    /// There is no such webhook.
    #[error("there is no webhook {0}; xpxe webhooks list shows all")]
    NoWebhook(String),
    /// The daemon ends, or its disk hangs.
    #[error("webhooks do not answer: xpxe is stopping, or the disk of state_dir hangs; ask again later")]
    Silent,
}

/// What is asked.
#[derive(Debug)]
pub enum WebhooksAsk {
    /// All webhooks.
    List(oneshot::Sender<Vec<HookView>>),
    /// All dead letters, the oldest first.
    Dead(oneshot::Sender<Vec<DeadLetter>>),
    /// Have dead letters delivered after all. Gets how many.
    Retry(WhichLetters, oneshot::Sender<Result<usize, WebhooksError>>),
    /// Forget dead letters. Gets how many.
    Drop(WhichLetters, oneshot::Sender<Result<usize, WebhooksError>>),
}

/// The way to who delivers. Clones lead to the same.
#[derive(Clone)]
pub struct Webhooks(Arc<Inner>);

struct Inner {
    /// A bit for each kind that a webhook wants.
    wanted: AtomicU64,
    events: mpsc::Sender<BootEvent>,
    missed: AtomicU64,
    asks: mpsc::Sender<WebhooksAsk>,
}

/// The ends of the way.
pub struct WebhooksEnds {
    /// What has happened.
    pub events: mpsc::Receiver<BootEvent>,
    /// What is asked.
    pub asks: mpsc::Receiver<WebhooksAsk>,
}

impl Webhooks {
    /// A way, and its ends. No kind is wanted yet.
    #[must_use]
    pub fn new() -> (Self, WebhooksEnds) {
        let ((events, for_events), (asks, for_asks)) = (mpsc::channel(WAITING), mpsc::channel(ASKS));
        let inner = Inner { wanted: AtomicU64::new(0), events, missed: AtomicU64::new(0), asks };
        (Self(Arc::new(inner)), WebhooksEnds { events: for_events, asks: for_asks })
    }

    /// A way to nobody.
    #[must_use]
    pub fn none() -> Self {
        Self::new().0
    }

    /// Takes events of these kinds from now on, and no others.
    pub fn want(&self, kinds: impl Iterator<Item = Kind>) {
        self.0.wanted.store(kinds.fold(0, |all, kind| all | bit(kind)), Relaxed);
    }

    /// Whether a webhook wants events of this kind.
    #[must_use]
    pub fn wants(&self, kind: Kind) -> bool {
        self.0.wanted.load(Relaxed) & bit(kind) != 0
    }

    /// Takes an event, if a webhook wants its kind and there is room. Never waits.
    pub(super) fn offer(&self, event: &BootEvent) {
        if self.wants(event.step.kind()) && self.0.events.try_send(event.clone()).is_err() {
            self.0.missed.fetch_add(1, Relaxed);
        }
    }

    /// How many events there was no room for.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.0.missed.load(Relaxed)
    }

    /// Asks, and waits for the answer, but not for ever.
    ///
    /// # Errors
    /// There is none.
    pub async fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<T>) -> WebhooksAsk,
    ) -> Result<T, WebhooksError> {
        let (reply, answer) = oneshot::channel();
        let asked = timeout(PATIENCE, async {
            self.0.asks.send(ask(reply)).await.ok()?;
            answer.await.ok()
        });
        asked.await.ok().flatten().ok_or(WebhooksError::Silent)
    }
}

/// Fewer than 64 kinds: the compiler would say so.
const _: () = assert!(Kind::ALL.len() <= 64);

fn bit(kind: Kind) -> u64 {
    1 << (kind as u8)
}
