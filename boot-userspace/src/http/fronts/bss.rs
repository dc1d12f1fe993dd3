//! The Boot Script Service of OpenCHAMI and CSM: `/boot/v1/…`, also below `/apis/bss`.
//!
//! A host is a machine by its name (its xname), a MAC, or the label `nid`. Boot parameters are read from the configuration, and
//! written only there. What lists all machines at once is for `inventory_clients`.

mod inventory;
mod script;

use axum::extract::Query;
use axum::http::header::ALLOW;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use boot_engine::boot::plan::Asked;
use boot_engine::machines::Known;
use serde_json::{Value, json};

use super::{Call, json};

pub use inventory::History;

const JSON: &str = "application/json; charset=UTF-8";

pub(super) fn answer(call: &Call<'_>) -> Option<Response> {
    let path = call.path();
    let path = path.strip_prefix("/apis/bss").unwrap_or(path).strip_prefix("/boot/v1/")?;
    let (reads, method) = (call.reads(), &call.request.method);
    Some(match path.trim_end_matches('/') {
        "bootscript" if reads => script::bootscript(call),
        "bootparameters" if reads => inventory::boot_parameters(call),
        "bootparameters" if [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method) => {
            problem(
                StatusCode::NOT_IMPLEMENTED,
                "boot parameters are read from xpxe's configuration: write [[profile]] and [[machine]] there, \
             then run xpxe reload",
            )
        }
        "hosts" if reads => inventory::hosts(call),
        // There they are fetched anew from another service; here they are never old.
        "hosts" if *method == Method::POST => json(StatusCode::OK, JSON, &json!({})),
        "dumpstate" if reads => inventory::dump_state(call),
        "endpoint-history" if reads => inventory::endpoint_history(call),
        service if reads && service.starts_with("service/") => return status(service),
        "bootscript" | "dumpstate" | "endpoint-history" => not_allowed("GET"),
        "hosts" => not_allowed("GET,POST"),
        "bootparameters" => not_allowed("GET,POST,PUT,PATCH,DELETE"),
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

/// Whom a request means, in the order of the service: MACs, names, node numbers.
#[derive(Default)]
struct Hosts {
    macs: Vec<String>,
    names: Vec<String>,
    nids: Vec<String>,
    /// Everything else in the query.
    more: Vec<(String, String)>,
}

impl Hosts {
    fn of(call: &Call<'_>) -> Self {
        let Query(pairs) =
            Query::<Vec<(String, String)>>::try_from_uri(&call.request.uri).unwrap_or_default();
        let mut hosts = Self::default();
        for (key, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
            let list = match key.as_str() {
                "mac" => &mut hosts.macs,
                "name" => &mut hosts.names,
                "nid" => &mut hosts.nids,
                _ => {
                    hosts.more.push((key, value));
                    continue;
                }
            };
            list.extend(value.split(',').map(str::to_owned));
        }
        hosts
    }

    fn is_empty(&self) -> bool {
        self.macs.is_empty() && self.names.is_empty() && self.nids.is_empty()
    }

    fn more(&self, key: &str) -> Option<&str> {
        self.more.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

/// One that a request means.
enum Host {
    Mac(String),
    Name(String),
    Nid(String),
}

impl Host {
    /// As the service says whom it does not know.
    fn unknown(&self) -> String {
        match self {
            Self::Mac(mac) => format!("Not Found - Unknown MAC address '{mac}'"),
            Self::Name(name) => format!("Not Found - Unknown host name '{name}'"),
            Self::Nid(nid) => format!("Not Found - Unknown NID '{nid}'"),
        }
    }

    /// Who asks about this machine. None if there is none of that name or number: a MAC may be an unknown machine's.
    fn asked(&self, call: &Call<'_>) -> Option<Asked> {
        let machines = &call.site.machines;
        let is_it = |known: &Known| match self {
            Self::Mac(_) => false,
            Self::Name(name) => known.machine.name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name)),
            Self::Nid(nid) => known.machine.labels.get("nid") == Some(nid),
        };
        if let Self::Mac(mac) = self {
            return mac.parse().ok().map(|mac| call.asked_for(mac));
        }
        let known = machines.all().into_iter().find(is_it)?;
        let mac = known.machine.macs.first().copied();
        let asker = machines.asker(call.ends.client.ip(), mac, known.machine.uuid);
        // A machine that is known by neither, and asks from an address that is another one's.
        let is_it = asker.known.as_ref().is_some_and(|found| found.id == known.id);
        is_it.then(|| Asked { mac, ..call.asked_by(asker) })
    }
}

impl Hosts {
    fn all(self) -> Vec<Host> {
        let macs = self.macs.into_iter().map(Host::Mac);
        let names = self.names.into_iter().map(Host::Name);
        macs.chain(names).chain(self.nids.into_iter().map(Host::Nid)).collect()
    }
}

/// A host's name, as lists have it.
fn name_of(asked: &Asked) -> Option<String> {
    asked.asker.known.as_ref()?.machine.name.clone()
}

fn number(text: &str) -> Option<Value> {
    text.parse::<u32>().ok().map(Value::from)
}
