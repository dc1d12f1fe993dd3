//! Paths that are none of xpxe's own.

use axum::extract::{ConnectInfo, Extension, State};
use axum::http::header::HeaderMap;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::ending::Ending;
use super::outbox::Outbox;
use super::{Ends, Request, Site, files, fronts, shown};
use crate::files::percent;
use boot_engine::boot::loader_file::LoaderFile;
use boot_engine::events::{Http, Machine, Step};

/// A front's path, or one that nobody knows.
pub(super) async fn nothing_there(
    State(site): State<Site>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    method: Method,
    uri: Uri,
    outbox: Option<Extension<Outbox>>,
    ending: Option<Extension<Ending>>,
    headers: HeaderMap,
) -> Response {
    // A GRUB that came by HTTP looks for its configuration from the root on.
    let name = percent::decode(uri.path()).filter(|name| LoaderFile::named(name).is_some());
    let outbox = outbox.map(|Extension(outbox)| outbox);
    let ending = ending.map_or_else(Ending::default, |Extension(ending)| ending);
    let request = Request { method, uri, headers, ending };
    if let Some(name) = name.filter(|_| matches!(request.method, Method::GET | Method::HEAD)) {
        return files::named(&site, ends, &request, outbox, name).await;
    }
    if let Some(answer) = fronts::answer(&site, ends, &request, outbox.as_ref()).await {
        return answer;
    }
    let step = Step::Http(ends.client.ip(), Http::NoSuchPath(shown(request.uri.path())));
    site.happened(site.machines.client_at(ends.client.ip()).map(Machine::from), step);
    (StatusCode::NOT_FOUND, "there is nothing: boot files are under /files/\n").into_response()
}
