//! The images of a configuration, looked at before a machine asks for them.

use super::Images;
use super::configured::named;
use super::layout::{self, Layout};
use super::record::Record;
use crate::host::size::human_size;
use boot_engine::config::Config;

/// What is to be said about one image of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFinding {
    /// Machines cannot boot it.
    pub is_error: bool,
    /// One line.
    pub says: String,
}

impl Images {
    /// Looks at every image that a configuration names. Asks no upstream.
    #[must_use]
    pub fn audit(config: &Config) -> Vec<ImageFinding> {
        let layout = Layout::new(&config.state_dir);
        let mut findings: Vec<ImageFinding> = Vec::new();
        for (image, place) in named(config) {
            let name = &image.name;
            let (is_error, what) = match Record::read(&layout, name) {
                Err(error) => (image.source.is_none(), error.to_string()),
                Ok(Some(Record { sha256: Some(digest), size, .. }))
                    if layout::open(&layout.blob(digest)).is_ok() =>
                {
                    (false, format!("is here, {}", human_size(size)))
                }
                Ok(record) => match record
                    .as_ref()
                    .and_then(|record| record.url.clone())
                    .or(image.source.map(|source| source.url))
                {
                    Some(url) => {
                        (false, format!("is fetched from {} when a machine asks for it", super::shown(&url)))
                    }
                    None if record.is_some() => (true, super::ImageError::Gone(name.clone()).to_string()),
                    None => (true, super::ImageError::Unknown(name.clone()).to_string()),
                },
            };
            let colon = if is_error { ":" } else { "" };
            findings.push(ImageFinding { is_error, says: format!("image {name} ({place}){colon} {what}") });
        }
        if !findings.is_empty() {
            findings.extend(
                layout
                    .is_open_to_others()
                    .map(|says| ImageFinding { is_error: false, says: format!("warning: {says}") }),
            );
        }
        findings
    }
}
