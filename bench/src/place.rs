//! Where a server keeps its files.

use std::path::PathBuf;

/// Where a server keeps its files, and where xpxe pins.
#[derive(Clone, Debug)]
pub struct Place {
    /// In a file system.
    pub dir: PathBuf,
    /// In a bpffs.
    pub pins: PathBuf,
}

impl Place {
    /// A place below this one.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        Self { dir: self.dir.join(name), pins: self.pins.join(name) }
    }
}
