//! Events as they come, until the client leaves: one JSON object a line, or server-sent events for who accepts those.
//! Empty lines are signs of life.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use boot_common::Mac;
use serde::{Deserialize, Serialize};

use super::shown::word;
use super::{Failed, History, Problem, Shared};
use crate::daemon::request::Reader;
use crate::host::clock;
use crate::http::following::{self, Follower, Form, Places, STOPPING, Teller, ended};
use boot_engine::diagnosis::{Note, Progress};
use boot_engine::events::{BootEvent, By};

/// How many clients follow at once, and how many of them over the network: each has every event copied for it.
static PLACES: Places = Places::new(16, 12, 12);

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
    /// The kind, as in the log and in `xpxe_events_total`; `stopping` in the last line if xpxe ends.
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
    Follower { address, pass, form }: Follower,
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
    let place = PLACES.take(address).await.map_err(|why| Failed(StatusCode::SERVICE_UNAVAILABLE, why))?;
    let (to, answer) = following::begin(form, history.connections.end(), &PLACES);
    let reader = history.events.read();
    let worker = history.worker.clone();
    worker.spawn(async move {
        let written = write(reader, to, &history, Filter { mac, label }, form);
        tokio::select! {
            () = written => {}
            () = ended(pass) => {}
        }
        drop(place);
    });
    Ok(answer)
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
    mut to: Teller,
    history: &Arc<History>,
    Filter { mac, label }: Filter,
    form: Form,
) {
    let (mut alive, mut end) = (PLACES.alive(), history.connections.end());
    loop {
        let event = tokio::select! {
            event = reader.next() => event,
            () = end.comes() => {
                if let Ok(line) = serde_json::to_string(&last_line()) {
                    // Who has left needs no last line.
                    to.send(&form.write(&line)).await.ok();
                }
                return;
            }
            () = alive.tick() => {
                // Who has left is noticed, though nothing happens to the machine.
                if to.send("\n").await.is_err() {
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
        if to.send(&form.write(&line)).await.is_err() {
            return;
        }
    }
}

fn last_line() -> Line {
    Line {
        at: u64::try_from(clock::wall().as_millis()).unwrap_or(u64::MAX),
        mac: None,
        name: None,
        interface: None,
        by: By::DAEMON.name().to_owned(),
        step: "stopping".to_owned(),
        says: Some(STOPPING.to_owned()),
        progress: None,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn who_follows_events_reads_that_xpxe_stops() {
        let history = Arc::new(History::empty());
        let (to, mut from) = Teller::with_room(1 << 16, Duration::from_secs(10), &PLACES);
        history.connections.stop().await;
        let of_all = Filter { mac: None, label: None };
        write(history.events.read(), to, &history, of_all, Form::Lines).await;
        let mut text = String::new();
        from.read_to_string(&mut text).await.unwrap();
        let last: Line = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((last.step.as_str(), last.says.as_deref()), ("stopping", Some(STOPPING)));
    }
}
