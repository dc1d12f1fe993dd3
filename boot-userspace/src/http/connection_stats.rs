//! What is counted of connections.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// What became of connections.
#[derive(Debug, Default)]
pub struct ConnectionStats {
    pub(super) open: AtomicU64,
    pub(super) crowded_out: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) bytes: AtomicU64,
    stops: watch::Sender<bool>,
}

impl ConnectionStats {
    /// How many are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// How many idle ones were closed to make room.
    #[must_use]
    pub fn crowded_out(&self) -> u64 {
        self.crowded_out.load(Ordering::Relaxed)
    }

    /// How many bytes were sent, encrypted ones as they are on the wire.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// From now on connections end because the daemon does. Waits until those who follow something were told.
    pub async fn stop(&self) {
        self.stops.send_replace(true);
        self.stops.closed().await;
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.stops.borrow()
    }

    pub(super) fn end(&self) -> End {
        End(self.stops.subscribe())
    }

    /// How many new ones were closed because their source had too many.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Hears that the daemon stops, which waits a moment for all who have one.
#[derive(Clone, Debug)]
pub(super) struct End(watch::Receiver<bool>);

impl End {
    /// Waits until the daemon stops.
    pub(super) async fn comes(&mut self) {
        if self.0.wait_for(|stops| *stops).await.is_err() {
            // Nobody is left who could say so.
            pending::<()>().await;
        }
    }
}
