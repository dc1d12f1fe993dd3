//! The document of the API, as OpenAPI 3.1: from the list of the routes and the types that they read and write, completed by what
//! is the same for all of them.

use axum::http::Method;
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

use super::guard::{Needed, needed};

/// What is said of a status where the route says nothing.
const MEANINGS: [(&str, &str); 13] = [
    ("200", "Done."),
    ("201", "Done."),
    ("400", "The request cannot be read."),
    ("401", "No valid token."),
    ("403", "The token does not allow that."),
    ("404", "There is no such thing."),
    ("408", "The change took too long; it may have been made."),
    ("409", "It does not go together with what there is now."),
    ("410", "What has changed since then is not known: list again."),
    ("413", "The body is too long."),
    ("422", "What was written is wrong."),
    ("502", "The BMC refuses, or does not answer."),
    ("503", "It cannot be done now; the error says why."),
];

/// How the API is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Over TCP, with a token.
    Network,
    /// On the Unix socket, by whoever may open it.
    Socket,
}

/// The document of these routes.
pub(super) fn write(routes: OpenApi, way: Way) -> Vec<u8> {
    let mut document = serde_json::to_value(routes).unwrap_or_default();
    without_signs(&mut document);
    let description = match way {
        Way::Network => "The API of xpxe over TCP. Tokens are made by xpxe tokens add on the server.",
        Way::Socket => "The API of xpxe on its Unix socket. Whoever may open that needs no token.",
    };
    document["info"] = json!({"title": "xpxe", "version": "1", "description": description});
    if way == Way::Network {
        document["components"]["securitySchemes"] = json!({"token": {"type": "http", "scheme": "bearer"}});
    }
    document["components"]["schemas"]["Problem"] = problem();
    for (path, item) in document["paths"].as_object_mut().into_iter().flatten() {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            let method = method.to_uppercase().parse().unwrap_or(Method::GET);
            if way == Way::Network {
                say_who_may(operation, &method, path);
            }
            complete(operation, &method, way);
        }
    }
    serde_json::to_vec(&document).unwrap_or_default()
}

/// Numbers without a sign are larger than the formats that they are given.
fn without_signs(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.get("minimum").is_some_and(|minimum| minimum == 0) {
                object.remove("format");
            }
            object.values_mut().for_each(without_signs);
        }
        Value::Array(values) => values.iter_mut().for_each(without_signs),
        _ => {}
    }
}

/// Which token somebody needs for it.
fn say_who_may(operation: &mut Value, method: &Method, path: &str) {
    let says = match needed(method, path) {
        Needed::Public => "Needs any token, or none with public_read.".to_owned(),
        Needed::Role(role) => format!("Needs the role {}.", role.name()),
    };
    let more = operation["description"].as_str().map(|text| format!("{text} {says}"));
    operation["description"] = more.unwrap_or(says).into();
    let open = matches!(needed(method, path), Needed::Public).then(|| json!({}));
    operation["security"] = [json!({"token": []})].into_iter().chain(open).collect();
}

/// What the answers have that are the guard's, or of a request that no handler has seen.
fn complete(operation: &mut Value, method: &Method, way: Way) {
    let is_guarded = way == Way::Network;
    let is_slow_change = is_guarded && *method != Method::GET;
    let has_body = operation.get("requestBody").is_some();
    let common = [
        ("400", true),
        ("401", is_guarded),
        ("403", is_guarded),
        ("408", is_slow_change),
        ("413", has_body),
        ("503", true),
    ];
    let empty = Map::new();
    let said = operation["responses"].as_object().unwrap_or(&empty).clone();
    let said = common.into_iter().filter(|(_, is_there)| *is_there).fold(said, |mut said, (status, _)| {
        let schema = json!({"$ref": "#/components/schemas/Problem"});
        said.entry(status).or_insert_with(|| json!({"content": {"application/json": {"schema": schema}}}));
        said
    });
    operation["responses"] = said.into_iter().map(|(status, response)| described(status, response)).collect();
}

fn described(status: String, mut response: Value) -> (String, Value) {
    if response["description"].as_str().is_none_or(str::is_empty) {
        let meaning = MEANINGS.iter().find(|(known, _)| *known == status).map_or("", |(_, meaning)| meaning);
        response["description"] = meaning.into();
    }
    (status, response)
}

fn problem() -> Value {
    json!({
        "type": "object",
        "properties": {"error": {"type": "string", "description": "One sentence."}},
        "required": ["error"],
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tokio::sync::mpsc;

    use super::*;
    use crate::daemon::request::{RegistryHandle, Webhooks};
    use crate::http::api::tokens::{self, Tokens};
    use crate::http::boots::History;
    use crate::http::{leases, machines, webhooks};

    #[tokio::test]
    async fn every_operation_says_who_may_do_it_and_what_it_is_told() {
        let routes = leases::router(mpsc::channel(1).0)
            .merge(machines::router(RegistryHandle::none(), History::empty()))
            .merge(webhooks::router(Webhooks::none()));
        let document: Value = serde_json::from_slice(&write(routes.into_openapi(), Way::Network)).unwrap();
        let mut ids = HashSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id.to_owned()), "{id} twice");
                assert!(operation["summary"].is_string(), "{id}");
                assert!(operation["description"].as_str().unwrap().contains("Needs "), "{id}");
                let responses = operation["responses"].as_object().unwrap();
                for (status, response) in responses {
                    assert_ne!(response["description"], "", "{id} {status}");
                }
                for status in ["401", "403", "503"] {
                    assert!(responses.contains_key(status), "{id} {status}");
                }
                assert_eq!(responses.contains_key("408"), method != "get", "{id}");
                let named = operation["parameters"].as_array().into_iter().flatten();
                let named: HashSet<_> =
                    named.filter(|it| it["in"] == "path").map(|it| it["name"].as_str().unwrap()).collect();
                let in_path: HashSet<_> =
                    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
                assert_eq!(named, in_path, "{id}");
            }
        }
        assert!(ids.len() > 15, "{ids:?}");
        let text = document.to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "there is no schema {name}");
        }
    }

    #[test]
    fn the_socket_has_the_routes_of_tokens_and_needs_none() {
        let dir = tempfile::tempdir().unwrap();
        let routes = tokens::router(Tokens::open(dir.path())).into_openapi();
        let document: Value = serde_json::from_slice(&write(routes, Way::Socket)).unwrap();
        let add = &document["paths"]["/api/v1/tokens"]["post"];
        assert_eq!((&add["operationId"], add.get("security")), (&json!("addToken"), None));
        assert!(add["responses"]["201"].is_object() && add["responses"].get("401").is_none(), "{add}");
        assert!(document["paths"]["/api/v1/tokens/{name}"]["delete"].is_object());
        assert_eq!(document["components"].get("securitySchemes"), None);
    }
}
