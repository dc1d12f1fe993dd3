//! The configuration of boot loaders that are no iPXE, by HTTP.

use std::sync::Arc;

use axum::response::Response;
use tokio::task::spawn_blocking;

use super::{Ends, Request, Site, boot};
use boot_engine::boot::esxi::{self, boot_cfg};
use boot_engine::boot::loader_config::Way;
use boot_engine::boot::loader_file::{Language, LoaderFile};
use boot_engine::boot::plan::NoScript;
use boot_engine::machines::Asker;

/// Writes it for the machine that asks, where `name` is that of such a file and boot_dir has none in its place.
pub(super) async fn written(site: &Site, ends: Ends, request: &Request, name: &str) -> Option<Response> {
    LoaderFile::named(name)?;
    let (files, name) = (Arc::clone(&site.files), name.to_owned());
    let file = spawn_blocking(move || files.to_be_written(&name)).await.ok().flatten()?;
    let server = |asker: &Asker| boot::server(site, ends, &request.headers, asker);
    let asked = file.asked(ends.client.ip(), &site.machines, server);
    let asked = site.for_boot(asked, &request.method);
    let offered = |asked: &_| site.scripts.offered(asked);
    let text = match file.language {
        Language::Esxi => match file.esxi_plan(&asked, offered)? {
            Err(refusal) => Err(refusal),
            Ok(plan) => {
                let (files, name) = (Arc::clone(&site.files), esxi::own_config(&plan));
                let own = spawn_blocking(move || files.text(&name, esxi::LARGEST)).await.ok()?;
                own.map_err(|error| NoScript::Broken(error.to_string()))
                    .and_then(|own| boot_cfg(&asked, Way::Http, &plan, &own))
            }
        },
        Language::Grub | Language::Pxelinux => file.text(&asked, Way::Http, offered)?,
    };
    Some(boot::answer(site, &asked, &request.method, request.uri.path(), text))
}
