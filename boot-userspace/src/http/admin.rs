//! The operators' API, on a Unix socket in `state_dir` that only the daemon's user may open.

use std::fs::{self, Permissions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as Name, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::protocol;
use crate::daemon::request::{Ask, AskFailure, ReloadRequest};
use crate::host::replace::remove;
use boot_engine::leases::{Entry, Outcome, Refusal, Shown, Which};
use boot_engine::reload::Changes;

/// The path of all leases.
pub const LEASES: &str = "/api/v1/leases";
const LEASES_OF: &str = "/api/v1/leases/{which}";
/// The path of [`reload_router`].
pub const RELOAD: &str = "/api/v1/reload";
/// The socket's name in `state_dir`.
const SOCKET: &str = "api.sock";
/// Bytes of an import: four million leases. Who may use the socket may fill the daemon's memory by other ways, too.
pub(crate) const LARGEST_IMPORT: usize = 512 << 20;

/// Where the socket is.
#[must_use]
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join(SOCKET)
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers on it.
    #[error("another xpxe is running{}: stop it, or set another state_dir", .0.map_or_else(String::new, |pid| format!(" (pid {pid})")))]
    Running(Option<i32>),
    /// Anything else.
    #[error("cannot listen on {path}: {source}; check state_dir", path = .0.display(), source = .1)]
    Other(PathBuf, io::Error),
}

/// Opens the socket; one that a dead daemon has left is replaced.
///
/// # Errors
/// One sentence that says what to do.
pub fn listen(state_dir: &Path) -> Result<UnixListener, ListenError> {
    let path = socket(state_dir);
    if let Ok(stream) = BlockingStream::connect(&path) {
        let peer = getsockopt(&stream, PeerCredentials).map(|peer| peer.pid());
        return Err(ListenError::Running(peer.ok().filter(|pid| *pid != 0)));
    }
    let other = |error| ListenError::Other(path.clone(), error);
    // Under another name until its mode is right.
    let new = path.with_extension("new");
    remove(&new).map_err(other)?;
    let listener = UnixListener::bind(&new).map_err(other)?;
    fs::set_permissions(&new, Permissions::from_mode(0o600)).map_err(other)?;
    fs::rename(&new, &path).map_err(other)?;
    Ok(listener)
}

/// Serves for ever.
pub async fn serve(mut listener: UnixListener, router: Router) {
    loop {
        // axum's own accept outlasts passing errors such as too many open files.
        let (stream, _) = Listener::accept(&mut listener).await;
        drop(tokio::spawn(protocol::speak(stream, router.clone(), (), None)));
    }
}

/// The routes. `asks` leads to the owner of the leases.
pub fn router(asks: mpsc::Sender<Ask>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, import))
        .routes(routes!(show, delete))
        .layer(DefaultBodyLimit::max(LARGEST_IMPORT))
        .with_state(asks)
}

/// What a reload has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reloaded {
    /// Each in a few words.
    pub changed: Vec<String>,
    /// The keys that wait for a restart.
    pub waiting: Vec<String>,
}

/// Why nothing was reloaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NotReloaded {
    /// Every problem of the configuration, with file, line and key.
    pub errors: Vec<String>,
}

/// The route of `xpxe reload`.
pub fn reload_router(reloads: mpsc::Sender<ReloadRequest>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(reload)).with_state(reloads)
}

/// Reads the configuration anew.
#[utoipa::path(
    post,
    path = RELOAD,
    operation_id = "reload",
    responses((status = 200, body = Reloaded), (status = 422, body = NotReloaded))
)]
async fn reload(State(reloads): State<mpsc::Sender<ReloadRequest>>) -> Response {
    let stopping = || Failed(StatusCode::SERVICE_UNAVAILABLE, "xpxe is stopping".to_owned()).into_response();
    let (reply, answer) = oneshot::channel();
    if reloads.send(reply).await.is_err() {
        return stopping();
    }
    match answer.await {
        Ok(Ok(Changes { changed, waiting })) => json(StatusCode::OK, &Reloaded { changed, waiting }),
        Ok(Err(errors)) => json(StatusCode::UNPROCESSABLE_ENTITY, &NotReloaded { errors }),
        Err(_) => stopping(),
    }
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

/// What an error's body has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// One sentence.
    pub error: String,
}

/// `?dry_run=true`
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct How {
    /// Change nothing.
    #[serde(default)]
    dry_run: bool,
}

type Asks = State<mpsc::Sender<Ask>>;

/// Every lease.
#[utoipa::path(get, path = LEASES, operation_id = "listLeases", responses((status = 200, body = Vec<Lease>)))]
async fn list(State(asks): Asks) -> Result<Response, Failed> {
    let leases = ask(&asks, LOOK, Ask::List).await?;
    Ok(json(StatusCode::OK, &listed(leases)))
}

/// The leases of a machine, or of an address.
#[utoipa::path(
    get,
    path = LEASES_OF,
    operation_id = "showLeases",
    params(("which" = String, Path, description = "A MAC or an address.")),
    responses((status = 200, body = Vec<Lease>), (status = 404, body = Problem))
)]
async fn show(State(asks): Asks, Name(which): Name<String>) -> Result<Response, Failed> {
    let which = read(&which)?;
    let shown = which.find(ask(&asks, LOOK, Ask::List).await?);
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
async fn delete(State(asks): Asks, Name(which): Name<String>) -> Result<Response, Failed> {
    let which = read(&which)?;
    let shown = ask(&asks, CHANGE, |reply| Ask::Delete(which, reply)).await?;
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
async fn import(State(asks): Asks, Query(how): Query<How>, body: Bytes) -> Result<Response, Failed> {
    let leases: Vec<ImportedLease> = serde_json::from_slice(&body)
        .map_err(|wrong| Failed(StatusCode::BAD_REQUEST, format!("not a list of leases: {wrong}")))?;
    let read: Vec<Result<Entry, String>> = leases.iter().map(ImportedLease::read).collect();
    let entries = read.iter().flatten().cloned().collect();
    let dry_run = how.dry_run;
    let mut outcomes = ask(&asks, CHANGE, |reply| Ask::Import { entries, dry_run, reply }).await?.into_iter();
    let results: Vec<ImportResult> = leases
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

/// An error as HTTP has it.
pub(super) struct Failed(pub(super) StatusCode, pub(super) String);

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

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        json(self.0, &Problem { error: self.1 })
    }
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(failure) => (StatusCode::INTERNAL_SERVER_ERROR, failure.to_string()).into_response(),
    }
}

/// Unix seconds as `2026-11-21T01:38:15Z`.
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March have their leap day at the end; 400 of them are one era.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year_of_era + next_year;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_date_writes_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_800_000_000, "2027-01-15T08:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
        assert!(rfc3339(u64::MAX).ends_with('Z'), "no overflow");
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_names_its_owner() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let dir = tempfile::tempdir().unwrap();
        drop(listen(dir.path()).unwrap());
        assert!(socket(dir.path()).exists(), "a killed daemon leaves it");
        let _live = listen(dir.path()).unwrap();
        let mode = fs::metadata(socket(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let said = listen(dir.path()).unwrap_err().to_string();
        assert!(said.contains(&format!("another xpxe is running (pid {})", std::process::id())), "{said}");
    }

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
