//! Parameters that a path does not have are refused: a misspelt `version` must not be as good as none.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{MatchedPath, Query, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::Value;
use utoipa::openapi::OpenApi;

use crate::http::admin::{Problem, json};

/// The parameters that each operation of a path has, as the document has them.
#[derive(Debug)]
pub(super) struct Parameters(HashMap<String, HashMap<Method, Vec<String>>>);

impl Parameters {
    pub(super) fn of(routes: &OpenApi) -> Self {
        let document = serde_json::to_value(routes).unwrap_or_default();
        let mut all: HashMap<String, HashMap<Method, Vec<String>>> = HashMap::new();
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
                let is_query = |parameter: &&Value| parameter["in"] == "query";
                let queries = operation["parameters"].as_array().into_iter().flatten().filter(is_query);
                let names = queries.filter_map(|parameter| parameter["name"].as_str().map(str::to_owned));
                all.entry(path.clone()).or_default().insert(method, names.collect());
            }
        }
        Self(all)
    }

    /// What is wrong with the parameters of a request.
    fn wrong(&self, request: &Request) -> Option<String> {
        let method = match request.method() {
            &Method::HEAD => Method::GET,
            other => other.clone(),
        };
        let path = request.extensions().get::<MatchedPath>()?.as_str();
        // A path that the document does not have has none; a method that a path does not have is refused as that.
        let known = match self.0.get(path) {
            Some(methods) => methods.get(&method)?.as_slice(),
            None => &[],
        };
        // One that cannot be read is for whoever wants to read it.
        let Query(sent) = Query::<Vec<(String, String)>>::try_from_uri(request.uri()).ok()?;
        let (unknown, _) = sent.into_iter().find(|(name, _)| !known.contains(name))?;
        let there_are = match known {
            [] => "there are none".to_owned(),
            known => format!("write {}", known.join(", ")),
        };
        Some(format!("there is no parameter {unknown:?} here: {there_are}"))
    }
}

pub(super) async fn refuse_unknown(
    State(known): State<Arc<Parameters>>,
    request: Request,
    next: Next,
) -> Response {
    match known.wrong(&request) {
        Some(error) => json(StatusCode::BAD_REQUEST, &Problem { error }),
        None => next.run(request).await,
    }
}
