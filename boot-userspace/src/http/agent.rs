//! What xpxe's agent asks and says: below `/agent/`, for the token in its kernel command line.
//!
//! A machine's last system may know that URL, and not the token of this boot: what the agent says decides whether a machine
//! counts as wiped.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{ConnectInfo, Form, Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use boot_agent_protocol::{Inventory, Progress, SCHEMA, Task};
use serde::de::DeserializeOwned;

use boot_engine::boot::documents::NoDocument;
use boot_engine::boot::plan::Asked;
use boot_engine::events::{Document, PhoneHome, Step};
use boot_engine::lifecycle::{Observed, State as Stage};

use super::documents::{Reported, asked_with_token, machine_of, not_stored, read_report, readable};
use super::{Ends, Site, shown};
use crate::daemon::request::RegistryAsk;
use crate::host::clock;

/// Bytes of an inventory: one of 512 disks and 512 cards fits.
const LARGEST_INVENTORY: usize = 512 << 10;
const LARGEST_PROGRESS: usize = 4 << 10;

/// Why nothing is done.
type Refusal = (StatusCode, String);

/// Who asks, if the token in the path is that of its boot.
fn admit(site: &Site, ends: Ends, uri: &Uri, headers: &HeaderMap, who: &str) -> Result<Asked, Refusal> {
    let asked = asked_with_token(site, ends, uri, headers, who)
        .ok_or_else(|| (StatusCode::NOT_FOUND, "write /agent/MAC/TOKEN/task\n".to_owned()))?;
    let is_itself = site.scripts.check_asker(&asked).map_err(NoDocument::from);
    let admitted = is_itself.and_then(|()| site.tokens.admit(&asked).map_err(NoDocument::Secret));
    admitted.map_err(|why| refuse(site, &asked, uri, why))?;
    Ok(asked)
}

/// Says it here, too: an agent says why it begins anew on its console only.
fn refuse(site: &Site, asked: &Asked, uri: &Uri, why: NoDocument) -> Refusal {
    let text = why.to_string() + "\n";
    let (client, path, end) = (asked.client_ip, shown(uri.path()), Document::None(why));
    site.happened(machine_of(asked), Step::Document { client, path, end });
    (StatusCode::FORBIDDEN, text)
}

/// A path below `/agent/` without a token.
pub(super) async fn without_token() -> Response {
    let text = "the agent speaks with the token of its boot: write xpxe.agent={{ agent }} into the args of its profile; a system \
                of your own reports at {{ agent }}report\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

/// `GET task`
pub(super) async fn task(
    State(site): State<Arc<Site>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((who, _)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let asked = admit(&site, ends, &uri, &headers, &who)?;
    let task = site.scripts.agent_task(&asked);
    site.tokens.tell(&asked);
    // From here on the machine is being installed. Stored first: who gets no answer asks again.
    if let (Task::Write { .. }, Some(life)) =
        (&task, asked.life().filter(|life| life.state == Stage::Allocated))
    {
        observe(&site, life.record, Observed::Kernel).await?;
    }
    let body =
        serde_json::to_vec(&task).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response())
}

/// `POST inventory`
pub(super) async fn inventory(
    State(site): State<Arc<Site>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((who, _)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let asked = admit(&site, ends, request.uri(), request.headers(), &who)?;
    // Each one is stored: before its body is read it is known whether it comes too often.
    if let Some(life) = asked.life()
        && let Err(seconds) = site.inventories.take(life.record, clock::boot())
    {
        let text =
            format!("this machine has sent several inventories just now: send it again in {seconds} s\n");
        let wait = [(RETRY_AFTER, seconds.to_string())];
        return Ok((StatusCode::TOO_MANY_REQUESTS, wait, text).into_response());
    }
    let inventory = read::<Inventory>(request, LARGEST_INVENTORY).await?;
    if inventory.schema != SCHEMA {
        let found = inventory.schema;
        let text = format!(
            "this is an inventory of schema {found}, and xpxe reads {SCHEMA}: build the agent anew (xpxe agent build)\n"
        );
        return Err((StatusCode::BAD_REQUEST, text));
    }
    let inventory = Inventory { taken: clock::wall().as_secs(), ..inventory.tamed() };
    if let Some(life) = asked.life() {
        let ask = |reply| RegistryAsk::Inventory(life.record, Box::new(inventory), reply);
        site.registry.ask(ask).await.map_err(|error| not_stored(&error))?;
    }
    Ok(done())
}

/// `POST progress`
pub(super) async fn progress(
    State(site): State<Arc<Site>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((who, _)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let asked = admit(&site, ends, request.uri(), request.headers(), &who)?;
    let progress = read::<Progress>(request, LARGEST_PROGRESS).await?;
    // What comes too often is left out: it says it again.
    if let Some(life) = asked.life()
        && site.inventories.take_progress(life.record, clock::boot())
    {
        let Progress { text, done, of } = progress;
        site.registry.progress(life.record, Progress { text: readable(&text), done, of });
    }
    Ok(done())
}

/// `GET` or `POST report`
pub(super) async fn report(
    State(site): State<Arc<Site>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((who, _)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    form: Reported,
) -> Result<Response, Refusal> {
    let asked = admit(&site, ends, &uri, &headers, &who)?;
    let pairs = match form {
        Ok(Form(form)) => read_report(&uri, form),
        Err(error) => return Ok(error.into_response()),
    };
    let end = pairs.end().map_err(|(status, text)| (status, text.to_owned()))?;
    let said = match &end {
        PhoneHome::Failure(text) => Err(text.clone()),
        PhoneHome::Success(text) => Ok(text.clone()),
        PhoneHome::OfEarlierRun | PhoneHome::OfAnother { .. } => Ok(String::new()),
    };
    let observed = match pairs.value("task") {
        // A report that comes twice must not be taken for that of another task, which came after it.
        Some("write") => Observed::Image(said),
        None | Some("wipe") => Observed::Agent(said),
        Some(_) => return Err((StatusCode::BAD_REQUEST, "task is wipe or write\n".to_owned())),
    };
    let is_due = site.tokens.check_report(&asked);
    is_due.map_err(|why| refuse(&site, &asked, &uri, NoDocument::Secret(why)))?;
    site.happened(machine_of(&asked), Step::PhoneHome(asked.client_ip, end));
    if let Some(life) = asked.life() {
        observe(&site, life.record, observed).await?;
    }
    Ok(done())
}

async fn observe(site: &Site, record: u64, observed: Observed) -> Result<(), Refusal> {
    let stored = site.registry.ask(|reply| RegistryAsk::Observed(record, observed, reply)).await;
    stored.map_err(|error| not_stored(&error))
}

/// The body. It is read only from who has a token.
async fn read<T: DeserializeOwned>(request: Request, largest: usize) -> Result<T, Refusal> {
    let body = to_bytes(request.into_body(), largest).await.map_err(|error| {
        let text = format!("the body is not read to its end, of {largest} bytes at most: {error}\n");
        (StatusCode::PAYLOAD_TOO_LARGE, text)
    })?;
    serde_json::from_slice(&body)
        .map_err(|wrong| (StatusCode::BAD_REQUEST, format!("the body is not what is expected: {wrong}\n")))
}

fn done() -> Response {
    ([(CACHE_CONTROL, "no-store")], "ok\n").into_response()
}
