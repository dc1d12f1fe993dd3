//! Events as they come: one JSON object a line, until the client leaves. Empty lines are signs of life.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use boot_common::Mac;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::time::interval;
use tokio_util::io::ReaderStream;

use super::shown::word;
use super::{Failed, History, Shared};
use crate::daemon::request::Reader;
use crate::host::clock;
use boot_engine::diagnosis::Note;
use boot_engine::events::BootEvent;

/// How many clients follow at once: each has every event copied for it.
const MOST: usize = 16;
/// How many bytes wait for a client that reads slowly; then it misses events.
const WAITING: usize = 256 << 10;

/// How often a client gets an empty line.
const ALIVE: Duration = Duration::from_secs(5);

static FOLLOWERS: AtomicUsize = AtomicUsize::new(0);

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The machine.
    pub mac: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// The interface.
    pub interface: Option<String>,
    /// Who did it.
    pub by: String,
    /// The kind, as in the log and in `xpxe_events_total`.
    pub step: String,
    /// What happened, in words; none for events that are of no machine's boot: the log has those.
    pub says: Option<String>,
}

/// `?machine=WHICH&label=KEY=VALUE`
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Wanted {
    machine: Option<String>,
    label: Option<String>,
}

pub(super) async fn follow(State(history): Shared, Query(wanted): Query<Wanted>) -> Result<Response, Failed> {
    let bad = |message: &str| Failed(StatusCode::BAD_REQUEST, message.to_owned());
    let label = match &wanted.label {
        None => None,
        Some(label) => Some(label.split_once('=').ok_or_else(|| bad("write label=KEY=VALUE"))?),
    };
    let label = label.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mac = match &wanted.machine {
        None => None,
        Some(which) => Some(match which.parse::<Mac>() {
            // It need not have asked yet.
            Ok(mac) => mac,
            Err(_) => {
                let which = which.clone();
                super::work(Arc::clone(&history), move |history| history.followed(&which)).await?
            }
        }),
    };
    let Some(place) = Place::take() else {
        let message = format!("{MOST} clients follow events already: end one of them");
        return Err(Failed(StatusCode::SERVICE_UNAVAILABLE, message));
    };
    let (to, from) = tokio::io::duplex(WAITING);
    let reader = history.events.read();
    let worker = history.worker.clone();
    worker.spawn(async move {
        write(reader, to, &history, mac, label).await;
        drop(place);
    });
    let body = Body::from_stream(ReaderStream::new(from));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

impl History {
    /// The MAC of a machine that somebody follows.
    fn followed(&self, which: &str) -> Result<Mac, Failed> {
        let (mac, known) = self.find(&self.boots.timelines(), which)?;
        let first = || known.as_ref().and_then(|known| known.machine.macs.first().copied());
        mac.or_else(first).ok_or_else(|| super::nothing_of(which))
    }
}

async fn write(
    mut reader: Reader,
    mut to: DuplexStream,
    history: &Arc<History>,
    mac: Option<Mac>,
    label: Option<(String, String)>,
) {
    let mut alive = interval(ALIVE);
    loop {
        let event = tokio::select! {
            event = reader.next() => event,
            _ = alive.tick() => {
                // Who has left is noticed, though nothing happens to the machine.
                if to.write_all(b"\n").await.is_err() {
                    return;
                }
                continue;
            }
        };
        let Some(event) = event else { return };
        let its = event.machine.as_ref().map(|machine| machine.mac);
        if mac.is_some() && its != mac {
            continue;
        }
        if let Some((key, value)) = &label {
            let known = its.and_then(|mac| history.machines.by_mac(mac));
            if known.is_none_or(|known| known.machine.labels.get(key) != Some(value)) {
                continue;
            }
        }
        let Ok(mut line) = serde_json::to_vec(&line(&event)) else { continue };
        line.push(b'\n');
        if to.write_all(&line).await.is_err() {
            return;
        }
    }
}

fn line(event: &BootEvent) -> Line {
    let note = Note::of(event);
    let now = clock::now();
    let at = now.wall.saturating_sub(now.boot.saturating_sub(event.at));
    Line {
        at: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
        mac: event.machine.as_ref().map(|machine| machine.mac.to_string()),
        name: event.machine.as_ref().and_then(|machine| machine.name.as_deref().map(str::to_owned)),
        interface: event.link.as_ref().map(|link| link.name.to_string()),
        by: note.as_ref().map_or_else(|| event.by.name().to_owned(), |note| word(&note.by)),
        step: event.step.kind().name().to_owned(),
        says: note.map(|note| note.what.to_string()),
    }
}

/// One of the places of those who follow.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let taken = FOLLOWERS.fetch_update(Relaxed, Relaxed, |count| (count < MOST).then_some(count + 1));
        taken.is_ok().then_some(Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        FOLLOWERS.fetch_sub(1, Relaxed);
    }
}
