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
use super::ending::Ending;
use super::outbox::Outbox;
use super::receipt::Receipts;

/// A request's headers have to be there within this time; so long a connection stays open without a request.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a request's line and headers together.
const LARGEST_HEADERS: usize = 16 * 1024;

/// What there is to know about a connection over TCP.
#[derive(Clone)]
pub(super) struct Tcp {
    /// Is told when each request begins and ends.
    pub(super) answering: Answering,
    /// Where handlers may put files; they find it among a request's extensions. None if the bytes are encrypted.
    pub(super) outbox: Option<Outbox>,
    /// Whether the daemon has ended the connection; handlers find it among a request's extensions.
    pub(super) ending: Ending,
    /// What the connection owes a receipt for; handlers find it among a request's extensions.
    pub(super) receipts: Receipts,
}

/// Bytes that are held for a connection before it is waited until it takes some.
const MOST_HELD: usize = 128 * 1024;

/// Answers the requests of one connection until it ends. Handlers may ask for `info` as [`ConnectInfo`].
pub(super) async fn speak<Info: Clone + Send + Sync + 'static>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send,
    router: Router,
    info: Info,
    tcp: Option<Tcp>,
) -> hyper::Result<()> {
    let service = Routes { router: TowerToHyperService::new(router), info, tcp };
    let ended = settings().serve_connection(TokioIo::new(io), service).await;
    if let Err(error) = &ended {
        tracing::debug!(%error, "an HTTP connection ended");
    }
    ended
}

fn settings() -> http1::Builder {
    let mut settings = http1::Builder::new();
    // GRUB 2.06, shim before 15.5, U-Boot and lwIP compare header names with case: they look for `Content-Length`.
    settings.title_case_headers(true);
    // BusyBox's wget shuts down its sending side after the request.
    settings.half_close(true);
    settings.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
    // Every connection may hold this much, whoever it is from.
    settings.max_header_size(LARGEST_HEADERS).max_buf_size(MOST_HELD);
    settings
}

struct Routes<Info> {
    router: TowerToHyperService<Router>,
    info: Info,
    tcp: Option<Tcp>,
}

impl<Info: Clone + Send + Sync + 'static> Service<Request<Incoming>> for Routes<Info> {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(ConnectInfo(self.info.clone()));
        let Some(Tcp { answering, outbox, ending, receipts }) = self.tcp.clone() else {
            return Box::pin(self.router.call(request));
        };
        if let Some(outbox) = &outbox {
            request.extensions_mut().insert(outbox.clone());
        }
        ending.is_requested();
        request.extensions_mut().insert(ending);
        request.extensions_mut().insert(receipts);
        answering.set(true);
        let until_sent = UntilSent(answering);
        let answer = self.router.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| Body::new(Watched { body, outbox, until_sent: Some(until_sent) })))
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
    outbox: Option<Outbox>,
    until_sent: Option<UntilSent>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        // hyper has got all of it; what stands in for a file may still have to be sent.
        if let Some(outbox) = &self.outbox {
            outbox.keep(self.until_sent.take());
        }
    }
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
