//! Answers about all machines: they are large, so they are made one at a time, and shared by all who ask meanwhile. However
//! many ask, and however slowly they read, few are in memory.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::{AGE, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tokio_util::io::ReaderStream;

use super::Failed;

/// An answer is shared for this time at most.
const EVERY: Duration = Duration::from_secs(1);
/// And for so many times the time that it took: one that costs nothing is always new.
const REST: u32 = 10;
/// So many answers of a kind are kept as long as somebody reads them. While there are so many, the newest one is given.
const MOST: usize = 3;
/// Who reads an answer for longer is cut off.
const LONGEST: Duration = Duration::from_secs(60);
/// How long somebody waits for an answer to be made.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many bytes are copied at once for somebody who reads.
const CHUNK: usize = 64 << 10;

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overview {
    Boots,
    Why,
}

/// The answers about all machines that were made last. Clones are the same.
#[derive(Clone, Default)]
pub struct Overviews(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Whoever makes an answer holds it.
    turn: Arc<tokio::sync::Mutex<()>>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The newest one is the last one.
    answers: Vec<Answer>,
    /// Something looks after those that are old.
    is_swept: bool,
}

struct Answer {
    of: Overview,
    made: Instant,
    shared_for: Duration,
    /// Only here: those who read have it as long as it is kept.
    json: Arc<Vec<u8>>,
}

impl Overviews {
    /// The answer as it was made just now, or as `make` makes it on a thread that may block.
    pub(super) async fn answer(
        &self,
        of: Overview,
        worker: &Handle,
        make: impl FnOnce() -> serde_json::Result<Vec<u8>> + Send + 'static,
    ) -> Result<Response, Failed> {
        if let Some(answer) = self.kept().usable(of, Instant::now()) {
            return Ok(answer);
        }
        let Ok(turn) = timeout(PATIENCE, Arc::clone(&self.0.turn).lock_owned()).await else {
            return Ok(busy());
        };
        let all = self.clone();
        let made = worker.spawn_blocking(move || -> serde_json::Result<Response> {
            // Held until it is made, also if who has asked has left.
            let _turn = turn;
            if let Some(answer) = all.kept().usable(of, Instant::now()) {
                return Ok(answer);
            }
            let start = Instant::now();
            let json = make()?;
            let now = Instant::now();
            Ok(all.kept().put(of, json, now - start, now))
        });
        let made =
            made.await.map_err(|_| Failed(StatusCode::SERVICE_UNAVAILABLE, "xpxe is stopping".to_owned()))?;
        self.sweep(worker);
        made.map_err(|error| Failed(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    }

    /// An answer about some machines. It is made as those about all of them are, one at a time, and not kept.
    pub(super) async fn in_turn(
        &self,
        worker: &Handle,
        make: impl FnOnce() -> Result<Response, Failed> + Send + 'static,
    ) -> Result<Response, Failed> {
        let Ok(turn) = timeout(PATIENCE, Arc::clone(&self.0.turn).lock_owned()).await else {
            return Ok(busy());
        };
        let made = worker.spawn_blocking(move || {
            // Held until it is made, also if who has asked has left.
            let _turn = turn;
            make()
        });
        made.await.map_err(|_| Failed(StatusCode::SERVICE_UNAVAILABLE, "xpxe is stopping".to_owned()))?
    }

    /// Has old answers dropped though nobody asks any more.
    fn sweep(&self, worker: &Handle) {
        if std::mem::replace(&mut self.kept().is_swept, true) {
            return;
        }
        let all = self.clone();
        worker.spawn(async move {
            loop {
                sleep(EVERY).await;
                let mut kept = all.kept();
                kept.drop_old(Instant::now());
                if kept.answers.is_empty() {
                    kept.is_swept = false;
                    return;
                }
            }
        });
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The newest answer, unless another one is to be made.
    fn usable(&mut self, of: Overview, now: Instant) -> Option<Response> {
        self.drop_old(now);
        let its = || self.answers.iter().filter(move |answer| answer.of == of);
        let newest = its().next_back()?;
        (newest.is_new(now) || its().count() >= MOST).then(|| newest.respond(now))
    }

    fn put(&mut self, of: Overview, json: Vec<u8>, took: Duration, now: Instant) -> Response {
        let shared_for = EVERY.min(took * REST);
        let answer = Answer { of, made: now, shared_for, json: Arc::new(json) };
        let response = answer.respond(now);
        self.answers.push(answer);
        response
    }

    fn drop_old(&mut self, now: Instant) {
        let is_kept = |answer: &Answer| answer.is_new(now) || (answer.is_read() && answer.age(now) < LONGEST);
        self.answers.retain(is_kept);
    }
}

impl Answer {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.made)
    }

    fn is_new(&self, now: Instant) -> bool {
        self.age(now) < self.shared_for
    }

    fn is_read(&self) -> bool {
        Arc::weak_count(&self.json) > 0
    }

    fn respond(&self, now: Instant) -> Response {
        let reading = Reading { json: Arc::downgrade(&self.json), at: 0 };
        let headers = [
            (CONTENT_TYPE, "application/json".to_owned()),
            (CONTENT_LENGTH, self.json.len().to_string()),
            (AGE, self.age(now).as_secs().to_string()),
        ];
        (headers, Body::from_stream(ReaderStream::with_capacity(reading, CHUNK))).into_response()
    }
}

fn busy() -> Response {
    let message = "others wait for boots of all machines, too: ask again in some seconds";
    let mut response = Failed(StatusCode::SERVICE_UNAVAILABLE, message.to_owned()).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// Somebody reads an answer. Its memory is not held by that.
struct Reading {
    json: Weak<Vec<u8>>,
    at: usize,
}

impl AsyncRead for Reading {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(json) = self.json.upgrade() else {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        };
        let rest = json.get(self.at..).unwrap_or_default();
        let (next, _) = rest.split_at(rest.len().min(into.remaining()));
        into.put_slice(next);
        self.at += next.len();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::thread;

    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn all_who_ask_at_once_get_one_answer() {
        let overviews = Overviews::default();
        let made = Arc::new(AtomicUsize::new(0));
        let ask = |of: Overview| {
            let (overviews, made) = (overviews.clone(), Arc::clone(&made));
            tokio::spawn(async move {
                let make = move || {
                    made.fetch_add(1, Relaxed);
                    thread::sleep(Duration::from_millis(200));
                    Ok(b"[]".to_vec())
                };
                overviews.answer(of, &Handle::current(), make).await.ok().unwrap()
            })
        };
        let asked: Vec<_> = (0..40).map(|_| ask(Overview::Boots)).collect();
        for answer in asked {
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.headers()[CONTENT_LENGTH], "2");
            assert_eq!(to_bytes(answer.into_body(), usize::MAX).await.unwrap(), "[]");
        }
        assert_eq!(made.load(Relaxed), 1);
        ask(Overview::Why).await.unwrap();
        assert_eq!(made.load(Relaxed), 2, "that is another answer");
    }

    #[tokio::test]
    async fn answers_that_are_read_slowly_fill_no_memory() {
        let (mut kept, mut now) = (Kept::default(), Instant::now());
        let mut slow = Vec::new();
        for _ in 0..30 {
            now += EVERY;
            let given = kept.usable(Overview::Boots, now);
            slow.push(given.unwrap_or_else(|| kept.put(Overview::Boots, vec![b'x'; 1000], EVERY, now)));
            assert!(kept.answers.len() <= MOST);
        }
        now += LONGEST;
        kept.drop_old(now);
        assert!(kept.answers.is_empty());
        let cut = to_bytes(slow.remove(0).into_body(), usize::MAX).await;
        assert!(cut.is_err(), "it was read for too long");
        let whole = kept.put(Overview::Boots, vec![b'x'; 3 * CHUNK + 1], EVERY, now);
        assert_eq!(to_bytes(whole.into_body(), usize::MAX).await.unwrap().len(), 3 * CHUNK + 1);
    }
}
