//! Whose turn it is: so many fetches run at once, the others wait, and nobody waits for ever.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::error::ImageError;
use boot_engine::config::ImageName;

/// So many fetches run at once, and so many comparisons.
const FETCHES: usize = 8;

/// Who may fetch: those that a machine waits for, and comparisons, which wait for dead upstreams most, so that these keep none
/// of the others waiting.
#[derive(Debug)]
pub(super) struct Turns {
    waited_for: Line,
    comparisons: Line,
}

impl Default for Turns {
    fn default() -> Self {
        Self { waited_for: Line::new(), comparisons: Line::new() }
    }
}

#[derive(Debug)]
struct Line {
    places: Semaphore,
    running: Mutex<Vec<ImageName>>,
}

/// A fetch may run until this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'l> {
    line: &'l Line,
    name: ImageName,
    _place: Option<SemaphorePermit<'l>>,
}

impl Turns {
    /// Waits at most `patience`, and tells those that are before it when a sixth of that is over.
    pub(super) async fn wait(
        &self,
        name: &ImageName,
        is_comparison: bool,
        patience: Duration,
        tell: impl FnOnce(String),
    ) -> Result<Turn<'_>, ImageError> {
        let line = if is_comparison { &self.comparisons } else { &self.waited_for };
        let soon = patience / 6;
        let place = match timeout(soon, line.places.acquire()).await {
            Ok(place) => place,
            Err(_) => {
                tell(line.said());
                let later = timeout(patience - soon, line.places.acquire()).await;
                later.map_err(|_| ImageError::Busy { seconds: patience.as_secs(), running: line.said() })?
            }
        };
        line.running.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        // It is never closed.
        Ok(Turn { line, name: name.clone(), _place: place.ok() })
    }
}

impl Line {
    fn new() -> Self {
        Self { places: Semaphore::new(FETCHES), running: Mutex::default() }
    }

    /// Those that run, for people.
    fn said(&self) -> String {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().map(ImageName::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut running = self.line.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = running.iter().position(|name| *name == self.name) {
            running.remove(at);
        }
    }
}
