//! EC2's instance metadata as Tinkerbell serves it: `/2009-04-04/meta-data/…` and `/2009-04-04/user-data`.
//!
//! The machine is the one that has the address which asks: nobody can ask for another one.

use axum::http::StatusCode;
use axum::response::Response;
use boot_engine::boot::plan::Asked;

use super::{Call, text};

const ROOT: &str = "/2009-04-04";

pub(super) fn answer(call: &Call<'_>) -> Option<Response> {
    let path = call.path().strip_prefix(ROOT)?;
    if !path.is_empty() && !path.starts_with('/') {
        return None;
    }
    if let Some(refused) = call.only_read() {
        return Some(refused);
    }
    let asker = call.site.machines.asker(call.ends.client.ip(), None, None);
    let mac = asker.client.as_ref().map(|client| client.mac);
    let asked = Asked { mac, ..call.asked_by(asker) };
    Some(match path.trim_matches('/') {
        "" => text(StatusCode::OK, "meta-data/\nuser-data\n"),
        "user-data" => call.document(&asked, "user-data"),
        "meta-data" => meta_data(call, &asked, None),
        path => match path.strip_prefix("meta-data/") {
            Some(key) => meta_data(call, &asked, Some(key)),
            None => text(StatusCode::NOT_FOUND, "there are only meta-data/ and user-data\n"),
        },
    })
}

/// One value, or the list of all keys that this machine has.
fn meta_data(call: &Call<'_>, asked: &Asked, wanted: Option<&str>) -> Response {
    let address = call.ends.client.ip();
    let known = asked.asker.known.as_ref().map(|known| &known.machine);
    let mac = asked.mac.map(|mac| mac.to_string());
    let name = known.and_then(|machine| machine.name.clone());
    let Some(id) = name.clone().or(mac.clone()) else {
        let why = format!(
            "no machine is known to have the address {address}: it has no lease and no [[machine]]\n"
        );
        return text(StatusCode::NOT_FOUND, why);
    };
    // As tags, which are texts there.
    let tags: Option<Vec<String>> =
        known.map(|machine| machine.labels.iter().map(|(key, value)| format!("{key}={value}")).collect());
    let keys = [
        ("hostname", name.clone()),
        ("instance-id", Some(id)),
        ("local-hostname", name),
        ("local-ipv4", Some(address.to_string())),
        ("mac", mac),
        ("tags", tags.filter(|tags| !tags.is_empty()).map(|tags| tags.join("\n"))),
    ];
    let mut keys = keys.into_iter().filter_map(|(key, value)| Some((key, value?)));
    match wanted {
        None => {
            let keys: Vec<&str> = keys.map(|(key, _)| key).collect();
            text(StatusCode::OK, keys.join("\n"))
        }
        Some(wanted) => match keys.find(|(key, _)| *key == wanted) {
            Some((_, value)) => text(StatusCode::OK, value),
            None => text(StatusCode::NOT_FOUND, "this machine has no such key\n"),
        },
    }
}
