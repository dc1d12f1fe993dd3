//! Whether a file is still the one that was opened: a process goes on in a file that has lost its name, and what it writes
//! there is gone when it ends.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId(u64, u64);

impl FileId {
    /// That of an open file.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|about| Self::from(&about))
    }

    /// That of the file with this name, if there is one. It waits for the disk.
    pub(super) fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|about| Self::from(&about))
    }
}

impl From<&Metadata> for FileId {
    fn from(about: &Metadata) -> Self {
        Self(about.dev(), about.ino())
    }
}

/// Removes a file, which may be gone already.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
