//! What the languages of boot loaders need to know.

use boot_common::Mac;

use super::loader_file::LoaderFile;
use super::plan::{Asked, Plan};
use super::url::url;
use crate::config::Arch;

/// How a loader came by its configuration, and so how it comes by files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// TFTP.
    Tftp,
    /// HTTP, with the files of the boot directory below `/files/`.
    Http,
}

/// Plans for a machine: one, or others for some architectures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plans {
    /// For every other architecture.
    pub(super) usual: Plan,
    /// Those that differ.
    pub(super) of_arch: Vec<(Arch, Plan)>,
}

/// What both languages need to know.
pub(super) struct Context<'a> {
    pub(super) file: &'a LoaderFile,
    pub(super) asked: &'a Asked,
    pub(super) way: Way,
}

/// The link of a file that is had by HTTP only: an image, a URL, or one whose link is signed.
pub(super) fn link(context: &Context<'_>, path: &str) -> Option<String> {
    let server = &context.asked.server;
    let of_boot_dir = server.at(format_args!("/files/{}", encoded(path)));
    Some(url(server, path)).filter(|link| *link != of_boot_dir)
}

/// A name of the boot directory as it can stand in the language of every loader. Names are decoded where there is no file
/// of the encoded name.
pub(super) fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// A MAC as the names of files have it.
pub(super) fn dashed(mac: Mac) -> String {
    mac.to_string().replace(':', "-")
}
