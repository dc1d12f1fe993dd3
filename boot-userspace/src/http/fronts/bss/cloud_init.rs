//! `/meta-data` and `/user-data`, which cloud-init finds by `ds=nocloud-net;s=` of the script.
//!
//! The machine is the one that has the address which asks: nobody can ask for another one. What was written through the service goes
//! before the machine's documents.

use axum::extract::Query;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use boot_engine::boot::documents::NoDocument;
use boot_engine::boot::parameters::{CloudInit, GLOBAL, Whose, patch};
use boot_engine::boot::plan::Asked;
use serde_json::{Map, Value};

use super::super::{Call, json};
use super::history::Endpoint;
use super::{JSON, name_of, problem};

type Data = Map<String, Value>;

pub(super) fn meta_data(call: &Call<'_>) -> Response {
    let asked = asked(call);
    let written = written(call, &asked, |of| of.meta_data.as_ref());
    if written.is_none() && has_document(call, &asked, "meta-data") {
        return call.document(&asked, "meta-data");
    }
    let mut data = written.unwrap_or_default();
    identify(&asked, &mut data);
    let table = call.site.boot_parameters.table.get();
    let global = table.named(GLOBAL).and_then(|of| of.cloud_init.as_ref()?.meta_data.clone());
    data.insert(GLOBAL.to_owned(), Value::from(global.unwrap_or_default()));
    let uri = &call.request.uri;
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).unwrap_or_default();
    let all = Value::from(data);
    let Some((_, path)) = pairs.iter().find(|(key, _)| key == "key") else {
        return json(StatusCode::OK, JSON, &all);
    };
    match path.split('.').try_fold(&all, |value, key| value.get(key)) {
        Some(value) => json(StatusCode::OK, JSON, value),
        None => problem(StatusCode::NOT_FOUND, "Not Found"),
    }
}

pub(super) fn user_data(call: &Call<'_>) -> Response {
    let asked = asked(call);
    let written = written(call, &asked, |of| of.user_data.as_ref());
    if written.is_none() && has_document(call, &asked, "user-data") {
        return call.document(&asked, "user-data");
    }
    let mut data = written.unwrap_or_default();
    let mut meta = self::written(call, &asked, |of| of.meta_data.as_ref()).unwrap_or_default();
    identify(&asked, &mut meta);
    if let Some(name) = meta.remove("local-hostname") {
        data.entry("local-hostname").or_insert(name);
    }
    if let Some(name) = name_of(&asked) {
        call.site.history.note(&name, Endpoint::UserData);
    }
    // JSON is YAML.
    let text = format!("#cloud-config\n{}\n", Value::from(data));
    (StatusCode::OK, [(CONTENT_TYPE, "text/yaml"), (CACHE_CONTROL, "no-store")], text).into_response()
}

fn asked(call: &Call<'_>) -> Asked {
    let asker = call.site.machines.asker(call.ends.client.ip(), None, None);
    let mac = asker.client.as_ref().map(|client| client.mac);
    Asked { mac, ..call.asked_by(asker) }
}

/// What was written, that of the role first.
fn written(call: &Call<'_>, asked: &Asked, part: impl Fn(&CloudInit) -> Option<&Data>) -> Option<Data> {
    let table = call.site.boot_parameters.table.get();
    let mut parts = table.cloud_init(&Whose::from(asked)).into_iter().filter_map(part).peekable();
    parts.peek()?;
    Some(parts.fold(Data::new(), |mut all, one| {
        patch(&mut all, one);
        all
    }))
}

fn has_document(call: &Call<'_>, asked: &Asked, name: &str) -> bool {
    !matches!(call.site.scripts.document(asked, name), Err(NoDocument::Nothing(_)))
}

/// What cloud-init needs of every machine, and what the service says of it.
fn identify(asked: &Asked, data: &mut Data) {
    let name = name_of(asked);
    let id = name.clone().unwrap_or_else(|| asked.called());
    data.insert("instance-id".to_owned(), id.into());
    if let Some(name) = name {
        data.entry("local-hostname").or_insert_with(|| name.into());
    }
    let role = asked.machine().and_then(|machine| machine.labels.get("role"));
    if let Some(role) = role {
        data.entry("shasta-role").or_insert_with(|| role.as_str().into());
    }
}
