//! The Boot Script Service of OpenCHAMI and CSM: `/boot/v1/…`, also below `/apis/bss`.
//!
//! A host is a machine by its name (its xname), a MAC, or the label `nid`. Boot parameters are those of the configuration until
//! somebody in `bss_writers` writes others. What lists all machines at once is for `inventory_clients`.

mod cloud_init;
mod history;
mod hosts;
mod inventory;
mod script;
mod write;

use axum::body::Body;
use axum::http::header::ALLOW;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use boot_engine::boot::parameters::Act;
use boot_engine::boot::plan::Asked;
use serde_json::{Value, json};

use super::super::documents;
use super::{Call, json};

pub use history::History;

const JSON: &str = "application/json; charset=UTF-8";

/// `body` is taken where it is read.
pub(super) async fn answer(call: &Call<'_>, body: &mut Option<Body>) -> Option<Response> {
    let path = call.path();
    let path = path.strip_prefix("/apis/bss").unwrap_or(path);
    let (reads, method) = (call.reads(), &call.request.method);
    // Where cloud-init looks, they have no base.
    match path {
        "/meta-data" if reads => return Some(cloud_init::meta_data(call)),
        "/user-data" if reads => return Some(cloud_init::user_data(call)),
        "/meta-data" | "/user-data" => return Some(not_allowed("GET")),
        "/phone-home" => {
            let body = body.take().unwrap_or_default();
            return Some(documents::phone_home_of(call.site, call.ends, call.request, body).await);
        }
        _ => {}
    }
    let path = path.strip_prefix("/boot/v1/")?;
    let act = match *method {
        Method::POST => Some(Act::Add),
        Method::PUT => Some(Act::Set),
        Method::PATCH => Some(Act::Update),
        Method::DELETE => Some(Act::Remove),
        _ => None,
    };
    Some(match path.trim_end_matches('/') {
        "bootscript" if reads => script::bootscript(call),
        "bootparameters" if reads => inventory::boot_parameters(call),
        "bootparameters" => match act {
            Some(act) => write::write(call, act, body.take().unwrap_or_default()).await,
            None => not_allowed("GET,PUT,POST,PATCH,DELETE"),
        },
        "hosts" if reads => inventory::hosts(call),
        // There machines are fetched anew from another service; here they are never old.
        "hosts" if *method == Method::POST => StatusCode::NO_CONTENT.into_response(),
        "scn" if *method == Method::POST => StatusCode::OK.into_response(),
        "scn" => not_allowed("POST"),
        "dumpstate" if reads => inventory::dump_state(call),
        "endpoint-history" if reads => inventory::endpoint_history(call),
        service if reads && service.starts_with("service/") => return status(service),
        "bootscript" | "dumpstate" | "endpoint-history" => not_allowed("GET"),
        "hosts" => not_allowed("GET,POST"),
        _ => return None,
    })
}

fn status(path: &str) -> Option<Response> {
    let (running, version) = ("running", env!("CARGO_PKG_VERSION"));
    let storage = json!({ "name": "xpxe", "status": "connected" });
    let status = match path {
        "service/status" => json!({ "bss-status": running }),
        "service/version" => json!({ "bss-version": version }),
        "service/hsm" => json!({ "bss-status-hsm": "connected" }),
        "service/storage/status" => json!({ "bss-storage-backend": storage }),
        "service/status/all" => json!({
            "bss-version": version,
            "bss-status": running,
            "bss-status-hsm": "connected",
            "bss-storage-backend": storage,
        }),
        _ => return None,
    };
    Some(json(StatusCode::OK, JSON, &status))
}

/// An error as RFC 7807 has it.
fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or_default();
    let value = json!({ "type": "about:blank", "title": title, "detail": detail, "status": status.as_u16() });
    json(status, "application/problem+json", &value)
}

fn not_allowed(allowed: &'static str) -> Response {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("allow {allowed}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// A host's name, as lists have it.
fn name_of(asked: &Asked) -> Option<String> {
    asked.asker.known.as_ref()?.machine.name.clone()
}

fn number(text: &str) -> Option<Value> {
    text.parse::<u32>().ok().map(Value::from)
}
