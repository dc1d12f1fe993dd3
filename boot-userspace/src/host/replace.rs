//! Files of xpxe's own that are replaced as a whole.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Who may read a file that has, or may have, a secret in it.
pub const PRIVATE: u32 = 0o600;

/// Replaces a file by these bytes, as [`replace_by`] does.
///
/// # Errors
/// As for [`replace_by`].
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    replace_by(path, mode, |file| file.write_all(bytes))
}

/// Replaces a file by what `fill` writes. Whoever reads it has the old bytes or the new ones, also after a power cut.
/// Until it is whole it is beside the other, with the extension `new`; what a crash has left there goes.
///
/// # Errors
/// The old file is there as it was, and nothing is beside it.
pub fn replace_by(path: &Path, mode: u32, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let new = path.with_extension("new");
    remove(&new)?;
    let replaced = (|| {
        // Not through a link that somebody has put there.
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&new)?;
        fill(&mut file)?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    if replaced.is_err() {
        // A full disk has room again.
        drop(fs::remove_file(&new));
    }
    replaced?;
    // Else the old name may come back after a power cut.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Removes a file; one that is not there is no error.
///
/// # Errors
/// It is still there.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("kept.json"), dir.path().join("elsewhere"));
        let new = dir.path().join("kept.new");
        replace(&path, PRIVATE, b"first").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        symlink(&elsewhere, &new).unwrap();
        replace(&path, PRIVATE, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert!(!elsewhere.exists() && !new.exists());
        let full = replace_by(&path, PRIVATE, |file| {
            file.write_all(b"thi")?;
            Err(ErrorKind::StorageFull.into())
        });
        assert_eq!(full.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert!(!new.exists());
    }
}
