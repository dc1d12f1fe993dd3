//! Whether a client has got all of a secret document: its system has acknowledged the last byte.
//!
//! Such an answer ends its connection, so what is sent before that end is the whole of it. A connection that ends otherwise,
//! or whose last byte is never acknowledged, has not given it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::files::DocumentTokens;
use crate::host::socket::{Unacknowledged, unacknowledged};
use boot_engine::boot::token::Attempt;

/// For so long the last byte may be on its way: a cable that was pulled out for a moment is longer than a second.
const WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked at first, and at the end.
const LOOKS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];

/// So many connections are looked at. What is sent on further ones counts as given.
static FOLLOWED: Semaphore = Semaphore::const_new(256);

/// The answer that a connection owes a receipt for; handlers find it among a request's extensions.
#[derive(Clone, Default)]
pub(super) struct Receipts(Arc<Mutex<Option<Receipt>>>);

/// What becomes of one attempt. Dropped before its end it was none.
pub(super) struct Receipt {
    tokens: Arc<DocumentTokens>,
    attempt: Option<Attempt>,
}

impl Receipt {
    pub(super) fn new(tokens: Arc<DocumentTokens>, attempt: Attempt) -> Self {
        Self { tokens, attempt: Some(attempt) }
    }

    fn given(mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.tokens.end(attempt, true);
        }
    }

    async fn follow(self, connection: OwnedFd, farewell: usize) {
        let Ok(_one_of_few) = FOLLOWED.try_acquire() else { return self.given() };
        let (began, [mut pause, longest]) = (Instant::now(), LOOKS);
        while began.elapsed() < WITHIN {
            match unacknowledged(&connection) {
                // The end itself counts as a byte.
                Ok(Unacknowledged { bytes, .. }) if bytes <= farewell + 1 => return self.given(),
                Ok(Unacknowledged { is_reset: false, .. }) => {}
                _ => return,
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.tokens.end(attempt, false);
        }
    }
}

impl Receipts {
    /// The answer that comes next is this attempt, and the last one on its connection.
    pub(super) fn expect(&self, receipt: Receipt) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(receipt);
    }

    /// Everything was handed to the system that is to be sent on this connection, at last so many bytes after the answer.
    pub(super) fn sent(&self, connection: &impl AsFd, farewell: usize) {
        let receipt = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(receipt) = receipt else { return };
        if let Ok(connection) = connection.as_fd().try_clone_to_owned() {
            tokio::spawn(receipt.follow(connection, farewell));
        }
    }
}
