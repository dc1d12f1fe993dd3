//! Why the daemon ends a connection: a log line must not say that a client left whom the daemon sent away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use boot_engine::events::WhyEnded;

use super::connection_stats::ConnectionStats;

/// Whether the daemon has ended a connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    why: OnceLock<WhyEnded>,
    /// Bytes have come in since the last request.
    has_begun_request: AtomicBool,
    stats: Arc<ConnectionStats>,
}

impl Ending {
    pub(super) fn new(stats: Arc<ConnectionStats>) -> Self {
        Self(Arc::new(Inner { stats, ..Inner::default() }))
    }

    /// The daemon ends the connection.
    pub(super) fn by_daemon(&self, why: WhyEnded) {
        self.0.why.get_or_init(|| why);
    }

    /// Why the daemon has ended the connection; none if the client has.
    pub(super) fn why(&self) -> Option<WhyEnded> {
        let stopped = || self.0.stats.is_stopping().then_some(WhyEnded::Stopped);
        self.0.why.get().copied().or_else(stopped)
    }

    /// Bytes have come in.
    pub(super) fn received(&self) {
        self.0.has_begun_request.store(true, Ordering::Relaxed);
    }

    /// They are a whole request's headers.
    pub(super) fn is_requested(&self) {
        self.0.has_begun_request.store(false, Ordering::Relaxed);
    }

    /// Whether the headers of a request have come in part.
    pub(super) fn has_begun_request(&self) -> bool {
        self.0.has_begun_request.load(Ordering::Relaxed)
    }
}
