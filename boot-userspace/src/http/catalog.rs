//! `/api/v1/profiles` and `/api/v1/images`: what machines may boot.

mod images;
mod profiles;

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tokio::runtime::Handle;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::admin::{Failed, Problem, json};
use crate::host::live::Live;
use crate::images::{ImageError, Images};
use boot_engine::boot::script::ScriptWriter;
use boot_engine::config::{Config, ImageName};
use boot_engine::machines::Machines;

pub use images::ShownImage;
pub use profiles::{ShownArch, ShownGroup, ShownProfile};

/// The path of all profiles.
pub const PROFILES: &str = "/api/v1/profiles";
const PROFILE: &str = "/api/v1/profiles/{name}";
/// The path of all images of the content store.
pub const IMAGES: &str = "/api/v1/images";
const IMAGE: &str = "/api/v1/images/{name}";

/// Where they are.
#[derive(Clone)]
pub struct Catalog {
    /// Has the configuration as it is now.
    pub scripts: Live<ScriptWriter>,
    /// The machines, which are counted by their profiles.
    pub machines: Machines,
    /// The content store.
    pub images: Arc<Images>,
    /// Where it is worked: neither all machines nor the disk must be in front of a packet.
    pub worker: Handle,
}

/// The routes.
pub fn router(catalog: Catalog) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list_profiles))
        .routes(routes!(show_profile))
        .routes(routes!(list_images))
        .routes(routes!(show_image))
        .with_state(catalog)
}

/// Every profile.
#[utoipa::path(
    get,
    path = PROFILES,
    operation_id = "listProfiles",
    responses((status = 200, body = Vec<ShownProfile>))
)]
async fn list_profiles(State(catalog): State<Catalog>) -> Result<Response, Failed> {
    catalog
        .work(|catalog| Ok(json(StatusCode::OK, &profiles::all(&catalog.config(), &catalog.machines))))
        .await
}

/// One profile.
#[utoipa::path(
    get,
    path = PROFILE,
    operation_id = "showProfile",
    params(("name" = String, Path, description = "Its name.")),
    responses((status = 200, body = ShownProfile), (status = 404, body = Problem))
)]
async fn show_profile(State(catalog): State<Catalog>, Path(name): Path<String>) -> Result<Response, Failed> {
    let show = move |catalog: &Catalog| {
        let mut all = profiles::all(&catalog.config(), &catalog.machines).into_iter();
        one(all.find(|profile| profile.name == name), "profile", &name)
    };
    catalog.work(show).await
}

/// Every image of the content store, and those that profiles name and that are not there yet.
#[utoipa::path(
    get,
    path = IMAGES,
    operation_id = "listImages",
    responses((status = 200, body = Vec<ShownImage>))
)]
async fn list_images(State(catalog): State<Catalog>) -> Result<Response, Failed> {
    let list = |catalog: &Catalog| {
        Ok(json(StatusCode::OK, &images::all(&catalog.images, &catalog.config(), &catalog.machines)?))
    };
    catalog.work(list).await
}

/// One image.
#[utoipa::path(
    get,
    path = IMAGE,
    operation_id = "showImage",
    params(("name" = String, Path, description = "Its name.")),
    responses((status = 200, body = ShownImage), (status = 404, body = Problem))
)]
async fn show_image(State(catalog): State<Catalog>, Path(name): Path<String>) -> Result<Response, Failed> {
    let show = move |catalog: &Catalog| {
        let mut all = images::all(&catalog.images, &catalog.config(), &catalog.machines)?.into_iter();
        let is_a_name = name.parse::<ImageName>().is_ok();
        one(all.find(|image| is_a_name && image.name == name), "image", &name)
    };
    catalog.work(show).await
}

/// The answer of who asks for one of them.
fn one(found: Option<impl Serialize>, what: &str, name: &str) -> Result<Response, Failed> {
    let message = || format!("there is no {what} {name}; xpxe {what}s list shows all");
    let found = found.ok_or_else(|| Failed(StatusCode::NOT_FOUND, message()))?;
    Ok(json(StatusCode::OK, &found))
}

impl Catalog {
    async fn work(
        self,
        act: impl FnOnce(&Self) -> Result<Response, Failed> + Send + 'static,
    ) -> Result<Response, Failed> {
        let worker = self.worker.clone();
        let worked = worker.spawn_blocking(move || act(&self)).await;
        worked.map_err(|_| Failed(StatusCode::SERVICE_UNAVAILABLE, "xpxe is stopping".to_owned()))?
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(self.scripts.get().planner().config())
    }
}

impl From<ImageError> for Failed {
    fn from(error: ImageError) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}
