//! What is known of a name: which image it means now, and where that comes from.

use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

use super::error::ImageError;
use super::layout::{self, Layout};
use boot_engine::config::{ImageName, ImageSource, Sha256Digest};

/// A name and its record, or what is wrong with that.
pub type Named = (ImageName, Result<Record, ImageError>);

/// One name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where it comes from; none: from a file, and no other copy is known.
    pub url: Option<String>,
    /// What the operator says that it is; none: whatever the upstream has.
    #[serde(default, with = "digest")]
    pub expected: Option<Sha256Digest>,
    /// What it is: the blob that has it.
    #[serde(default, with = "digest")]
    pub sha256: Option<Sha256Digest>,
    /// In bytes.
    #[serde(default)]
    pub size: u64,
    /// It never leaves to make room.
    #[serde(default)]
    pub pinned: bool,
    /// What the upstream calls this content (RFC 9110 section 8.8.3).
    #[serde(default)]
    pub etag: Option<String>,
    /// When the upstream's content has changed, as it says it.
    #[serde(default)]
    pub modified: Option<String>,
    /// When it came, in Unix seconds.
    #[serde(default)]
    pub fetched: u64,
    /// When it was last the same as the upstream's, in Unix seconds.
    #[serde(default)]
    pub checked: u64,
    /// Why it could not be fetched or compared, since then.
    #[serde(default)]
    pub trouble: Option<String>,
}

impl Record {
    /// Whether it stays when others make room: because it is to, or because nobody could bring it back.
    #[must_use]
    pub fn stays(&self) -> bool {
        self.pinned || self.url.is_none()
    }

    /// Whether it is what it has to be, or may be anything.
    #[must_use]
    pub fn is_expected(&self) -> bool {
        self.expected.is_none_or(|expected| self.sha256 == Some(expected))
    }

    /// Where it comes from.
    #[must_use]
    pub fn source(&self) -> Option<ImageSource> {
        Some(ImageSource { url: self.url.clone()?, sha256: self.expected })
    }

    pub(super) fn read(layout: &Layout, name: &ImageName) -> Result<Option<Self>, ImageError> {
        let path = layout.record(name);
        let mut file = match layout::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ImageError::disk(&path, &error)),
        };
        let mut text = String::new();
        // A record has a few lines; whatever is longer is none.
        let mut limited = std::io::Read::take(&mut file, 64 << 10);
        let read = std::io::Read::read_to_string(&mut limited, &mut text);
        read.map_err(|error| error.to_string())
            .and_then(|_| serde_json::from_str(&text).map_err(|error| error.to_string()))
            .map(Some)
            .map_err(|why| ImageError::Record { path: path.display().to_string(), name: name.clone(), why })
    }

    pub(super) fn write(&self, layout: &Layout, name: &ImageName) -> Result<(), ImageError> {
        let path = layout.record(name);
        let bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        layout::write(&path, &bytes).map_err(|error| ImageError::disk(&path, &error))
    }

    /// Every name, and those whose record is of no use with the reason.
    pub(super) fn all(layout: &Layout) -> Result<Vec<Named>, ImageError> {
        let entries = layout.entries("names").map_err(|error| ImageError::disk(layout.root(), &error))?;
        let names = entries.into_iter().filter_map(|(name, ..)| name.parse::<ImageName>().ok());
        let read = |name: ImageName| Some((name.clone(), Self::read(layout, &name).transpose()?));
        Ok(names.filter_map(read).collect())
    }
}

/// A digest as its text.
mod digest {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::Sha256Digest;

    pub(super) fn serialize<S: Serializer>(digest: &Option<Sha256Digest>, to: S) -> Result<S::Ok, S::Error> {
        match digest {
            Some(digest) => to.collect_str(digest),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Sha256Digest>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}
