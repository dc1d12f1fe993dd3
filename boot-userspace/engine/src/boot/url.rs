//! The URLs of what this server has.

use super::{Server, is_url};
use crate::config::ImageRef;

/// A path in the boot directory or an image as a URL; URLs stay as they are.
#[must_use]
pub fn url(server: &Server, path: &str) -> String {
    // What the configuration has was read before.
    match ImageRef::read(path) {
        Some(Ok(image)) => match server.elsewhere(&image.name) {
            Some(url) => url.to_owned(),
            None => server.link(&format!("/images/{}", image.name)),
        },
        _ if is_url(path) => path.to_owned(),
        _ => server.link(&format!("/files/{path}")),
    }
}
