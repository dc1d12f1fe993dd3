//! Configuration files of boot loaders that nobody has put into the boot directory.

use std::io::Read as _;

use super::{BootFiles, OpenError};
use boot_engine::boot::loader_file::LoaderFile;

impl BootFiles {
    /// The text of a small file: at most so many bytes, and what is no UTF-8 replaced. Waits for the disk.
    ///
    /// # Errors
    /// As [`BootFiles::open`].
    pub fn text(&self, name: &str, most: u64) -> Result<String, OpenError> {
        let opened = self.open_plain(name)?;
        let mut bytes = Vec::new();
        let read = opened.file.take(most).read_to_end(&mut bytes);
        read.map_err(|error| OpenError::Io { path: opened.path, error })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The loader's file of a name that is not there, if it is to be written for whoever asks. Not where the boot directory
    /// has a file that the loader comes to after this one: that is what was meant for all machines.
    #[must_use]
    pub fn to_be_written(&self, name: &str) -> Option<LoaderFile> {
        let file = LoaderFile::named(name)?;
        let is_free = |name: &String| matches!(self.open_plain(name), Err(OpenError::NotFound { .. }));
        file.fallbacks().iter().all(is_free).then_some(file)
    }
}
