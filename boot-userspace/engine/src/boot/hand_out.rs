//! Images that machines fetch from S3 themselves.

use std::collections::HashMap;
use std::fmt;

use crate::config::ImageName;

/// The URLs of such images, each with a signature that S3 takes from everybody for a while. `Debug` does not show them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HandOut(HashMap<ImageName, String>);

impl HandOut {
    /// The URL of an image, if it is one of these.
    #[must_use]
    pub fn url(&self, image: &ImageName) -> Option<&str> {
        self.0.get(image).map(String::as_str)
    }
}

impl FromIterator<(ImageName, String)> for HandOut {
    fn from_iter<I: IntoIterator<Item = (ImageName, String)>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

impl fmt::Debug for HandOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
