//! Paths that are none of xpxe's own.

use std::sync::Arc;

use axum::extract::{ConnectInfo, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};

use super::ending::Ending;
use super::outbox::Outbox;
use super::{Ends, Request, Site, files, fronts, shown};
use crate::files::percent;
use boot_engine::boot::loader_file::LoaderFile;
use boot_engine::events::{Http, Machine, Step};

/// A front's path, or one that nobody knows.
pub(super) async fn nothing_there(
    State(site): State<Arc<Site>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    request: axum::extract::Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Parts { method, uri, headers, mut extensions, .. } = parts;
    let outbox = extensions.remove::<Outbox>();
    let ending = extensions.remove::<Ending>().unwrap_or_default();
    let request = Request { method, uri, headers, ending };
    // A GRUB that came by HTTP looks for its configuration from the root on.
    let name = percent::decode(request.uri.path()).filter(|name| LoaderFile::named(name).is_some());
    if let Some(name) = name.filter(|_| matches!(request.method, Method::GET | Method::HEAD)) {
        return files::named(&site, ends, &request, outbox, name).await;
    }
    if let Some(answer) = fronts::answer(&site, ends, &request, outbox.as_ref(), body).await {
        return answer;
    }
    let step = Step::Http(ends.client.ip(), Http::NoSuchPath(shown(request.uri.path())));
    site.happened(site.machines.client_at(ends.client.ip()).map(Machine::from), step);
    (StatusCode::NOT_FOUND, "there is nothing: boot files are under /files/\n").into_response()
}
