//! The configuration of boot loaders that are no iPXE, by HTTP.

use std::sync::Arc;

use axum::response::Response;
use tokio::task::spawn_blocking;

use super::{Ends, Request, Site, boot};
use boot_engine::boot::loader_config::Way;
use boot_engine::boot::loader_file::LoaderFile;
use boot_engine::machines::Asker;

/// Writes it for the machine that asks, where `name` is that of such a file and boot_dir has none in its place.
pub(super) async fn written(site: &Site, ends: Ends, request: &Request, name: &str) -> Option<Response> {
    LoaderFile::named(name)?;
    let (files, name) = (Arc::clone(&site.files), name.to_owned());
    let file = spawn_blocking(move || files.to_be_written(&name)).await.ok().flatten()?;
    let server = |asker: &Asker| boot::server(site, ends, &request.headers, asker);
    let asked = file.asked(ends.client.ip(), &site.machines, server);
    let asked = site.for_boot(asked, &request.method);
    let text = file.text(&asked, Way::Http, |asked| site.scripts.plan(asked))?;
    Some(boot::answer(site, &asked, &request.method, request.uri.path(), text))
}
