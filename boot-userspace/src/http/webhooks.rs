//! The API of webhooks: how they do, and their dead letters.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::admin::{Failed, Problem, json, rfc3339};
use crate::daemon::request::{DeadLetter, HookView, Webhooks, WebhooksAsk, WebhooksError, WhichLetters};

/// The path of all webhooks.
pub const WEBHOOKS: &str = "/api/v1/webhooks";
/// The path of dead letters.
pub const DEAD: &str = "/api/v1/webhooks/dead";
const LETTERS: &str = "/api/v1/webhooks/dead/{which}";
const RETRY: &str = "/api/v1/webhooks/dead/{which}/retry";

/// The routes.
pub fn router(webhooks: Webhooks) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(dead))
        .routes(routes!(forget))
        .routes(routes!(retry))
        .with_state(webhooks)
}

/// A webhook, and what became of its deliveries since the start of xpxe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Webhook)]
pub struct ShownWebhook {
    /// Its name.
    pub name: String,
    /// Scheme, host and port of its URL; the rest may be secret.
    pub place: String,
    /// How many deliveries wait, those that are being tried among them.
    pub waiting: u64,
    /// How many dead letters there are.
    pub dead: u64,
    /// How many were delivered.
    pub delivered: u64,
    /// How many tries failed.
    pub failed_tries: u64,
    /// How many events had no room.
    pub lost: u64,
    /// Why the last try failed; none after one that was successful.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl From<HookView> for ShownWebhook {
    fn from(view: HookView) -> Self {
        let HookView { name, place, waiting, dead, delivered, failed_tries, died: _, lost, trouble } = view;
        Self { name, place, waiting, dead, delivered, failed_tries, lost, trouble }
    }
}

/// A delivery that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = DeadLetter)]
pub struct ShownLetter {
    /// Its number.
    pub id: u64,
    /// The webhook.
    pub webhook: String,
    /// The kind of its event.
    #[serde(rename = "type")]
    pub kind: String,
    /// The machine's name, or else its MAC, where it is known which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// When the event happened (RFC 3339).
    pub at: String,
    /// When it was given up (RFC 3339).
    pub died_at: String,
    /// How often it was tried.
    pub tries: u32,
    /// Why the last try failed.
    pub why: String,
}

impl From<DeadLetter> for ShownLetter {
    fn from(letter: DeadLetter) -> Self {
        let DeadLetter { id, webhook, kind, machine, at, died, tries, why } = letter;
        Self { id, webhook, kind, machine, at: rfc3339(at), died_at: rfc3339(died), tries, why }
    }
}

/// How many dead letters something was done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Done {
    /// So many.
    pub count: usize,
}

type Way = State<Webhooks>;
type Answer = Result<Response, Failed>;

/// The webhooks of the configuration, and how they do.
#[utoipa::path(
    get,
    path = WEBHOOKS,
    operation_id = "listWebhooks",
    responses((status = 200, body = Vec<ShownWebhook>))
)]
async fn list(State(webhooks): Way) -> Answer {
    let all = webhooks.ask(WebhooksAsk::List).await?;
    let all: Vec<_> = all.into_iter().map(ShownWebhook::from).collect();
    Ok(json(StatusCode::OK, &all))
}

/// The deliveries that were given up, the oldest first.
#[utoipa::path(
    get,
    path = DEAD,
    operation_id = "listDeadLetters",
    responses((status = 200, body = Vec<ShownLetter>))
)]
async fn dead(State(webhooks): Way) -> Answer {
    let all = webhooks.ask(WebhooksAsk::Dead).await?;
    let all: Vec<_> = all.into_iter().map(ShownLetter::from).collect();
    Ok(json(StatusCode::OK, &all))
}

/// Has dead letters delivered after all.
#[utoipa::path(
    post,
    path = RETRY,
    operation_id = "retryDeadLetters",
    params(
        ("which" = String, Path, description = "The number of a dead letter, the name of a webhook for all of its, or all.")
    ),
    responses((status = 200, body = Done), (status = 404, body = Problem))
)]
async fn retry(State(webhooks): Way, Path(which): Path<String>) -> Answer {
    let count = webhooks.ask(|reply| WebhooksAsk::Retry(meant(which), reply)).await??;
    Ok(json(StatusCode::OK, &Done { count }))
}

/// Forgets dead letters.
#[utoipa::path(
    delete,
    path = LETTERS,
    operation_id = "dropDeadLetters",
    params(
        ("which" = String, Path, description = "The number of a dead letter, the name of a webhook for all of its, or all.")
    ),
    responses((status = 200, body = Done), (status = 404, body = Problem))
)]
async fn forget(State(webhooks): Way, Path(which): Path<String>) -> Answer {
    let count = webhooks.ask(|reply| WebhooksAsk::Drop(meant(which), reply)).await??;
    Ok(json(StatusCode::OK, &Done { count }))
}

/// A number, the name of a webhook, or `all`. A webhook that is called like that is not meant.
fn meant(which: String) -> WhichLetters {
    match which.parse() {
        Ok(id) => WhichLetters::One(id),
        Err(_) if which == "all" => WhichLetters::All,
        Err(_) => WhichLetters::Of(which),
    }
}

impl From<WebhooksError> for Failed {
    fn from(error: WebhooksError) -> Self {
        let status = match &error {
            WebhooksError::Unknown | WebhooksError::NoWebhook(_) => StatusCode::NOT_FOUND,
            WebhooksError::Silent => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}
