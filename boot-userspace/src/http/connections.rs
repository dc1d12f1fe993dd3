//! Accepted connections: bounded in number, and closed when nothing moves.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use ipnet::IpNet;
use nix::sys::resource::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tracing::{debug, warn};

use super::connection_stats::ConnectionStats;
use super::crowd::{Crowd, Entry, Full, Limits, Ticket, source};
use super::ending::Ending;
use super::outbox::{Outbox, Sender};
use super::receipt::Receipts;
use crate::host::{descriptors, memory};
use boot_engine::config::Http;
use boot_engine::events::WhyEnded;

/// Connections at once, and those that wait in the kernel until they are accepted.
const MOST_CONNECTIONS: usize = 4096;
/// A connection on which no byte moves for so long belongs to a machine that was switched off.
const IDLE: Duration = Duration::from_secs(60);
/// How often the log says that connections are refused or closed for others.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// When everybody is busy: how often it is looked whether somebody stalls.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Makes an address ours at which nobody can connect yet.
///
/// # Errors
/// As the system gives them.
pub fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Lets clients connect. What the kernel gives of the wanted queue is said where it is less: connections beyond it are
/// dropped, and those machines try again after a second or more.
///
/// # Errors
/// As the system gives them.
pub fn listen(socket: TcpSocket) -> io::Result<TcpListener> {
    let listener = socket.listen(u32::try_from(MOST_CONNECTIONS).unwrap_or(u32::MAX))?;
    let given = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
    if let Some(given) = given.and_then(|text| text.trim().parse::<usize>().ok())
        && given < MOST_CONNECTIONS
    {
        warn!(
            "the kernel lets only {given} HTTP connections wait to be accepted: when more machines connect at once, \
             some wait a second or longer; to allow {MOST_CONNECTIONS}, run sysctl -w net.core.somaxconn={MOST_CONNECTIONS} \
             and restart xpxe"
        );
    }
    Ok(listener)
}

/// A listener that hands out [`Connection`]s.
pub(super) struct Connections {
    listener: TcpListener,
    shared: Arc<Shared>,
    trusted: Vec<IpNet>,
    told: [Option<Instant>; 2],
}

struct Shared {
    crowd: Mutex<Crowd>,
    /// Somebody has left.
    room: Notify,
    stats: Arc<ConnectionStats>,
}

impl Shared {
    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    pub(super) fn new(listener: TcpListener, settings: &Http, stats: Arc<ConnectionStats>) -> Self {
        // Half of the descriptors are for files and for everything else that the daemon does.
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(now, _)| now);
        let total = usize::try_from(descriptors / 2).unwrap_or(usize::MAX).min(MOST_CONNECTIONS);
        if total < MOST_CONNECTIONS {
            warn!(
                "only {descriptors} files and sockets may be open, so HTTP has room for {total} connections at once \
                 instead of {MOST_CONNECTIONS}: {}",
                descriptors::REMEDY
            );
        }
        let limits = Limits { total, per_source: settings.connections_per_address };
        let shared = Shared { crowd: Mutex::new(Crowd::new(limits)), room: Notify::new(), stats };
        Self {
            listener,
            shared: Arc::new(shared),
            trusted: settings.trusted_proxies.clone(),
            told: [None; 2],
        }
    }

    /// Those of a listener that only people use, and so many of each of their addresses.
    pub(super) fn of_few(
        listener: TcpListener,
        total: usize,
        per_source: usize,
        stats: Arc<ConnectionStats>,
    ) -> Self {
        let crowd = Mutex::new(Crowd::new(Limits { total, per_source }));
        let shared = Shared { crowd, room: Notify::new(), stats };
        Self { listener, shared: Arc::new(shared), trusted: Vec::new(), told: [None; 2] }
    }

    /// Those of another listener, which have their place among the same.
    pub(super) fn beside(&self, listener: TcpListener) -> Self {
        Self { listener, shared: Arc::clone(&self.shared), trusted: self.trusted.clone(), told: [None; 2] }
    }

    /// The next connection there is room for, and its client.
    pub(super) async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            // axum's own accept outlasts passing errors such as too many open files.
            let (stream, client) = Listener::accept(&mut self.listener).await;
            let Some((place, leave)) = self.admit(client.ip()).await else { continue };
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%client, %error, "TCP_NODELAY");
            }
            let timer = Box::pin(sleep(IDLE));
            let ending = Ending::new(Arc::clone(&self.shared.stats));
            let (sender, receipts) = (Sender::default(), Receipts::default());
            let connection =
                Connection { stream, sender, timer, place, leave, ending, receipts, farewell: None };
            return (connection, client);
        }
    }

    /// Waits for room; none if the client has too many connections already.
    async fn admit(&mut self, client: IpAddr) -> Option<(Place, Arc<Notify>)> {
        let client = client.to_canonical();
        let is_trusted = self.trusted.iter().any(|net| net.contains(&client));
        loop {
            let stats = &self.shared.stats;
            let (entry, held) = {
                let mut crowd = self.shared.crowd();
                (crowd.enter(source(client), is_trusted, Instant::now()), crowd.held())
            };
            stats.open.store(held as u64, Ordering::Relaxed);
            match entry {
                Entry::Entered { ticket, leave, instead_of } => {
                    if let Some(full) = instead_of {
                        stats.crowded_out.fetch_add(1, Ordering::Relaxed);
                        self.tell(full, client, "its longest idle ones are closed for new ones");
                    }
                    return Some((Place { shared: Arc::clone(&self.shared), ticket }, leave));
                }
                Entry::Refused(Full::Source) => {
                    stats.refused.fetch_add(1, Ordering::Relaxed);
                    self.tell(Full::Source, client, "none is idle, and further ones are refused");
                    return None;
                }
                Entry::Refused(Full::Total) => {
                    self.tell(Full::Total, client, "none is idle, and further ones wait");
                    // Looks again by itself, too: an answer that nobody takes becomes idle without an event.
                    timeout(LOOK_AGAIN, self.shared.room.notified()).await.ok();
                }
            }
        }
    }

    fn tell(&mut self, full: Full, client: IpAddr, what: &str) {
        let [source, total] = &mut self.told;
        let told = if full == Full::Source { source } else { total };
        if told.is_some_and(|at| at.elapsed() < TOLD_EVERY) {
            return;
        }
        *told = Some(Instant::now());
        let limits = self.shared.crowd().limits();
        match full {
            Full::Source => warn!(
                %client,
                "{client} has {} HTTP connections, the most that one address may have: {what}; where many machines \
                 share that address, raise connections_per_address in [http]",
                limits.per_source
            ),
            Full::Total => warn!(
                %client,
                "all {} HTTP connections are in use: {what} (xpxe_http_connections_* in /metrics count them)",
                limits.total
            ),
        }
    }
}

/// A connection's place among all.
pub(super) struct Place {
    shared: Arc<Shared>,
    ticket: Ticket,
}

impl Place {
    /// Says for whom it is to tell when requests come and answers are handed over.
    pub(super) fn answering(&self) -> Answering {
        Answering { shared: Arc::clone(&self.shared), ticket: self.ticket }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (most_have_left, held) = {
            let mut crowd = self.shared.crowd();
            (crowd.leave(self.ticket), crowd.held())
        };
        self.shared.stats.open.store(held as u64, Ordering::Relaxed);
        self.shared.room.notify_one();
        if most_have_left && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Beside everything else: it may take milliseconds.
            drop(runtime.spawn_blocking(memory::give_back));
        }
    }
}

/// Who says whether a request is being answered on a connection.
#[derive(Clone)]
pub(super) struct Answering {
    shared: Arc<Shared>,
    ticket: Ticket,
}

impl Answering {
    pub(super) fn set(&self, answering: bool) {
        self.shared.crowd().set_answering(self.ticket, answering, Instant::now());
    }
}

/// A connection that fails when nothing moves.
pub(super) struct Connection {
    stream: TcpStream,
    sender: Sender,
    timer: Pin<Box<Sleep>>,
    place: Place,
    leave: Arc<Notify>,
    ending: Ending,
    receipts: Receipts,
    /// Over TLS: the bytes of the last write. At the end it is the farewell, and comes after the answer.
    farewell: Option<usize>,
}

impl Connection {
    /// Knows why the daemon has ended it, if it has.
    pub(super) fn ending(&self) -> Ending {
        self.ending.clone()
    }

    /// What is written is encrypted from now on.
    pub(super) fn is_encrypted(&mut self) {
        self.farewell = Some(0);
    }

    /// What is owed for the answer that comes last.
    pub(super) fn receipts(&self) -> Receipts {
        self.receipts.clone()
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Waits for bytes, and leaves them there.
    pub(super) async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.peek(bytes).await
    }

    /// Is notified when the connection has to make room for another one.
    pub(super) fn leave(&self) -> Arc<Notify> {
        Arc::clone(&self.leave)
    }

    pub(super) fn answering(&self) -> Answering {
        self.place.answering()
    }

    /// Where the bytes of files go that are sent on it.
    pub(super) fn outbox(&self) -> Outbox {
        self.sender.outbox()
    }

    fn watch<T>(&mut self, result: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            return result;
        }
        while self.timer.as_mut().poll(context).is_ready() {
            let since = self.place.shared.crowd().since(self.place.ticket);
            match since.map(|since| since + IDLE).filter(|deadline| *deadline > Instant::now()) {
                Some(deadline) => self.timer.as_mut().reset(deadline),
                None => {
                    self.ending.by_daemon(WhyEnded::Stalled(IDLE.as_secs()));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        Poll::Pending
    }

    fn wrote(
        &mut self,
        result: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = &result {
            let written = written.as_ref().map_or(0, |written| *written);
            self.farewell = self.farewell.map(|_| written);
            self.place.shared.stats.bytes.fetch_add(written as u64, Ordering::Relaxed);
            self.place.shared.crowd().touch(self.place.ticket, Instant::now());
        }
        self.watch(result, context)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let had = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > had {
            self.ending.received();
        }
        self.watch(result, context)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, sender, .. } = &mut *self;
        let result = sender.poll_write(stream, slices, context);
        self.wrote(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        // Else hyper would copy stand-ins.
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = ready!(Pin::new(&mut self.stream).poll_shutdown(context));
        if ended.is_ok() {
            self.receipts.sent(&self.stream, self.farewell.unwrap_or(0));
        }
        Poll::Ready(ended)
    }
}
