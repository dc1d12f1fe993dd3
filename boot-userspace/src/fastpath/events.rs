//! What the kernel half reports.

use std::io;
use std::path::Path;
use std::time::Duration;

use aya::maps::{Map, MapData, RingBuf};
use boot_common::tables::{ABI_VERSION, Event, name};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use zerocopy::FromBytes as _;

use super::load;

/// How long records gather before they are read. The ring holds some 100,000 of them: what is answered beyond goes
/// unlogged, and a reserved machine's lease unstored until it renews.
const GATHER: Duration = Duration::from_millis(10);
/// How many records are handled at once.
const BATCH: usize = 1024;

/// The ring buffer's reader.
pub struct Events {
    ring: RingBuf<MapData>,
}

impl Events {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// The ring that an earlier daemon's kernel half left in `pin_dir`. Its records stay when the pins go.
    #[must_use]
    pub fn inherit(pin_dir: &Path) -> Option<Self> {
        if !matches!(load::look_only(pin_dir), Some(ABI_VERSION)) {
            return None;
        }
        let ring = MapData::from_pin(pin_dir.join(name::EVENTS)).ok()?;
        RingBuf::try_from(Map::RingBuf(ring)).ok().map(Self::new)
    }

    /// The next record that is already there.
    pub fn next_now(&mut self) -> Option<Event> {
        read(&mut self.ring)
    }

    /// Makes the ring awaitable.
    ///
    /// # Errors
    /// Outside of a tokio runtime.
    pub fn into_async(self) -> io::Result<AsyncEvents> {
        #[expect(unsafe_code, reason = "AsyncFd wants to know that the descriptor stays the same")]
        // SAFETY: the ring owns its descriptor for as long as it lives.
        let ring = unsafe { AsyncFd::register_with_interest(self.ring, Interest::READABLE) }?;
        Ok(AsyncEvents { ring })
    }
}

/// The ring buffer's reader within tokio.
pub struct AsyncEvents {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl AsyncEvents {
    /// The next record that is already there.
    pub fn next_now(&mut self) -> Option<Event> {
        read(self.ring.get_mut())
    }

    /// Waits for the next record.
    ///
    /// # Errors
    /// When the runtime shuts down.
    pub async fn next(&mut self) -> io::Result<Event> {
        loop {
            let mut guard = self.ring.readable_mut().await?;
            if let Some(event) = read(guard.get_inner_mut()) {
                return Ok(event);
            }
            guard.clear_ready();
        }
    }

    /// Passes the records on, in batches, until nobody takes them.
    pub async fn gather(mut self, to: mpsc::Sender<Vec<Event>>) {
        while let Ok(first) = self.next().await {
            let mut batch = vec![first];
            while let Some(next) = self.next_now() {
                if batch.len() == BATCH
                    && to.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).await.is_err()
                {
                    return;
                }
                batch.push(next);
            }
            if to.send(batch).await.is_err() {
                return;
            }
            // The kernel wakes a reader that has caught up for every single record, which costs more than
            // the answer itself: while we sleep, records only gather.
            tokio::time::sleep(GATHER).await;
        }
    }
}

/// The next record; what is no event is passed over.
fn read(ring: &mut RingBuf<MapData>) -> Option<Event> {
    loop {
        let item = ring.next()?;
        if let Ok(event) = Event::read_from_bytes(&item) {
            return Some(event);
        }
    }
}
