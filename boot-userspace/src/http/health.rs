//! Whether the server runs, and whether it can boot machines.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::State;
use axum::http::StatusCode;
use tracing::{info, warn};

use super::Site;

/// What `/readyz` says; clones share it. Not ready until [`Readiness::set_started`], and while anything is in trouble.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<RwLock<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    started: bool,
    /// Why machines are not served, by the part that does not serve them.
    troubles: BTreeMap<String, String>,
    /// What is worth knowing although machines are served, by the part that it is about.
    notes: BTreeMap<String, String>,
}

impl Readiness {
    /// Everything runs that has to.
    pub fn set_started(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).started = true;
    }

    /// Why a part does not serve machines, as a sentence that says what to do; none: it does.
    pub fn set_trouble(&self, part: &str, why: Option<String>) {
        self.exchange(part, why);
    }

    /// The same, and the log says each change.
    pub fn tell_trouble(&self, part: &str, why: Option<String>) {
        let before = self.exchange(part, why.clone());
        match why {
            Some(why) if before.as_ref() != Some(&why) => {
                warn!(part, "not ready, machines may get no answer: {why}");
            }
            None if before.is_some() => info!(part, "recovered: {part}"),
            _ => {}
        }
    }

    /// Gives what was so before.
    fn exchange(&self, part: &str, why: Option<String>) -> Option<String> {
        let mut parts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => parts.troubles.insert(part.to_owned(), why),
            None => parts.troubles.remove(part),
        }
    }

    /// What is worth knowing of a part although machines are served; none: nothing is.
    pub fn set_note(&self, part: &str, note: Option<String>) {
        let mut parts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match note {
            Some(note) => parts.notes.insert(part.to_owned(), note),
            None => parts.notes.remove(part),
        };
    }
}

pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// A line for each reason.
pub(super) async fn ready(State(site): State<Arc<Site>>) -> (StatusCode, String) {
    let parts = site.readiness.0.read().unwrap_or_else(PoisonError::into_inner);
    let starting = (!parts.started).then_some("xpxe is starting");
    let reasons = starting.into_iter().chain(parts.troubles.values().map(String::as_str));
    let reasons: String = reasons.map(|why| format!("not ready: {why}\n")).collect();
    let notes: String = parts.notes.values().map(|note| format!("note: {note}\n")).collect();
    if reasons.is_empty() {
        (StatusCode::OK, format!("ready\n{notes}"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, reasons + &notes)
    }
}
