//! Questions to the network, and who waits for their answers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boot_common::Mac;
use socket2::{SockAddr, Socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::{AT_ONCE, Verdict};
use crate::host::socket::{enlarge_receive_buffer, register};

/// The second probe follows the first after this time: one frame may get lost.
const SECOND_PROBE: Duration = Duration::from_millis(100);
/// How long to leave a full send queue alone.
const QUEUE_IS_FULL: Duration = Duration::from_millis(5);
/// Room for an answer to each of [`AT_ONCE`] probes; the usual 208 KiB hold some 270.
const RECEIVE_BUFFER: usize = AT_ONCE * 512;

/// A socket, the task that reads it, and who waits for what it hears.
#[derive(Debug)]
pub(super) struct Channel {
    socket: Arc<AsyncFd<Socket>>,
    pub(super) waiting: Arc<Waiting>,
    pub(super) reader: AbortHandle,
}

/// Somebody has this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) address: Ipv4Addr,
    pub(super) verdict: Verdict,
}

impl Channel {
    /// `receive` takes one message from the socket; it gives `None` for one that claims no address.
    pub(super) fn open<F>(socket: Socket, receive: F) -> io::Result<Self>
    where
        F: Fn(&Socket, &mut [u8]) -> io::Result<Option<Claim>> + Send + Sync + 'static,
    {
        enlarge_receive_buffer(&socket, RECEIVE_BUFFER);
        let socket = Arc::new(register(socket)?);
        let waiting = Arc::new(Waiting::default());
        let reader = tokio::spawn(listen(Arc::clone(&socket), Arc::clone(&waiting), receive)).abort_handle();
        Ok(Self { socket, waiting, reader })
    }

    /// Asks twice, then waits until somebody other than `asker` claims the address.
    pub(super) async fn ask(
        &self,
        address: Ipv4Addr,
        asker: Mac,
        probe: &[u8],
        to: Option<&SockAddr>,
    ) -> io::Result<Verdict> {
        let mut ticket = self.waiting.enter(address, asker);
        for _ in 0..2 {
            self.send(probe, to).await?;
            if let Ok(answer) = timeout(SECOND_PROBE, &mut ticket.answer).await {
                return answer.map_err(io::Error::other);
            }
        }
        (&mut ticket.answer).await.map_err(io::Error::other)
    }

    async fn send(&self, probe: &[u8], to: Option<&SockAddr>) -> io::Result<()> {
        let socket = self.socket.get_ref();
        loop {
            let sent = past_an_old_error(|| match to {
                None => socket.send(probe),
                Some(to) => socket.send_to(probe, to),
            });
            match sent {
                Err(error) if is_full(&error) => sleep(QUEUE_IS_FULL).await,
                sent => return sent.map(drop),
            }
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn listen<F>(socket: Arc<AsyncFd<Socket>>, waiting: Arc<Waiting>, receive: F)
where
    F: Fn(&Socket, &mut [u8]) -> io::Result<Option<Claim>>,
{
    // Longer than all that is looked at; the rest of a longer message is lost.
    let mut buf = [0; 128];
    loop {
        let received =
            socket.async_io(Interest::READABLE, |socket| past_an_old_error(|| receive(socket, &mut buf)));
        match received.await {
            Ok(None) => {}
            Ok(Some(claim)) => waiting.hear(claim),
            Err(error) => {
                tracing::debug!(%error, "cannot receive answers to probes");
                sleep(SECOND_PROBE).await;
            }
        }
    }
}

/// Calls a second time after an error. The first may be an old one: that the interface went down is told once,
/// also when it is long up again.
pub(super) fn past_an_old_error<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match call() {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => call(),
        done => done,
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}

/// Who waits for an answer about which address. Two machines may be meant to have the same one.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<HashMap<Ipv4Addr, Vec<Waiter>>>);

#[derive(Debug)]
pub(super) struct Waiter {
    asker: Mac,
    tell: oneshot::Sender<Verdict>,
}

impl Waiting {
    pub(super) fn enter(&self, address: Ipv4Addr, asker: Mac) -> Ticket<'_> {
        let (tell, answer) = oneshot::channel();
        self.lock().entry(address).or_default().push(Waiter { asker, tell });
        Ticket { waiting: self, address, answer }
    }

    pub(super) fn hear(&self, claim: Claim) {
        let mut waiting = self.lock();
        let Some(waiters) = waiting.get_mut(&claim.address) else { return };
        for waiter in waiters.extract_if(.., |waiter| claim.verdict != Verdict::UsedBy(waiter.asker)) {
            // Fails if the waiter's time is up, and then nobody wants to know.
            waiter.tell.send(claim.verdict).ok();
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<Ipv4Addr, Vec<Waiter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in [`Waiting`], given up when this is dropped.
pub(super) struct Ticket<'a> {
    waiting: &'a Waiting,
    address: Ipv4Addr,
    pub(super) answer: oneshot::Receiver<Verdict>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.answer.close();
        if let Entry::Occupied(mut waiters) = self.waiting.lock().entry(self.address) {
            waiters.get_mut().retain(|waiter| !waiter.tell.is_closed());
            if waiters.get().is_empty() {
                waiters.remove();
            }
        }
    }
}
