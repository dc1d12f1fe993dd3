//! The key that links are signed with: made once, and kept, so that links outlive a restart.

use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use openssl::rand::rand_bytes;

use crate::host::regular;
use crate::host::replace::{PRIVATE, replace};
use boot_engine::boot::link::LinkKey;

/// The file's name in `state_dir`.
const FILE: &str = "link-key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum LinkKeyError {
    /// The file cannot be read or written.
    #[error("the key of signed links, {}, cannot be read or made: {error}; correct its owner and mode, or remove it", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is none of ours.
    #[error("{} is not a key of 32 bytes: remove it, and xpxe makes another; links that were given out end with that", .0.display())]
    Length(PathBuf),
    /// Others may read it.
    #[error("others can read {}, and sign links with it: remove it, and xpxe makes another", .0.display())]
    Open(PathBuf),
}

/// The key of this server; made if there is none.
///
/// # Errors
/// A sentence with the file and the remedy.
pub fn link_key(state_dir: &Path) -> Result<LinkKey, LinkKeyError> {
    let path = state_dir.join(FILE);
    let error = |error| LinkKeyError::Io { path: path.clone(), error };
    match regular::open(&path) {
        Ok(mut file) => {
            let mode = file.metadata().map_err(error)?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(LinkKeyError::Open(path));
            }
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(error)?;
            let secret = bytes.try_into().map_err(|_| LinkKeyError::Length(path.clone()))?;
            Ok(LinkKey::new(secret))
        }
        Err(absent) if absent.kind() == ErrorKind::NotFound => make(&path).map_err(error),
        Err(other) => Err(error(other)),
    }
}

fn make(path: &Path) -> io::Result<LinkKey> {
    let mut secret = [0; 32];
    rand_bytes(&mut secret)?;
    replace(path, PRIVATE, &secret)?;
    Ok(LinkKey::new(secret))
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::fs;
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pipe_in_the_place_of_the_key_does_not_hold_the_start_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (sender, receiver) = channel();
        let state_dir = dir.path().to_owned();
        thread::spawn(move || sender.send(link_key(&state_dir)));
        let read = receiver.recv_timeout(Duration::from_secs(10)).expect("it waits for who writes");
        let error = read.unwrap_err();
        let said = error.to_string();
        assert!(said.contains("link-key") && said.contains("not a regular file"), "{said}");
        assert!(error.source().is_none(), "the reason is told twice");
    }

    #[test]
    fn the_key_is_made_once_and_nobody_else_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let made = link_key(dir.path()).unwrap();
        assert_eq!(link_key(dir.path()).unwrap(), made);
        let path = dir.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(link_key(dir.path()).unwrap_err().to_string().contains("others can read"));
        fs::remove_file(&path).unwrap();
        assert_ne!(link_key(dir.path()).unwrap(), made);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(link_key(dir.path()).unwrap_err().to_string().contains("is not a key of 32 bytes"));
        let said = link_key(&dir.path().join("absent")).unwrap_err().to_string();
        assert!(said.contains("absent/link-key, cannot be read or made"), "{said}");
    }
}
