//! matchbox. Its `/boot.ipxe` is a path of xpxe itself.

use axum::extract::Query;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use boot_engine::boot::loader_config::Way;
use boot_engine::boot::loader_file::LoaderFile;
use boot_engine::boot::plan::NoScript;
use boot_engine::config::Machine;

use super::super::boot;
use super::{Call, refused, text};
use crate::files::percent;

pub(super) async fn answer(call: &Call<'_>) -> Option<Response> {
    let path = call.path();
    let asset = path.strip_prefix("/assets/");
    let known = ["/", "/boot.ipxe.0", "/ipxe", "/grub", "/metadata", "/ignition", "/cloud", "/generic"];
    if asset.is_none() && !known.contains(&path) {
        return None;
    }
    if let Some(refused) = call.only_read() {
        return Some(refused);
    }
    Some(match (path, asset.map(percent::decode)) {
        (_, Some(Some(name))) => call.file(&name).await,
        (_, Some(None)) => text(StatusCode::BAD_REQUEST, "the path is not percent-encoded UTF-8\n"),
        ("/boot.ipxe.0", _) => call.bootstrap(),
        ("/ipxe", _) => call.script(&call.asked()).await,
        ("/grub", _) => grub(call),
        ("/metadata", _) => metadata(call),
        ("/ignition", _) => call.document(&call.asked(), "ignition"),
        ("/cloud", _) => call.document(&call.asked(), "user-data"),
        ("/generic", _) => call.document(&call.asked(), "generic"),
        // Who looks whether matchbox is there sees that.
        _ => text(StatusCode::OK, "matchbox\n"),
    })
}

fn grub(call: &Call<'_>) -> Response {
    let asked = call.for_boot(call.asked());
    let config = LoaderFile::named("grub.cfg")
        .and_then(|file| file.text(&asked, Way::Http, |asked| call.site.scripts.plan(asked)));
    let config = config.unwrap_or_else(|| Err(NoScript::Broken("GRUB has no such file".to_owned())));
    boot::answer(call.site, &asked, &call.request.method, call.path(), config)
}

/// A line for each label and identity, then what the query says.
fn metadata(call: &Call<'_>) -> Response {
    let asked = call.asked();
    let lines = call.site.scripts.plan(&asked).map(|_| {
        let known = asked.asker.known.as_ref();
        let mut lines = known.map(|known| of_machine(&known.machine)).unwrap_or_default();
        let uri = &call.request.uri;
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).unwrap_or_default();
        for (key, value) in pairs {
            let value = match (key.as_str(), asked.mac) {
                ("mac", Some(mac)) => mac.to_string(),
                _ => value,
            };
            lines += &line(&format!("request_query_{key}"), &value);
        }
        lines + &line("request_raw_query", uri.query().unwrap_or_default())
    });
    call.tell(&asked, &lines);
    let mut response = match lines {
        Ok(lines) => text(StatusCode::OK, lines),
        Err(no_script) => {
            let (status, why) = refused(&no_script);
            text(status, why + "\n")
        }
    };
    if response.status() == StatusCode::OK {
        // As matchbox has it.
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("plain/text"));
    }
    response
}

fn of_machine(machine: &Machine) -> String {
    let labels = machine.labels.iter().map(|(key, value)| line(key, value));
    let name = machine.name.iter().map(|name| line("name", name));
    let mac = machine.macs.first().map(|mac| line("mac", &mac.to_string()));
    labels.chain(name).chain(mac).collect()
}

/// What the client itself says makes no line of its own.
fn line(key: &str, value: &str) -> String {
    let key: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    let value: String = value.chars().filter(|c| !c.is_control()).collect();
    format!("{key}={value}\n")
}
