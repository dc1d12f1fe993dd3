//! A machine whose packets somebody records: as long as the request is open, the kernel half passes them on.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Path as Name, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use boot_common::Mac;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::io::ReaderStream;

use super::{Failed, Problem, Shared};
use crate::daemon::request::Ask;
use crate::http::api::Pass;
use crate::http::following::ended;

/// How often a client gets an empty line. That it has left shows only when one is written.
const ALIVE: Duration = Duration::from_millis(250);
/// How long the next client waits for the one before, which may have left already.
const LEAVING: Duration = Duration::from_millis(1500);
/// After so long it is over, whoever still waits for a boot: later than the command line's own longest time.
const LONGEST: Duration = Duration::from_secs(3660);

/// What is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Watched {
    /// The machine.
    pub mac: String,
    /// The interfaces that are served.
    pub interfaces: Vec<String>,
}

/// Leaves the machine to the kernel half again.
struct Watch(mpsc::Sender<Ask>);

impl Watch {
    async fn begin(asks: mpsc::Sender<Ask>, mac: Mac) -> Result<Self, Failed> {
        let stopping = || Failed(StatusCode::SERVICE_UNAVAILABLE, "xpxe is stopping".to_owned());
        let until = Instant::now() + LEAVING;
        loop {
            let (reply, answer) = oneshot::channel();
            asks.send(Ask::Watch(Some(mac), reply)).await.map_err(|_| stopping())?;
            if answer.await.map_err(|_| stopping())? {
                return Ok(Self(asks));
            }
            if Instant::now() >= until {
                let message = "another machine is being recorded: wait until that has ended";
                return Err(Failed(StatusCode::CONFLICT, message.to_owned()));
            }
            sleep(ALIVE).await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let asks = self.0.clone();
        // The daemon's queue may be full for a moment.
        tokio::spawn(async move {
            let (reply, _) = oneshot::channel();
            asks.send(Ask::Watch(None, reply)).await.ok();
        });
    }
}

/// Has the kernel half leave a machine to the daemon while the request is open, so that its packets can be recorded: first
/// the machine and the interfaces, then empty lines. One machine at a time, for an hour at most.
#[utoipa::path(
    post,
    path = super::CAPTURE,
    operation_id = "watchBoot",
    params(("which" = String, Path, description = "Its MAC, name or address.")),
    responses(
        (status = 200, body = Watched, content_type = "application/x-ndjson"),
        (status = 404, body = Problem),
        (status = 409, body = Problem)
    )
)]
pub(super) async fn capture(
    State(history): Shared,
    Name(which): Name<String>,
    pass: Option<Extension<Pass>>,
) -> Result<Response, Failed> {
    let mac = match which.parse::<Mac>() {
        // It need not have asked yet.
        Ok(mac) => mac,
        Err(_) => super::work(Arc::clone(&history), move |history| history.followed(&which)).await?,
    };
    let config = Arc::clone(history.scripts.get().planner().config());
    let watch = Watch::begin(history.asks.clone(), mac).await?;
    let interfaces = config.interfaces.iter().map(|interface| interface.name.clone()).collect();
    let watched = Watched { mac: mac.to_string(), interfaces };
    let (to, from) = tokio::io::duplex(4096);
    history.worker.spawn(async move {
        tokio::select! {
            () = keep(to, watched, watch) => {}
            () = ended(pass.map(|Extension(pass)| pass)) => {}
        }
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(ReaderStream::new(from))).into_response())
}

async fn keep(mut to: DuplexStream, watched: Watched, watch: Watch) {
    let Ok(mut line) = serde_json::to_vec(&watched) else { return };
    line.push(b'\n');
    let mut alive = interval(ALIVE);
    let written = async {
        let mut nothing = [0];
        while to.write_all(&line).await.is_ok() {
            line = b"\n".to_vec();
            tokio::select! {
                _ = alive.tick() => {}
                // Nobody writes there: it ends when the answer is given up.
                _ = to.read(&mut nothing) => return,
            }
        }
    };
    timeout(LONGEST, written).await.ok();
    drop(watch);
}
