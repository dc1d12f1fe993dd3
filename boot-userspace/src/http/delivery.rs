//! A file's bytes on their way to a client, and what is told of it at their end.

use std::fs::File;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::IpAddr;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::Body;
use rustix::io::ReadWriteFlags;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::JoinHandle;
use tokio_util::io::ReaderStream;

use crate::host::clock;
use crate::host::size::human_size;
use boot_engine::events::{BootEvent, Events, Http, Machine, Step};

/// Bytes read and handed to the socket at a time; every connection holds a few of these.
pub(super) const CHUNK: usize = 128 * 1024;

/// Who gets a file, and who is told of it.
pub(super) struct Recipient {
    pub(super) machine: Option<Machine>,
    pub(super) client: IpAddr,
    pub(super) file: Arc<str>,
    pub(super) events: Events,
}

impl Recipient {
    pub(super) fn happened(&self, http: Http) {
        let event = BootEvent::new(clock::boot(), Step::Http(self.client, http));
        self.events.emit(event.of(self.machine.clone()));
    }
}

/// The body of an answer: `range` of `file`. Its end is told once the last byte has been handed to the
/// connection, or when the connection has ended before.
pub(super) fn body(file: File, range: Range<u64>, to: Recipient) -> Body {
    let wanted = range.end - range.start;
    let delivery = Delivery {
        file: Arc::new(file),
        at: range.start,
        end: range.end,
        from_disk: None,
        failed: None,
        wanted,
        started: Instant::now(),
        to,
    };
    Body::from_stream(ReaderStream::with_capacity(delivery, CHUNK))
}

struct Delivery {
    file: Arc<File>,
    at: u64,
    end: u64,
    /// A read that had to wait for the disk.
    from_disk: Option<JoinHandle<io::Result<Vec<u8>>>>,
    /// Why the file could not be read to the end.
    failed: Option<String>,
    wanted: u64,
    started: Instant,
    to: Recipient,
}

impl AsyncRead for Delivery {
    /// What is in the page cache, as boot files are after the first machine, is copied at once; only what has to
    /// come from the disk goes to another thread.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let len = left.min(buffer.remaining()).min(CHUNK);
        if len == 0 {
            return Poll::Ready(Ok(()));
        }
        if self.from_disk.is_none() {
            let slice = buffer.initialize_unfilled_to(len);
            let slices = &mut [IoSliceMut::new(slice)];
            match rustix::io::preadv2(&*self.file, slices, self.at, ReadWriteFlags::NOWAIT) {
                Ok(0) => return self.fail(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buffer.advance(read);
                    self.at += read as u64;
                    return Poll::Ready(Ok(()));
                }
                // Not in the page cache, or a file system that cannot say so: the other thread finds out.
                Err(_) => {
                    let (file, at) = (Arc::clone(&self.file), self.at);
                    self.from_disk = Some(tokio::task::spawn_blocking(move || read(&file, at, len)));
                }
            }
        }
        let Some(reading) = &mut self.from_disk else { return Poll::Pending };
        let bytes = ready!(Pin::new(reading).poll(context));
        self.from_disk = None;
        let bytes = match bytes.map_err(io::Error::other).and_then(|read| read) {
            Ok(bytes) => bytes,
            Err(error) => return self.fail(error),
        };
        buffer.put_slice(bytes.get(..len.min(bytes.len())).unwrap_or_default());
        self.at += len.min(bytes.len()) as u64;
        Poll::Ready(Ok(()))
    }
}

impl Delivery {
    /// The connection ends with that, and it has to be told that the file is to blame.
    fn fail(&mut self, error: io::Error) -> Poll<io::Result<()>> {
        let is_cut = error.kind() == io::ErrorKind::UnexpectedEof;
        self.failed = Some(if is_cut { self.cut() } else { error.to_string() });
        Poll::Ready(Err(error))
    }

    fn cut(&self) -> String {
        let left = self.file.metadata().map_or(0, |facts| facts.len());
        format!(
            "the file was cut to {} meanwhile; replace boot files by renaming new ones over them",
            human_size(left)
        )
    }
}

fn read(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let bytes = self.wanted - (self.end - self.at);
        let (file, took) = (Arc::clone(&self.to.file), self.started.elapsed());
        self.to.happened(match self.failed.take() {
            _ if bytes == self.wanted => Http::Sent { file, bytes, took },
            Some(why) => Http::Broken { file, bytes, took, why },
            None => Http::Left { file, bytes, whole: self.wanted, took },
        });
    }
}
