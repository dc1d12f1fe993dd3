//! HTTP/1.1 on one connection, as clients in firmware can read it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connections::Answering;
use super::delivery::CHUNK;

/// A request's headers have to be there within this time; so long a connection stays open without a request.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a request's line and headers together.
const LARGEST_HEADERS: usize = 16 * 1024;

/// Answers the requests of one connection until it ends. `answering` is told when each begins and ends; handlers may
/// ask for `info` as [`ConnectInfo`].
pub(super) async fn speak<Info: Clone + Send + Sync + 'static>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send,
    router: Router,
    info: Info,
    answering: Option<Answering>,
) {
    let service = Routes { router: TowerToHyperService::new(router), info, answering };
    let connection = settings().serve_connection(TokioIo::new(io), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

fn settings() -> http1::Builder {
    let mut settings = http1::Builder::new();
    // GRUB 2.06, shim before 15.5, U-Boot and lwIP compare header names with case: they look for `Content-Length`.
    settings.title_case_headers(true);
    // BusyBox's wget shuts down its sending side after the request.
    settings.half_close(true);
    settings.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
    // Every connection may hold this much, whoever it is from.
    settings.max_header_size(LARGEST_HEADERS).max_buf_size(CHUNK);
    settings
}

struct Routes<Info> {
    router: TowerToHyperService<Router>,
    info: Info,
    answering: Option<Answering>,
}

impl<Info: Clone + Send + Sync + 'static> Service<Request<Incoming>> for Routes<Info> {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(ConnectInfo(self.info.clone()));
        let answer = self.router.call(request);
        let Some(answering) = self.answering.clone() else { return Box::pin(answer) };
        answering.set(true);
        let until_sent = UntilSent(answering);
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| Body::new(Watched { body, _until_sent: until_sent })))
        })
    }
}

struct UntilSent(Answering);

impl Drop for UntilSent {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// A body whose end is told.
struct Watched {
    body: Body,
    _until_sent: UntilSent,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
