//! The operators' API, on a Unix socket in `state_dir` that only the daemon's user may open.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::protocol;
use crate::daemon::request::ReloadRequest;
use crate::host::replace::remove;
use boot_engine::reload::Changes;

/// The path of [`reload_router`].
pub const RELOAD: &str = "/api/v1/reload";
/// The socket's name in `state_dir`.
const SOCKET: &str = "api.sock";
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

/// What a reload has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reloaded {
    /// Each in a few words.
    pub changed: Vec<String>,
    /// The keys that wait for a restart.
    pub waiting: Vec<String>,
    /// The first machines of the registry that are not served any more, each with the reason, and how many others there are.
    #[serde(default)]
    pub not_served: Vec<String>,
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
        Ok(Ok(Changes { changed, waiting, not_served })) => {
            json(StatusCode::OK, &Reloaded { changed, waiting, not_served })
        }
        Ok(Err(errors)) => json(StatusCode::UNPROCESSABLE_ENTITY, &NotReloaded { errors }),
        Err(_) => stopping(),
    }
}

/// What an error's body has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// One sentence.
    pub error: String,
}

/// An error as HTTP has it.
pub(super) struct Failed(pub(super) StatusCode, pub(super) String);

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
}
