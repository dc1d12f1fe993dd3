//! Tinkerbell's smee: iPXE binaries, and a script for each machine.

use axum::http::StatusCode;
use axum::response::Response;
use boot_engine::boot::plan::NoScript;

use super::{Call, refused, text};

pub(super) async fn answer(call: &Call<'_>) -> Option<Response> {
    let path = call.path();
    let binary = path.strip_prefix("/ipxe/binary/");
    let script = path.strip_prefix("/ipxe/script/");
    if binary.is_none() && script.is_none() {
        return None;
    }
    if let Some(refused) = call.only_read() {
        return Some(refused);
    }
    Some(match binary {
        // A MAC or a trace may stand before the name.
        Some(path) => match path.rsplit('/').next().unwrap_or(path) {
            "snp-x86_64.efi" => call.file("snp.efi").await,
            name => call.file(name).await,
        },
        None => auto(call, script.unwrap_or_default()).await,
    })
}

async fn auto(call: &Call<'_>, path: &str) -> Response {
    let asked = match path.split_once('/') {
        None if path == "auto.ipxe" => call.asked(),
        Some((mac, "auto.ipxe")) => match mac.parse() {
            Ok(mac) => call.asked_for(mac),
            Err(_) => return text(StatusCode::NOT_FOUND, "there is no MAC address before auto.ipxe\n"),
        },
        _ => return text(StatusCode::NOT_FOUND, "the one script is auto.ipxe\n"),
    };
    match call.site.scripts.plan(&asked) {
        Err(no_script @ NoScript::NotForYou(_)) => {
            let (status, why) = refused(&no_script);
            call.tell(&asked, &Err(no_script));
            text(status, why + "\n")
        }
        _ => call.script(&asked).await,
    }
}
