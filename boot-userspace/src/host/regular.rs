//! Files that the configuration names, or that xpxe has made: read only if they are files.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a file for reading. A pipe, whose opening waits for somebody who writes, is an error.
///
/// # Errors
/// It cannot be opened, or is no file.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
}

/// Reads such a file.
///
/// # Errors
/// It cannot be read, or is no file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads such a file that has a secret in it.
///
/// # Errors
/// It cannot be read, is no file, or everybody can read it.
pub fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    if file.metadata()?.permissions().mode() & 0o007 != 0 {
        let why =
            "it can be read by everybody, so it is no secret any more: make another one, and chmod 600 it";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The same of a file with a text.
///
/// # Errors
/// As for [`read_private`], and if it is no text.
pub fn read_private_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_private(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text"))
}
