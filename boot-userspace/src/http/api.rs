//! The API and the dashboard over TCP, for people who have a token.

mod document;
mod guard;
mod parameters;
mod tokens;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Extension;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use axum::routing::get;
use axum::{Router, middleware};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::admin::{json, rfc3339};
use super::connections::Connections;
use super::{ConnectionStats, Tls, dashboard, serve_plainly, tls};
use boot_engine::events::Events;

use document::Way;
use guard::Caller;
pub use guard::Guard;
pub(super) use guard::Pass;
use parameters::Parameters;
pub use tokens::{NewToken, Role, ShownToken, TOKENS, Tokens, WantedToken};

/// The path of who asks.
pub const WHO: &str = "/api/v1/whoami";

/// The path of what there is, as OpenAPI 3.1.
pub const DOCUMENT: &str = "/api/v1/openapi.json";

/// Connections at once: people, their scripts, and what watches.
const MOST_CONNECTIONS: usize = 64;
/// Of one address.
const MOST_PER_ADDRESS: usize = 32;

/// `routes` for those whose token allows it, `others` too, which the document does not have, and the dashboard for everybody: it
/// has nothing in it.
pub fn router(routes: OpenApiRouter, others: Router, guard: Guard) -> Router {
    let guard = Arc::new(guard);
    with_document(routes.routes(routes!(who)), others, Way::Network)
        .layer(middleware::from_fn_with_state(guard, guard::guard))
        .merge(dashboard::router())
}

/// The same on the Unix socket, for whoever may open it, with the routes of tokens: so no token makes another.
pub fn local_router(routes: OpenApiRouter, tokens: Tokens) -> Router {
    with_document(routes.merge(tokens::router(tokens)), Router::new(), Way::Socket)
}

/// Routes with the document that describes them; whatever is wrong is answered in the same way.
fn with_document(routes: OpenApiRouter, others: Router, way: Way) -> Router {
    let (routes, list) = routes.split_for_parts();
    let parameters = Arc::new(Parameters::of(&list));
    let document: Bytes = document::write(list, way).into();
    routes
        .merge(others)
        .route(DOCUMENT, get(|| async { ([(CONTENT_TYPE, "application/json")], document) }))
        .fallback(guard::nothing_there)
        .layer(middleware::from_fn_with_state(parameters, parameters::refuse_unknown))
        .layer(middleware::map_response(guard::errors_as_json))
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Who {
    /// The token's name; none without one.
    pub name: Option<String>,
    /// What he may: `public`, `read`, `operate` or `admin`.
    pub role: String,
    /// When the token ends (RFC 3339).
    pub expires_at: Option<String>,
}

/// Whose the token is.
#[utoipa::path(get, path = WHO, operation_id = "whoami", responses((status = 200, body = Who)))]
async fn who(Extension(caller): Extension<Caller>) -> Response {
    let Caller { name, role, expires } = caller;
    let role = role.map_or("public", Role::name).to_owned();
    json(StatusCode::OK, &Who { name, role, expires_at: expires.map(rfc3339) })
}
