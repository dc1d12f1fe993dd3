//! The API and the dashboard over TCP, for people who have a token.

mod guard;
mod tokens;

use std::sync::Arc;

use axum::extract::Extension;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use axum::routing::get;
use axum::{Router, middleware};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::admin::{json, rfc3339};
use super::connections::Connections;
use super::{ConnectionStats, Tls, dashboard, serve_plainly, tls};
use boot_engine::events::Events;

use guard::Caller;
pub use guard::Guard;
pub(super) use guard::Pass;
pub use tokens::{NewToken, Role, ShownToken, TOKENS, Tokens, WantedToken};

/// The path of who asks.
pub const WHO: &str = "/api/v1/whoami";

/// The path of what there is, as OpenAPI 3.1.
pub const DOCUMENT: &str = "/api/v1/openapi.json";
const OPENAPI: &str = include_str!("api/openapi.json");

/// Connections at once: people, their scripts, and what watches.
const MOST_CONNECTIONS: usize = 64;
/// Of one address.
const MOST_PER_ADDRESS: usize = 32;

/// `routes` for those whose token allows it, and the dashboard for everybody: it has nothing in it.
pub fn router(routes: Router, guard: Guard) -> Router {
    let guard = Arc::new(guard);
    routes
        .route(WHO, get(who))
        .route(DOCUMENT, get(|| async { ([(CONTENT_TYPE, "application/json")], OPENAPI) }))
        .fallback(guard::nothing_there)
        .layer(middleware::from_fn_with_state(guard, guard::guard))
        .merge(dashboard::router())
}

/// The route of tokens: on the Unix socket only, so that no token makes another.
pub fn tokens_router(tokens: Tokens) -> Router {
    tokens::router(tokens)
}

/// Serves for ever.
pub async fn serve(listener: TcpListener, tls: Option<Tls>, router: Router, events: Events) {
    let stats = Arc::<ConnectionStats>::default();
    let connections = Connections::of_few(listener, MOST_CONNECTIONS, MOST_PER_ADDRESS, stats);
    match tls {
        Some(tls) => {
            tokio::spawn(tls.clone().follow());
            tls::serve(connections, router, tls, events).await;
        }
        None => serve_plainly(connections, router, events).await,
    }
}

/// Who asks, as the API sees him.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The token's name; none without one.
    pub name: Option<String>,
    /// What he may: `public`, `read`, `operate` or `admin`.
    pub role: String,
    /// When the token ends (RFC 3339).
    pub expires_at: Option<String>,
}

async fn who(Extension(caller): Extension<Caller>) -> Response {
    let Caller { name, role, expires } = caller;
    let role = role.map_or("public", Role::name).to_owned();
    json(StatusCode::OK, &Who { name, role, expires_at: expires.map(rfc3339) })
}

#[cfg(test)]
mod tests {
    use super::OPENAPI;

    /// The routes as the sources have them, but for those of the Unix socket and those without a description of their own.
    fn routed() -> Vec<&'static str> {
        let sources = [
            include_str!("admin.rs"),
            include_str!("machines.rs"),
            include_str!("boots.rs"),
            include_str!("api.rs"),
        ];
        let before_tests = |source: &'static str| source.split("#[cfg(test)]").next().unwrap_or_default();
        let paths = sources.into_iter().flat_map(move |source| before_tests(source).split('"'));
        paths.filter(|text| text.starts_with("/api/v1/") && *text != super::DOCUMENT).collect()
    }

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let described: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        let routed = routed();
        assert!(routed.len() > 12, "{routed:?}");
        for path in &routed {
            assert!(described.iter().any(|other| other == path), "openapi.json does not have {path}");
        }
        for path in described {
            assert!(routed.contains(&path.as_str()), "no source has {path} of openapi.json");
        }
    }
}
