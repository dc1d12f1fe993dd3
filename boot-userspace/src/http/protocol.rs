//! HTTP/1.1 on one connection, as clients in firmware can read it.

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};

/// Answers the requests of one connection until it ends.
pub(super) async fn speak<Info: Clone + Send + Sync + 'static>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send,
    router: Router,
    info: Info,
) {
    let service = Routes { router: TowerToHyperService::new(router), info };
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
    settings
}

/// The routes, which may ask for a connection's `Info` as [`ConnectInfo`].
struct Routes<Info> {
    router: TowerToHyperService<Router>,
    info: Info,
}

impl<Info: Clone + Send + Sync + 'static> Service<Request<Incoming>> for Routes<Info> {
    type Response = Response;
    type Error = std::convert::Infallible;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(ConnectInfo(self.info.clone()));
        self.router.call(request)
    }
}
