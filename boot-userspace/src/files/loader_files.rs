//! Configuration files of boot loaders that nobody has put into the boot directory.

use super::{BootFiles, OpenError};
use boot_engine::boot::loader_file::LoaderFile;

impl BootFiles {
    /// The loader's file of a name that is not there, if it is to be written for whoever asks. Not where the boot directory
    /// has a file that the loader comes to after this one: that is what was meant for all machines.
    #[must_use]
    pub fn to_be_written(&self, name: &str) -> Option<LoaderFile> {
        let file = LoaderFile::named(name)?;
        let is_free = |name: &String| matches!(self.open_plain(name), Err(OpenError::NotFound { .. }));
        file.fallbacks().iter().all(is_free).then_some(file)
    }
}
