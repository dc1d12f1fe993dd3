//! Sidero Metal. Its `/boot.ipxe` and `/tftp/` are paths of xpxe itself; an environment is a profile.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use boot_engine::boot::{is_url, url};

use super::{Call, text};

pub(super) async fn answer(call: &Call<'_>) -> Option<Response> {
    let path = call.path();
    let asset = path.strip_prefix("/env/").and_then(|rest| rest.split_once('/'));
    if asset.is_none() && !matches!(path, "/ipxe" | "/configdata") {
        return None;
    }
    if let Some(refused) = call.only_read() {
        return Some(refused);
    }
    Some(match (path, asset) {
        (_, Some((environment, file))) => env(call, environment, file).await,
        ("/ipxe", _) => call.script(&call.asked()).await,
        _ => call.document(&call.asked(), "talos"),
    })
}

/// `vmlinuz` and `initramfs.xz`, whatever their names are here.
async fn env(call: &Call<'_>, environment: &str, file: &str) -> Response {
    let profile = call.config.profiles.get(environment);
    let found = profile.and_then(|profile| match file {
        "vmlinuz" => Some(&profile.kernel),
        "initramfs.xz" => profile.initrd.first(),
        _ => None,
    });
    match found {
        // What is fetched from elsewhere, or kept as an image, has a link of its own.
        Some(name) if is_url(name) || name.starts_with("image:") => {
            // Nobody has looked who asks, so nobody signs it.
            let server = call.asked().server.signed_by(None);
            Redirect::temporary(&url(&server, name)).into_response()
        }
        Some(name) => call.file(name).await,
        None => {
            let why = "no such file: /env/ has vmlinuz and initramfs.xz of each [[profile]], by its name\n";
            text(StatusCode::NOT_FOUND, why)
        }
    }
}
