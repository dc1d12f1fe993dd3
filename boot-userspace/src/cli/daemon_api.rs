//! The running daemon's API, on its Unix socket.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Error, Result, anyhow};
use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Method, Request, Response, StatusCode};
use hyper::body::Body as _;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use super::{ConfigFile, configuration};
use crate::host::lock::{holder_of, with_pid};
use crate::http::admin::{self, Problem};
use boot_engine::config::Config;

/// A connection to the daemon.
pub(super) struct DaemonApi(SendRequest<Body>);

impl DaemonApi {
    /// Connects; nothing if no daemon listens there.
    pub(super) async fn open(socket: &Path) -> Result<Option<Self>> {
        let stream = match UnixStream::connect(socket).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(cannot_use(socket, error)),
        };
        let (sender, connection) = handshake(TokioIo::new(ToDaemon(stream))).await?;
        // How it ends is what the request says.
        tokio::spawn(async { connection.await.ok() });
        Ok(Some(Self(sender)))
    }

    /// The daemon's answer.
    pub(super) async fn send(&mut self, request: Request<Body>) -> Result<Response<Body>> {
        Ok(self.0.send_request(request).await.context("the daemon did not answer")?.map(Body::new))
    }
}

/// The daemon answers a request that it refuses before it has read all of it, and reads no more. So what it does not take is
/// no error: the answer is.
struct ToDaemon(UnixStream);

impl AsyncRead for ToDaemon {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, to)
    }
}

impl AsyncWrite for ToDaemon {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.0).poll_write(context, bytes) {
            Poll::Ready(Err(error))
                if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
            {
                Poll::Ready(Ok(bytes.len()))
            }
            other => other,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Why no daemon listens on its socket: a sentence without a remedy.
pub(super) fn absence(state_dir: &Path) -> String {
    let socket = admin::socket(state_dir);
    match holder_of(state_dir) {
        Some(pid) => format!(
            "xpxe{} runs, and does not answer on {}: it starts or ends, or the socket was deleted",
            with_pid(Some(pid)),
            socket.display()
        ),
        None => format!(
            "no xpxe answers on {}: it is not running, or its state_dir is another one since it was started",
            socket.display()
        ),
    }
}

/// A request of the API.
pub(super) fn request(method: Method, path: &str, body: impl Into<Body>) -> Result<Request<Body>> {
    let request = Request::builder().method(method).uri(path).header(HOST, "xpxe");
    Ok(request.header(CONTENT_TYPE, "application/json").body(body.into())?)
}

/// The answer's body.
pub(super) async fn read(answer: Response<Body>) -> Result<(StatusCode, String)> {
    let status = answer.status();
    let body = to_bytes(answer.into_body(), usize::MAX).await.context("the daemon's answer is cut")?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// The lines of an answer as they come; the empty ones, which are signs of life, are passed over.
pub(super) struct Lines {
    body: Body,
    rest: Vec<u8>,
}

impl Lines {
    pub(super) fn of(body: Body) -> Self {
        Self { body, rest: Vec::new() }
    }

    /// The next one; none at the end of the answer.
    pub(super) async fn next(&mut self) -> Result<Option<String>> {
        loop {
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(String::from_utf8_lossy(line.trim_ascii()).into_owned()));
                }
            }
            let frame = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|_| anyhow!("xpxe has ended, or has cut its answer off"))?;
            self.rest.extend(frame.into_data().unwrap_or_default());
        }
    }
}

/// What the running daemon answers to a question about something; a refusal is an error with the daemon's reason.
pub(super) fn ask(file: &ConfigFile, path: &str) -> Result<String> {
    send(file, Method::GET, path, String::new())
}

/// The same of a change.
pub(super) fn send(file: &ConfigFile, method: Method, path: &str, body: String) -> Result<String> {
    let config = configuration::load(&file.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (status, body) = read(running(&config).await?.send(request(method, path, body)?).await?).await?;
        refusal(status, &body).map_or(Ok(body), Err)
    })
}

/// The running daemon.
pub(super) async fn running(config: &Config) -> Result<DaemonApi> {
    let daemon = DaemonApi::open(&admin::socket(&config.state_dir)).await?;
    daemon.ok_or_else(|| anyhow!("xpxe is not running: only a running xpxe knows what happens to machines"))
}

/// The reason that the daemon gives; none of an answer.
pub(super) fn refusal(status: StatusCode, body: &str) -> Option<Error> {
    if status.is_success() {
        return None;
    }
    let reason = serde_json::from_str(body).map(|Problem { error }| error);
    Some(anyhow!(reason.unwrap_or_else(|_| format!("the daemon answered {status}: {body}"))))
}

fn cannot_use(socket: &Path, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::PermissionDenied => anyhow!(
            "no permission to use {}: run this as root, or as the user xpxe runs as",
            socket.display()
        ),
        _ => Error::new(error).context(format!("cannot use {}", socket.display())),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_comes_before_the_whole_request_was_read_is_what_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("api.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let answering = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            client.read_u8().await.unwrap();
            let body = r#"{"error":"too long"}"#;
            let head = format!("HTTP/1.1 413 Payload Too Large\r\nContent-Length: {}\r\n\r\n", body.len());
            client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        });
        let mut daemon = DaemonApi::open(&socket).await.unwrap().unwrap();
        let sent = request(Method::POST, "/", "x".repeat(4 << 20)).unwrap();
        let (status, body) = read(daemon.send(sent).await.unwrap()).await.unwrap();
        assert_eq!(refusal(status, &body).unwrap().to_string(), "too long");
        answering.await.unwrap();
    }
}
