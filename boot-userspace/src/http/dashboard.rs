//! The dashboard at `/ui`: a page that asks the API. It has nothing of any machine in it, so everybody may have it.

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;

/// Scripts and styles come from here only, and so does what they ask; nobody may put the page into a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files with their types.
const FILES: [(&str, &str, &str); 9] = [
    ("", HTML, include_str!("dashboard/index.html")),
    ("ui.css", STYLE, include_str!("dashboard/ui.css")),
    ("icon.svg", "image/svg+xml", include_str!("dashboard/icon.svg")),
    ("main.js", SCRIPT, include_str!("dashboard/main.js")),
    ("api.js", SCRIPT, include_str!("dashboard/api.js")),
    ("wall.js", SCRIPT, include_str!("dashboard/wall.js")),
    ("figures.js", SCRIPT, include_str!("dashboard/figures.js")),
    ("machine.js", SCRIPT, include_str!("dashboard/machine.js")),
    ("events.js", SCRIPT, include_str!("dashboard/events.js")),
];

pub(super) fn router() -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/ui/") }))
        .route("/ui", get(|| async { Redirect::temporary("/ui/") }))
        .route("/ui/", get(|| async { file("") }))
        .route("/ui/{name}", get(|Path(name): Path<String>| async move { file(&name) }))
}

fn file(name: &str) -> Response {
    let Some((_, kind, text)) = FILES.iter().find(|(other, ..)| *other == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (CONTENT_TYPE, *kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        // Another version of xpxe has another page.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, *text).into_response()
}
