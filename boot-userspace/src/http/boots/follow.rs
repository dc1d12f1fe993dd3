//! Events as they come, until the client leaves: one JSON object a line, or server-sent events for who accepts those.
//! Empty lines are signs of life.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Extension, Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use boot_common::Mac;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::time::interval;
use tokio_util::io::ReaderStream;

use super::shown::word;
use super::{Failed, History, Problem, Shared};
use crate::daemon::request::Reader;
use crate::host::clock;
use crate::http::Ends;
use crate::http::api::Pass;
use boot_engine::diagnosis::{Note, Progress};
use boot_engine::events::BootEvent;

/// How many clients follow at once: each has every event copied for it.
const MOST: usize = 16;
/// How many of them over the network: the others are for the command line.
const MOST_BY_NETWORK: usize = 12;
/// How many bytes wait for a client that reads slowly; then it misses events.
const WAITING: usize = 256 << 10;

/// How often a client gets an empty line.
const ALIVE: Duration = Duration::from_secs(5);

/// The type of server-sent events.
const SERVER_SENT: &str = "text/event-stream";

static FOLLOWERS: AtomicUsize = AtomicUsize::new(0);

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Event)]
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
    /// How far the boot has come, as this step shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// `?machine=WHICH&label=KEY=VALUE`
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only of this machine.
    machine: Option<String>,
    /// Only of machines with this label: `KEY=VALUE`.
    label: Option<String>,
}

/// Whose events somebody wants.
struct Filter {
    mac: Option<Mac>,
    label: Option<(String, String)>,
}

/// How events are written.
#[derive(Clone, Copy)]
enum Form {
    Lines,
    ServerSent,
}

impl Form {
    fn kind(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::ServerSent => SERVER_SENT,
        }
    }

    fn write(self, line: &str) -> String {
        match self {
            Self::Lines => format!("{line}\n"),
            Self::ServerSent => format!("data: {line}\n\n"),
        }
    }
}

/// Events as they come, without end, one a line; empty lines are signs of life.
#[utoipa::path(
    get,
    path = super::EVENTS,
    operation_id = "events",
    params(Wanted),
    responses(
        (status = 200, content((Line = "application/x-ndjson"), (Line = "text/event-stream"))),
        (status = 404, body = Problem)
    )
)]
pub(super) async fn follow(
    State(history): Shared,
    Query(wanted): Query<Wanted>,
    from: Option<Extension<ConnectInfo<Ends>>>,
    pass: Option<Extension<Pass>>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
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
    let most = if from.is_some() { MOST_BY_NETWORK } else { MOST };
    let Some(place) = Place::take(most) else {
        let message = format!("{most} clients follow events already: end one of them");
        return Err(Failed(StatusCode::SERVICE_UNAVAILABLE, message));
    };
    let (to, from) = tokio::io::duplex(WAITING);
    let accepts = headers.get(ACCEPT).and_then(|accepts| accepts.to_str().ok()).unwrap_or_default();
    let form = if accepts.contains(SERVER_SENT) { Form::ServerSent } else { Form::Lines };
    let reader = history.events.read();
    let worker = history.worker.clone();
    worker.spawn(async move {
        let written = write(reader, to, &history, Filter { mac, label }, form);
        tokio::select! {
            () = written => {}
            () = ended(pass.map(|Extension(pass)| pass)) => {}
        }
        drop(place);
    });
    let body = Body::from_stream(ReaderStream::new(from));
    Ok(([(CONTENT_TYPE, form.kind())], body).into_response())
}

/// Waits until somebody may no longer read; for ever where no token says when that is.
pub(super) async fn ended(pass: Option<Pass>) {
    let mut alive = interval(ALIVE);
    while pass.as_ref().is_none_or(Pass::holds) {
        alive.tick().await;
    }
}

impl History {
    /// The MAC of a machine that somebody follows.
    pub(super) fn followed(&self, which: &str) -> Result<Mac, Failed> {
        let (mac, known) = self.find(&self.boots.timelines(), which)?;
        let first = || known.as_ref().and_then(|known| known.machine.macs.first().copied());
        mac.or_else(first).ok_or_else(|| super::nothing_of(which))
    }
}

async fn write(
    mut reader: Reader,
    mut to: DuplexStream,
    history: &Arc<History>,
    Filter { mac, label }: Filter,
    form: Form,
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
            let by_mac = || Some(history.machines.by_mac(its?)?.machine);
            let known = event.without_mac.as_ref().map(|known| Arc::clone(&known.machine)).or_else(by_mac);
            if known.is_none_or(|machine| machine.labels.get(key) != Some(value)) {
                continue;
            }
        }
        let Ok(line) = serde_json::to_string(&line(&event)) else { continue };
        if to.write_all(form.write(&line).as_bytes()).await.is_err() {
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
        name: event.name().map(str::to_owned),
        interface: event.link.as_ref().map(|link| link.name.to_string()),
        by: note.as_ref().map_or_else(|| event.by.name().to_owned(), |note| word(&note.by)),
        step: event.step.kind().name().to_owned(),
        progress: note.as_ref().and_then(|note| note.what.as_ref()).map(Progress::shown_by),
        says: note.and_then(|note| note.what).map(|what| what.to_string()),
    }
}

/// One of the places of those who follow.
struct Place;

impl Place {
    fn take(most: usize) -> Option<Self> {
        let taken = FOLLOWERS.fetch_update(Relaxed, Relaxed, |count| (count < most).then_some(count + 1));
        // Not `then_some`: the place that nobody gets would be given back.
        taken.is_ok().then(|| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        FOLLOWERS.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_gives_no_place_back() {
        let places: Vec<Option<Place>> = (0..40).map(|_| Place::take(MOST_BY_NETWORK)).collect();
        assert_eq!(places.iter().flatten().count(), MOST_BY_NETWORK);
        drop(places);
        assert_eq!(FOLLOWERS.load(Relaxed), 0);
        assert!(Place::take(1).is_some());
    }
}
