//! The body of an answer that has a file's bytes in it.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use super::delivery::Delivery;
use super::outbox::Outbox;

/// What is shorter is copied: that costs less than a system call of its own.
const WORTH_A_CALL: u64 = 16 * 1024;

/// A piece of a body.
#[derive(Debug)]
pub(super) enum Segment {
    /// As it is.
    Text(Bytes),
    /// Bytes of the file.
    File(Range<u64>),
}

impl Segment {
    /// In bytes.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::File(range) => range.end - range.start,
        }
    }

    /// How many bytes of the file it has.
    pub(super) fn of_file(&self) -> u64 {
        if matches!(self, Self::File(_)) { self.length() } else { 0 }
    }
}

/// A body of these segments. With an outbox the file's bytes are what is put there, and stand-ins in the body; else they
/// are read, as a connection needs it that encrypts.
pub(super) fn body(delivery: Delivery, segments: Vec<Segment>, outbox: Option<Outbox>) -> Body {
    let mut segments: VecDeque<Segment> = segments.into();
    segments.retain(|segment| segment.length() > 0);
    Body::new(FileBody { delivery: Arc::new(delivery), segments, outbox, from_disk: None })
}

struct FileBody {
    delivery: Arc<Delivery>,
    /// What is still to come; none is empty.
    segments: VecDeque<Segment>,
    outbox: Option<Outbox>,
    /// A read that has to wait for the disk.
    from_disk: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let bytes = match self.segments.front() {
            None => return Poll::Ready(None),
            Some(Segment::Text(text)) => text.clone(),
            Some(Segment::File(range)) => {
                let range = range.clone();
                match self.stand_in(&range) {
                    Some(bytes) => bytes,
                    None => ready!(self.read(&range, context))?,
                }
            }
        };
        self.advance(bytes.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.segments.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.segments.iter().map(Segment::length).sum())
    }
}

impl FileBody {
    fn stand_in(&self, range: &Range<u64>) -> Option<Bytes> {
        let length = range.end - range.start;
        let outbox = self.outbox.as_ref().filter(|_| length >= WORTH_A_CALL)?;
        outbox.put(&self.delivery, range.start, length)
    }

    fn read(&mut self, range: &Range<u64>, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let (at, length) = (range.start, usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
        if self.from_disk.is_none() {
            if let Some(bytes) = self.delivery.read(at, length)? {
                return Poll::Ready(Ok(bytes.into()));
            }
            let delivery = Arc::clone(&self.delivery);
            self.from_disk = Some(tokio::task::spawn_blocking(move || delivery.read_from_disk(at, length)));
        }
        let Some(reading) = &mut self.from_disk else { return Poll::Pending };
        let read = ready!(Pin::new(reading).poll(context)).map_err(io::Error::other);
        self.from_disk = None;
        Poll::Ready(read.and_then(|read| read).map(Bytes::from))
    }

    fn advance(&mut self, by: u64) {
        match self.segments.front_mut() {
            Some(Segment::File(range)) if range.end - range.start > by => range.start += by,
            _ => drop(self.segments.pop_front()),
        }
    }
}
