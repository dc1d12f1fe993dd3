//! What happens to images of the content store.

use std::time::Duration;

use crate::config::{ImageName, Sha256Digest};

/// What happens to images of the content store.
#[derive(Clone, Debug)]
pub enum Image {
    /// Others may write to the store's directory: a sentence that says what to do.
    StoreIsOpen(String),
    /// An image's record cannot be read.
    BadRecord {
        /// Its name.
        name: ImageName,
        /// Why.
        error: String,
    },
    /// An image's bytes cannot be read.
    Unreadable {
        /// Their digest.
        digest: Sha256Digest,
        /// Why.
        error: String,
    },
    /// Somebody changed an image on disk.
    Damaged {
        /// The digest that it had.
        digest: Sha256Digest,
        /// The file.
        path: String,
        /// The store's directory.
        store: String,
    },
    /// A fetch waits for others to end.
    Waits {
        /// The image.
        name: ImageName,
        /// The images that are being fetched, for people.
        running: String,
    },
    /// A fetch was interrupted, and is tried again.
    Retried {
        /// The image.
        name: ImageName,
        /// What interrupted it.
        why: String,
        /// How long the fetch waits.
        pause: Duration,
    },
    /// An image was fetched.
    Fetched {
        /// Its name.
        name: ImageName,
        /// Its digest.
        digest: Sha256Digest,
        /// Its size.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// An image could not be fetched.
    NotFetched {
        /// Its name.
        name: ImageName,
        /// Why.
        error: String,
    },
    /// A copy could not be compared with its upstream, and is served.
    NotCompared {
        /// Its name.
        name: ImageName,
        /// Why.
        error: String,
    },
    /// Machines get no URL of S3 for an image that they are to fetch there.
    NotSigned {
        /// Its name.
        name: ImageName,
        /// Why: a sentence.
        error: String,
    },
    /// An image's bytes were removed to make room for others.
    Removed {
        /// Their digest.
        digest: Sha256Digest,
        /// How many.
        bytes: u64,
        /// The images that have them; none if no image has them any more.
        names: Vec<ImageName>,
    },
}
