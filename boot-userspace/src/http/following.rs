//! Answers that go on until the client leaves: as what they are written, how many there may be, and when they end.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use tokio::io::{AsyncRead, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};
use tokio::sync::{Mutex as Turn, Notify};
use tokio::time::{Interval, interval, sleep, timeout};
use tokio_util::io::ReaderStream;

use super::Ends;
use super::api::Pass;
use super::connection_stats::End;

/// How often a client gets an empty line.
const ALIVE: Duration = Duration::from_secs(5);
/// Where all places are taken: how often each client gets a line, and how long whoever has left has to be noticed by it. The
/// first line that reaches nobody fails nowhere yet.
const LOOKS: usize = 4;
const LOOK_WITHIN: Duration = Duration::from_millis(100);
/// Who reads nothing for so long is cut off: the place is for somebody who reads.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the last line says if the daemon ends.
pub(super) const STOPPING: &str = "xpxe is stopping: ask again later";
/// How many bytes wait for a client that reads slowly.
const WAITING: usize = 256 << 10;
/// The type of server-sent events.
const SERVER_SENT: &str = "text/event-stream";

/// Who asks for such an answer, and as what.
pub(super) struct Follower {
    /// Where; none on the Unix socket.
    pub(super) address: Option<IpAddr>,
    /// With which token, if with one.
    pub(super) pass: Option<Pass>,
    pub(super) form: Form,
}

impl<S: Send + Sync> FromRequestParts<S> for Follower {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let ends = parts.extensions.get::<ConnectInfo<Ends>>();
        let accepts = parts.headers.get(ACCEPT).and_then(|accepts| accepts.to_str().ok()).unwrap_or_default();
        Ok(Self {
            address: ends.map(|ConnectInfo(ends)| ends.client.ip()),
            pass: parts.extensions.get::<Pass>().cloned(),
            form: if accepts.contains(SERVER_SENT) { Form::ServerSent } else { Form::Lines },
        })
    }
}

/// As what it is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// One JSON object a line.
    Lines,
    /// The events of HTML.
    ServerSent,
}

impl Form {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::ServerSent => SERVER_SENT,
        }
    }

    pub(super) fn write(self, line: &str) -> String {
        match self {
            Self::Lines => format!("{line}\n"),
            Self::ServerSent => format!("data: {line}\n\n"),
        }
    }
}

/// Where the lines for a client go.
pub(super) struct Teller {
    to: DuplexStream,
    is_within_line: Arc<AtomicBool>,
    patience: Duration,
    of: &'static Places,
}

/// What a client reads. If nobody writes any more, and the last line is not whole, it ends in an error: else half a line would
/// be the end of a whole answer.
pub(super) struct Told {
    from: DuplexStream,
    is_within_line: Arc<AtomicBool>,
    /// The daemon waits until the last line is read.
    _end: Option<End>,
}

/// The answer for who has one of these places that is begun with, and where its lines go.
pub(super) fn begin(form: Form, end: End, of: &'static Places) -> (Teller, Response) {
    let (teller, told) = Teller::with_room(WAITING, PATIENCE, of);
    let body = Body::from_stream(ReaderStream::new(Told { _end: Some(end), ..told }));
    (teller, ([(CONTENT_TYPE, form.kind())], body).into_response())
}

impl Teller {
    /// One for whose client so many bytes wait, for so long.
    pub(super) fn with_room(bytes: usize, patience: Duration, of: &'static Places) -> (Self, Told) {
        let (to, from) = duplex(bytes);
        let is_within_line = Arc::<AtomicBool>::default();
        let told = Told { from, is_within_line: Arc::clone(&is_within_line), _end: None };
        (Self { to, is_within_line, patience, of }, told)
    }

    /// Writes whole lines. Whoever gives that up has to write nothing else.
    ///
    /// # Errors
    /// The client has left, or reads nothing and is cut off.
    pub(super) async fn send(&mut self, text: &str) -> io::Result<()> {
        self.is_within_line.store(true, SeqCst);
        let Ok(written) = timeout(self.patience, self.to.write_all(text.as_bytes())).await else {
            self.of.cut_off.fetch_add(1, Relaxed);
            return Err(io::Error::new(ErrorKind::TimedOut, "the client reads nothing"));
        };
        written?;
        self.is_within_line.store(false, SeqCst);
        Ok(())
    }
}

impl AsyncRead for Told {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        ready!(Pin::new(&mut self.from).poll_read(context, to))?;
        if to.filled().len() == before && self.is_within_line.load(SeqCst) {
            return Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client was cut off")));
        }
        Poll::Ready(Ok(()))
    }
}

/// Waits until somebody may no longer read; for ever where no token says when that is.
pub(super) async fn ended(pass: Option<Pass>) {
    let Some(pass) = pass else { return pending().await };
    let (mut changes, mut alive) = (pass.changes(), interval(ALIVE));
    while pass.holds() {
        tokio::select! {
            // A token also ends when its time is over.
            _ = alive.tick() => {}
            _ = changes.changed() => {}
        }
    }
}

/// How many may follow at once.
pub(super) struct Places {
    most: usize,
    /// Over the network: the others are for the command line.
    by_network: usize,
    of_address: usize,
    /// By the address; those of the Unix socket have none.
    taken: Mutex<Option<HashMap<Option<IpAddr>, usize>>>,
    /// Somebody needs a place.
    look: Notify,
    /// Of who needs one and waits. Whoever waits has one of the few turns of the API, so that is one at a time.
    looking: Turn<()>,
    /// How many have read nothing for too long.
    cut_off: AtomicU64,
}

impl Places {
    pub(super) const fn new(most: usize, by_network: usize, of_address: usize) -> Self {
        Self {
            most,
            by_network,
            of_address,
            taken: Mutex::new(None),
            look: Notify::const_new(),
            looking: Turn::const_new(()),
            cut_off: AtomicU64::new(0),
        }
    }

    /// A place. Where all are taken, it is looked first who of the others has left, unless somebody looks already.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    pub(super) async fn take(&'static self, address: Option<IpAddr>) -> Result<Place, String> {
        let mut taken = self.take_now(address);
        if taken.is_ok() {
            return taken;
        }
        let Ok(_turn) = self.looking.try_lock() else { return taken };
        for _ in 0..LOOKS {
            self.look.notify_waiters();
            sleep(LOOK_WITHIN).await;
            taken = self.take_now(address);
            if taken.is_ok() {
                break;
            }
        }
        taken
    }

    /// When those who follow get a line that says nothing, by which it is noticed who has left.
    pub(super) fn alive(&'static self) -> Alive {
        Alive { of: self, interval: interval(ALIVE) }
    }

    fn take_now(&'static self, address: Option<IpAddr>) -> Result<Place, String> {
        let mut taken = self.lock();
        let taken = taken.get_or_insert_default();
        let most = if address.is_some() { self.by_network } else { self.most };
        if taken.values().sum::<usize>() >= most {
            return Err(format!("{most} clients follow this already: end one of them"));
        }
        let own = taken.get(&address).copied().unwrap_or(0);
        if let Some(address) = address
            && own >= self.of_address
        {
            return Err(format!("{own} clients at {address} follow this already: end one of them"));
        }
        taken.insert(address, own + 1);
        Ok(Place { of: self, address })
    }

    /// How many are taken.
    pub(super) fn count(&self) -> usize {
        self.lock().iter().flat_map(HashMap::values).sum()
    }

    /// How many were cut off because they read nothing.
    pub(super) fn cut_off(&self) -> u64 {
        self.cut_off.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<Option<IpAddr>, usize>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When one of those who follow gets a sign of life.
pub(super) struct Alive {
    of: &'static Places,
    interval: Interval,
}

impl Alive {
    pub(super) async fn tick(&mut self) {
        tokio::select! {
            _ = self.interval.tick() => {}
            () = self.of.look.notified() => {}
        }
    }
}

/// One of the places of those who follow.
pub(super) struct Place {
    of: &'static Places,
    address: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.lock();
        let taken = taken.get_or_insert_default();
        if let Some(own) = taken.get_mut(&self.address) {
            *own -= 1;
        }
        taken.retain(|_, own| *own > 0);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn who_reads_nothing_is_cut_off_and_half_a_line_is_no_end_of_an_answer() {
        static PLACES: Places = Places::new(1, 1, 1);
        for (line, is_whole) in [("all\n", true), ("too much for the room\n", false)] {
            let (mut teller, mut told) = Teller::with_room(8, Duration::from_millis(20), &PLACES);
            assert_eq!(teller.send(line).await.is_ok(), is_whole, "{line}");
            assert_eq!(PLACES.cut_off(), u64::from(!is_whole), "{line}");
            drop(teller);
            let mut read = String::new();
            assert_eq!(told.read_to_string(&mut read).await.is_ok(), is_whole, "{line}");
        }
    }

    #[tokio::test]
    async fn who_comes_when_another_one_has_left_gets_its_place_at_once() {
        static PLACES: Places = Places::new(1, 1, 1);
        let place = PLACES.take(None).await.unwrap();
        let (mut teller, told) = Teller::with_room(64, PATIENCE, &PLACES);
        tokio::spawn(async move {
            let mut alive = PLACES.alive();
            loop {
                alive.tick().await;
                if teller.send("\n").await.is_err() {
                    drop(place);
                    return;
                }
            }
        });
        assert!(PLACES.take(None).await.is_err(), "the other one is there");
        drop(told);
        assert!(PLACES.take(None).await.is_ok());
    }

    #[tokio::test]
    async fn while_one_waits_for_a_place_others_are_refused_at_once() {
        static PLACES: Places = Places::new(1, 1, 1);
        let _place = PLACES.take(None).await.unwrap();
        let waiting = tokio::spawn(PLACES.take(None));
        yield_now().await;
        for _ in 0..20 {
            let refused = timeout(Duration::ZERO, PLACES.take(None)).await;
            assert!(refused.expect("at once").is_err());
        }
        assert!(waiting.await.unwrap().is_err());
    }

    #[test]
    fn there_are_so_many_places_in_all_over_the_network_and_of_an_address() {
        static PLACES: Places = Places::new(6, 5, 3);
        let address = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        let of_one: Vec<_> = (0..9).filter_map(|_| PLACES.take_now(address(1)).ok()).collect();
        assert_eq!(of_one.len(), 3);
        let of_others: Vec<_> = (2..9).filter_map(|last| PLACES.take_now(address(last)).ok()).collect();
        assert_eq!(of_others.len(), 2);
        let local = PLACES.take_now(None).unwrap();
        assert!(PLACES.take_now(None).is_err_and(|why| why.starts_with("6 clients")));
        assert_eq!(PLACES.count(), 6, "who is refused has no place");
        drop((of_one, of_others, local));
        assert_eq!(PLACES.count(), 0);
        assert!(PLACES.take_now(address(1)).is_ok());
    }
}
