//! `/api/v1/import`: many machines in one request, and one commit of the store for a thousand of them.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query as Parameters};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Failed, Registry, Shared, json};
use crate::daemon::request::{ImportItem, Imported, RegistryAsk};

/// The path.
pub const IMPORT: &str = "/api/v1/import";
/// Machines of one request. The registry answers nobody else meanwhile.
const MOST: usize = 1000;
/// Bytes of one request.
const LARGEST_BODY: usize = 4 << 20;

/// The parameters.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// Change nothing, and say what would become of them.
    dry_run: bool,
}

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(import)).layer(DefaultBodyLimit::max(LARGEST_BODY))
}

/// Adds and changes many machines.
#[utoipa::path(
    post,
    path = IMPORT,
    operation_id = "importMachines",
    params(Asked),
    request_body = Vec<ImportItem>,
    responses((status = 200, body = Imported))
)]
async fn import(
    Registry(shared): Registry,
    Parameters(Asked { dry_run }): Parameters<Asked>,
    body: Bytes,
) -> Answer {
    let items: Vec<ImportItem> = shared.read(body).await?;
    if items.len() > MOST {
        return Err(Failed::bad(format!(
            "{} machines are too many for one request: send at most {MOST}",
            items.len()
        )));
    }
    let imported = shared.registry.ask(|reply| RegistryAsk::Import(items, dry_run, reply)).await?;
    Ok(json(StatusCode::OK, &imported))
}
