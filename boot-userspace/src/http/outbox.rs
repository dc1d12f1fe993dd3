//! How a file's bytes leave without passing through this process.
//!
//! The body of an answer has stand-ins in their place (see [`reserved`]), which hyper counts and hands over without
//! looking at them. The connection that gets one knows from its outbox which bytes of which file are meant, and has the
//! kernel send those.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::delivery::Delivery;
use crate::host::reserved::{LONGEST, offset_of, stand_in};

/// After so many bytes another connection has its turn.
const TURN: usize = 128 * 1024;
/// So much is read at once of what only the disk has.
const FROM_DISK: usize = 4 * TURN;
/// So long it is taken for granted that what was in the page cache is still there.
const STILL_THERE: Duration = Duration::from_secs(1);

/// What is to be sent on a connection, in the order in which the stand-ins come.
#[derive(Clone, Default)]
pub(super) struct Outbox(Arc<Mutex<VecDeque<Piece>>>);

struct Piece {
    delivery: Arc<Delivery>,
    at: u64,
    length: usize,
    /// How much of it has left.
    sent: usize,
    /// Dropped once all of it has left.
    kept: Option<Box<dyn Send>>,
}

impl Outbox {
    /// Puts bytes of a file in, as many as one stand-in can be for, and gives that. None where addresses are scarce.
    pub(super) fn put(&self, delivery: &Arc<Delivery>, at: u64, length: u64) -> Option<Bytes> {
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(LONGEST);
        let stand_in = stand_in(length)?;
        self.lock().push_back(Piece { delivery: Arc::clone(delivery), at, length, sent: 0, kept: None });
        Some(Bytes::from_static(stand_in))
    }

    /// Drops `kept` once everything has left that is to be sent by now.
    pub(super) fn keep(&self, kept: impl Send + 'static) {
        if let Some(last) = self.lock().back_mut() {
            last.kept = Some(Box::new((last.kept.take(), kept)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Piece>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which file's bytes from where on the rest of a stand-in is for.
    fn first(&self, offset: usize, length: usize) -> io::Result<(Arc<Delivery>, u64)> {
        let pieces = self.lock();
        let piece =
            pieces.front().filter(|piece| piece.sent == offset && piece.length - piece.sent == length);
        let piece = piece.ok_or_else(|| io::Error::other("a stand-in that nothing was put in for"))?;
        Ok((Arc::clone(&piece.delivery), piece.at + piece.sent as u64))
    }

    /// Some have left of what comes first. True if that was the rest of it.
    fn take(&self, sent: usize) -> bool {
        let mut pieces = self.lock();
        let Some(piece) = pieces.front_mut() else { return true };
        piece.sent += sent;
        let done = piece.sent >= piece.length;
        let done = done.then(|| pieces.pop_front()).flatten();
        // What it keeps may want another lock.
        drop(pieces);
        done.is_some()
    }
}

/// The sending side of a connection.
#[derive(Default)]
pub(super) struct Sender {
    outbox: Outbox,
    /// Bytes of this turn.
    turn: usize,
    /// What of the first piece's file can be sent without waiting for the disk, and since when that is known.
    at_hand: Option<(Range<u64>, Instant)>,
    from_disk: Option<JoinHandle<io::Result<()>>>,
}

impl Sender {
    /// What stand-ins on this connection are for.
    pub(super) fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// As of a [`TcpStream`], but for stand-ins.
    pub(super) fn poll_write(
        &mut self,
        stream: &mut TcpStream,
        slices: &[IoSlice<'_>],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let from = slices.iter().position(|slice| !slice.is_empty()).unwrap_or(slices.len());
        let slices = slices.get(from..).unwrap_or_default();
        let result = match slices.iter().position(|slice| offset_of(slice).is_some()) {
            Some(0) => self.poll_send_file(stream, slices.first().map_or(&[][..], |slice| slice), context),
            Some(next) => poll_send_before(stream, slices.get(..next).unwrap_or_default(), context),
            None => Pin::new(stream).poll_write_vectored(context, slices),
        };
        if result.is_pending() {
            self.turn = 0;
        }
        result
    }

    fn poll_send_file(
        &mut self,
        stream: &TcpStream,
        rest: &[u8],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.turn >= TURN {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let offset = offset_of(rest).unwrap_or_default();
        let (delivery, at) = self.outbox.first(offset, rest.len())?;
        loop {
            ready!(stream.poll_write_ready(context))?;
            let length = ready!(self.poll_at_hand(&delivery, at, rest.len(), context))?;
            let mut part = None;
            let send = || {
                let sent = delivery.send(stream, at, length)?;
                // Less than it was to be, and not for want of the file's bytes: the socket is full. Who is told so here need
                // not be told by a further call.
                part = (sent < length && delivery.is_at_hand(at + sent as u64, 1)).then_some(sent);
                if part.is_some() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(sent) }
            };
            let result = stream.try_io(Interest::WRITABLE, send);
            match part.map_or(result, Ok) {
                Ok(sent) => {
                    self.turn += sent;
                    if self.outbox.take(sent) {
                        self.at_hand = None;
                    }
                    return Poll::Ready(Ok(sent));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if delivery.has_failed() {
                        // Nothing that is still on its way shall look like the file's end.
                        SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok();
                    }
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    /// How many of the bytes can be sent without waiting for the disk: at least one, at most [`TURN`]. Where there is
    /// none, another thread waits for the disk.
    fn poll_at_hand(
        &mut self,
        delivery: &Arc<Delivery>,
        at: u64,
        rest: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let length = rest.min(TURN);
        if let Some((known, since)) = &self.at_hand
            && known.contains(&at)
            && since.elapsed() < STILL_THERE
        {
            return Poll::Ready(Ok(usize::try_from(known.end - at).unwrap_or(length).min(length)));
        }
        let mut at_hand = length;
        if self.from_disk.is_some() || !delivery.is_at_hand(at, length) {
            at_hand = rest.min(FROM_DISK);
            let reading = self.from_disk.get_or_insert_with(|| {
                let delivery = Arc::clone(delivery);
                tokio::task::spawn_blocking(move || delivery.fetch(at, at_hand))
            });
            let read = ready!(Pin::new(reading).poll(context)).map_err(io::Error::other);
            self.from_disk = None;
            read.and_then(|read| read)?;
        }
        self.at_hand = Some((at..at + at_hand as u64, Instant::now()));
        Poll::Ready(Ok(length))
    }
}

/// Sends what comes before a file's bytes, which fill up its last segment.
fn poll_send_before(
    stream: &TcpStream,
    slices: &[IoSlice<'_>],
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        let flags = libc::MSG_MORE | libc::MSG_NOSIGNAL;
        let send = || SockRef::from(stream).send_vectored_with_flags(slices, flags);
        match stream.try_io(Interest::WRITABLE, send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return Poll::Ready(result),
        }
    }
}
