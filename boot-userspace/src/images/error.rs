//! Why there is no image.

use std::io;
use std::path::Path;

use boot_engine::config::{ImageName, Sha256Digest};
use boot_engine::digest_list::ListError;

/// Why there is no image, or why the store could not be changed: a sentence that says what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ImageError {
    /// No record of that name, and no profile that has its URL.
    #[error("there is no image {0}; add it by: xpxe images add {0} URL")]
    Unknown(ImageName),
    /// A name whose bytes are not there and that has no upstream.
    #[error(
        "the bytes of image {0} are gone, and it has no upstream; add it again by: xpxe images add {0} FILE"
    )]
    Gone(ImageName),
    /// The record cannot be read.
    #[error(
        "{path} is no record of an image ({why}); remove it by: xpxe images remove {name}, and add the image again"
    )]
    Record {
        /// The record.
        path: String,
        /// Its name.
        name: ImageName,
        /// What is wrong with it.
        why: String,
    },
    /// The upstream does not give it. Has no keys and no signatures in it.
    #[error("{0}")]
    Upstream(String),
    /// Others are being fetched, and none of them ends.
    #[error(
        "it has waited {seconds} s for its turn, and {running} are still being fetched; the next machine that asks has it tried again"
    )]
    Busy {
        /// How long it has waited.
        seconds: u64,
        /// The others.
        running: String,
    },
    /// What came is not what was expected.
    #[error(
        "{from} is not the file that was expected: its SHA-256 is {found}, not {expected}; nobody got a byte of it. If the publisher has changed it, give the new digest"
    )]
    Wrong {
        /// Where it came from.
        from: String,
        /// The digest of what came.
        found: Sha256Digest,
        /// The digest of what should have come.
        expected: Sha256Digest,
    },
    /// It is larger than the store may be, or what is there has to stay.
    #[error("{0}")]
    TooLarge(String),
    /// The disk is full.
    #[error(
        "the disk of {dir} is full: {free} are free, and {needed} more are needed; free space there or lower size in [images]. Images that are there are served as before"
    )]
    Full {
        /// The store.
        dir: String,
        /// For people.
        free: String,
        /// For people.
        needed: String,
    },
    /// Reading or writing failed.
    #[error("{0}")]
    Disk(String),
    /// A digest list is of no use.
    #[error(transparent)]
    List(#[from] ListError),
}

impl ImageError {
    pub(super) fn disk(path: &Path, error: &io::Error) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "; start xpxe as the user that the store belongs to",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "; free space there or lower size in [images]"
            }
            io::ErrorKind::IsADirectory => "; xpxe never puts a directory there: remove it",
            io::ErrorKind::ReadOnlyFilesystem => "; the kernel's log may say why it cannot be written",
            _ => "",
        };
        Self::Disk(format!("{}: {error}{remedy}", path.display()))
    }
}
