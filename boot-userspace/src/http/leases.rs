//! `/api/v1/leases`: leases are shown, freed and taken over.

mod listed;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as Name, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::admin::{Failed, Problem, json, rfc3339};
use crate::daemon::request::{Ask, AskFailure};
use boot_engine::leases::{Entry, Outcome, Refusal, Shown, Which};
use listed::{Kept, Wanted};

/// The path of all leases.
pub const LEASES: &str = "/api/v1/leases";
const LEASES_OF: &str = "/api/v1/leases/{which}";
/// Bytes of an import: four million leases. Who may use the socket may fill the daemon's memory by other ways, too.
pub(crate) const LARGEST_IMPORT: usize = 512 << 20;

/// The routes. `asks` leads to the owner of the leases.
pub fn router(asks: mpsc::Sender<Ask>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, import))
        .routes(routes!(show, delete))
        .layer(DefaultBodyLimit::max(LARGEST_IMPORT))
        .with_state(Shared { asks, kept: Kept::default() })
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Lease {
    /// The machine.
    pub mac: String,
    /// Its address.
    #[schema(value_type = String)]
    pub address: Ipv4Addr,
    /// The subnet.
    pub subnet: String,
    /// `offered`, `leased`, `released`, `reserved` or `resting`.
    pub state: String,
    /// Why the address is on hold (`resting`): `declined`, `in-use`, `promised`, or `unknown` if an earlier version stored it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_cause: Option<String>,
    /// When the promise ends or ended, in Unix seconds.
    pub expires: Option<u64>,
    /// The same for people (RFC 3339).
    pub expires_at: Option<String>,
    /// The machine's name.
    pub name: Option<String>,
}

impl From<Shown> for Lease {
    fn from(shown: Shown) -> Self {
        Self {
            mac: shown.mac.to_string(),
            address: shown.address,
            subnet: shown.subnet.to_string(),
            state: shown.state.as_str().to_owned(),
            hold_cause: shown.state.hold().map(|cause| cause.as_str().to_owned()),
            expires: shown.expires,
            expires_at: shown.expires.map(rfc3339),
            name: shown.name,
        }
    }
}

/// A lease to import. Reads what [`Lease`] writes, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportedLease {
    /// The machine.
    pub mac: String,
    /// Its address.
    pub address: String,
    /// What [`Lease`] says of it; what rests is no lease.
    #[serde(default, skip_serializing)]
    pub state: Option<String>,
    /// When it ends, in Unix seconds; 0: never; none: as if it was given now.
    #[serde(default)]
    pub expires: Option<u64>,
    /// The name the machine gave.
    #[serde(default, alias = "name")]
    pub hostname: Option<String>,
}

impl ImportedLease {
    /// Whether it stands in a list for an address that nobody has.
    #[must_use]
    pub fn rests(&self) -> bool {
        self.state.as_deref() == Some("resting")
    }

    fn read(&self) -> Result<Entry, String> {
        if self.rests() {
            return Err(format!("{} is on hold, which is no lease", self.address));
        }
        let mac = self.mac.parse().map_err(|wrong| format!("{:?}: {wrong}", self.mac))?;
        let address = self.address.parse().map_err(|_| format!("{:?} is no IPv4 address", self.address))?;
        Ok(Entry { mac, address, expires: self.expires, hostname: self.hostname.clone() })
    }
}

/// What became of an [`ImportedLease`]; the answer has them in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportResult {
    /// The machine, as it was written.
    pub mac: String,
    /// The address, as it was written.
    pub address: String,
    /// `imported`, `unchanged` or `refused`.
    pub outcome: String,
    /// Why it was refused.
    pub reason: Option<String>,
}

/// `?dry_run=true`
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct How {
    /// Change nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Where leases are asked for.
#[derive(Clone)]
struct Shared {
    asks: mpsc::Sender<Ask>,
    kept: Kept,
}

type Leases = State<Shared>;

/// Every lease in the order of the addresses, or some of them. Pages: `after` is the last address of the page before, until
/// a page is empty.
#[utoipa::path(
    get,
    path = LEASES,
    operation_id = "listLeases",
    params(Wanted),
    responses((status = 200, body = Vec<Lease>))
)]
async fn list(State(leases): Leases, Query(wanted): Query<Wanted>) -> Result<Response, Failed> {
    let filter = wanted.read().map_err(|wrong| Failed(StatusCode::BAD_REQUEST, wrong))?;
    let all = match filter.after {
        Some(_) => leases.kept.again(ask(&leases.asks, LOOK, Ask::List)).await?,
        None => Arc::new(ask(&leases.asks, LOOK, Ask::List).await?),
    };
    let kept = leases.kept.clone();
    work(move || {
        let page: Vec<&Shown> = filter.page(&all);
        let response = json(StatusCode::OK, &page.into_iter().cloned().map(Lease::from).collect::<Vec<_>>());
        if filter.limit.is_some() {
            kept.keep(all);
        }
        response
    })
    .await
}

/// The leases of a machine, or of an address.
#[utoipa::path(
    get,
    path = LEASES_OF,
    operation_id = "showLeases",
    params(("which" = String, Path, description = "A MAC or an address.")),
    responses((status = 200, body = Vec<Lease>), (status = 404, body = Problem))
)]
async fn show(State(leases): Leases, Name(which): Name<String>) -> Result<Response, Failed> {
    let which = read(&which)?;
    let shown = which.find(ask(&leases.asks, LOOK, Ask::List).await?);
    if shown.is_empty() {
        return Err(AskFailure::Refused(Refusal::Unknown(which)).into());
    }
    Ok(json(StatusCode::OK, &listed(shown)))
}

/// Frees an address, or all of a machine.
#[utoipa::path(
    delete,
    path = LEASES_OF,
    operation_id = "deleteLeases",
    params(("which" = String, Path, description = "A MAC or an address.")),
    responses(
        (status = 200, body = Vec<Lease>),
        (status = 404, body = Problem),
        (status = 409, body = Problem)
    )
)]
async fn delete(State(leases): Leases, Name(which): Name<String>) -> Result<Response, Failed> {
    let which = read(&which)?;
    let shown = ask(&leases.asks, CHANGE, |reply| Ask::Delete(which, reply)).await?;
    Ok(json(StatusCode::OK, &listed(shown)))
}

fn listed(shown: Vec<Shown>) -> Vec<Lease> {
    shown.into_iter().map(Lease::from).collect()
}

/// Takes over leases, or only says what would become of them.
#[utoipa::path(
    post,
    path = LEASES,
    operation_id = "importLeases",
    params(How),
    request_body = Vec<ImportedLease>,
    responses((status = 200, body = Vec<ImportResult>))
)]
async fn import(State(leases): Leases, Query(how): Query<How>, body: Bytes) -> Result<Response, Failed> {
    let written: Vec<ImportedLease> = serde_json::from_slice(&body)
        .map_err(|wrong| Failed(StatusCode::BAD_REQUEST, format!("not a list of leases: {wrong}")))?;
    let read: Vec<Result<Entry, String>> = written.iter().map(ImportedLease::read).collect();
    let entries = read.iter().flatten().cloned().collect();
    let dry_run = how.dry_run;
    let mut outcomes =
        ask(&leases.asks, CHANGE, |reply| Ask::Import { entries, dry_run, reply }).await?.into_iter();
    let results: Vec<ImportResult> = written
        .into_iter()
        .zip(read)
        .map(|(lease, read)| {
            let outcome = match read {
                Ok(_) => outcomes.next().unwrap_or(Outcome::Unchanged),
                Err(wrong) => Outcome::Refused(wrong),
            };
            let (outcome, reason) = match outcome {
                Outcome::Imported => ("imported", None),
                Outcome::Unchanged => ("unchanged", None),
                Outcome::Refused(reason) => ("refused", Some(reason)),
            };
            ImportResult { mac: lease.mac, address: lease.address, outcome: outcome.to_owned(), reason }
        })
        .collect();
    Ok(json(StatusCode::OK, &results))
}

fn read(which: &str) -> Result<Which, Failed> {
    which.parse().map_err(|wrong| Failed(StatusCode::BAD_REQUEST, format!("{wrong}")))
}

/// Writes what may be long elsewhere: machines wait for the thread of the Unix socket.
async fn work(write: impl FnOnce() -> Response + Send + 'static) -> Result<Response, Failed> {
    let written = tokio::task::spawn_blocking(write).await;
    written.map_err(|_| Failed(StatusCode::SERVICE_UNAVAILABLE, "xpxe is stopping".to_owned()))
}

/// How long the owner of the leases may take to show them, a million of them as well.
const LOOK: Duration = Duration::from_secs(15);
/// How long a change of as many may take.
const CHANGE: Duration = Duration::from_secs(300);

/// Has the owner of the leases do something, and waits for the end of it, but not for ever.
async fn ask<T>(
    asks: &mpsc::Sender<Ask>,
    patience: Duration,
    wanted: impl FnOnce(oneshot::Sender<Result<T, AskFailure>>) -> Ask,
) -> Result<T, Failed> {
    let stopping = || Failed(StatusCode::SERVICE_UNAVAILABLE, "xpxe is stopping: ask again later".to_owned());
    let (reply, answer) = oneshot::channel();
    let asked = timeout(patience, async {
        asks.send(wanted(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    });
    let silent = |_| {
        let seconds = patience.as_secs();
        Failed(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "the DHCP server has not answered within {seconds} s: look whether the disk of state_dir hangs (/readyz and \
                 the log say so), else restart xpxe. A change that was asked for may be made yet"
            ),
        )
    };
    Ok(asked.await.map_err(silent)???)
}

impl From<AskFailure> for Failed {
    fn from(failure: AskFailure) -> Self {
        let status = match &failure {
            AskFailure::Refused(Refusal::Unknown(_)) => StatusCode::NOT_FOUND,
            AskFailure::Refused(Refusal::Reserved { .. }) => StatusCode::CONFLICT,
            AskFailure::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, failure.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_daemon_that_does_not_answer_is_said_to_be_silent() {
        let (asks, _asked) = mpsc::channel(1);
        let patience = Duration::from_millis(50);
        for _ in ["the question is taken", "the queue is full"] {
            let asked =
                timeout(100 * patience, ask(&asks, patience, Ask::List)).await.expect("an answer in time");
            let Err(Failed(status, said)) = asked else { panic!("leases from nowhere") };
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(said.contains("the disk of state_dir hangs"), "{said}");
        }
    }
}
