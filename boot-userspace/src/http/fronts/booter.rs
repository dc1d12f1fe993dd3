//! Sidero Booter. Its `/ipxe/boot.ipxe` and `/tftp/` are paths of xpxe itself.

use axum::extract::Query;
use axum::response::Response;
use boot_engine::boot::plan::Asked;
use boot_engine::config::parse_uuid;

use super::Call;

pub(super) fn answer(call: &Call<'_>) -> Option<Response> {
    let answer = match call.path() {
        "/ipxe/init.ipxe" => Call::bootstrap,
        "/config" => config,
        _ => return None,
    };
    Some(call.only_read().unwrap_or_else(|| answer(call)))
}

/// The machine is the one whose UUID is `u`.
fn config(call: &Call<'_>) -> Response {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&call.request.uri).unwrap_or_default();
    let uuid = pairs.into_iter().find(|(key, _)| key == "u").map(|(_, uuid)| uuid);
    let bytes = uuid.as_deref().and_then(|uuid| parse_uuid(uuid).ok());
    let asker = call.site.machines.asker(call.ends.client.ip(), None, bytes);
    let mac = asker.client.as_ref().map(|client| client.mac);
    call.document(&Asked { mac, ..call.asked_by(asker) }, "talos")
}
