//! The URLs of what this server has.

use super::{Origin, is_url};
use crate::config::ImageRef;

/// A path in the boot directory or an image as a URL; URLs stay as they are.
#[must_use]
pub fn url(server: &Origin, path: &str) -> String {
    // What the configuration has was read before.
    if let Some(Ok(image)) = ImageRef::read(path) {
        return server.at(format_args!("/images/{}", image.name));
    }
    if is_url(path) {
        return path.to_owned();
    }
    let mut url = server.at("/files/");
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                url.push(char::from(byte));
            }
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}
