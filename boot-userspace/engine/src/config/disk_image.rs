//! The disk image of a machine of the registry.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::image;

/// The longest name or serial number of a disk.
const LONGEST_DISK: usize = 128;

/// An image that the agent writes to a disk of a machine, which boots from there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskImage {
    /// `url`: a file in `boot_dir`, or `image:NAME`: raw, or compressed by gzip or zstd.
    pub url: String,
    /// `sha256`: the digest of the file as it is, in 64 hexadecimal digits.
    pub sha256: String,
    /// `disk`: serial number or kernel's name of the disk. Default: the only one there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
}

impl DiskImage {
    /// Whether the agent could write it, or everything that is wrong with it, each with its key.
    pub(super) fn check(&self, boot_dir: &Path) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        if self.url.contains("://") {
            let why = "the agent talks to this server only: write a file in boot_dir, or fetch the image (xpxe images add) and \
                       write image:NAME";
            wrong.push(("image.url", why.to_owned()));
        } else if let Err(why) = image::kernel(&self.url, boot_dir) {
            wrong.push(("image.url", why));
        }
        if self.sha256.len() != 64 || !self.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let why = "write the 64 hexadecimal digits that sha256sum prints for the file as it is fetched";
            wrong.push(("image.sha256", why.to_owned()));
        }
        let is_name = |disk: &String| {
            !disk.is_empty() && disk.len() <= LONGEST_DISK && disk.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !self.disk.as_ref().is_none_or(is_name) {
            wrong.push((
                "image.disk",
                "write the serial number of a disk, or its name, such as nvme0n1".to_owned(),
            ));
        }
        wrong
    }
}
