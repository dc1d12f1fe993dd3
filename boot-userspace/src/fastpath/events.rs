//! What the kernel half reports.

use std::io;

use aya::maps::{MapData, RingBuf};
use boot_common::tables::Event;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use zerocopy::FromBytes as _;

/// The ring buffer's reader.
pub struct Events {
    ring: RingBuf<MapData>,
}

impl Events {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
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
