//! Passwords of BMCs in the store: encrypted with a key that is in a file beside it.
//!
//! Who has the database alone, a backup for example, has no password. ChaCha20-Poly1305 (RFC 8439) with a random nonce; the
//! machine's number is authenticated with it, so that the password of one machine is not taken for another one's.

use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::host::regular;
use crate::host::replace::{PRIVATE, replace};
use crate::host::secret::Secret;
use boot_engine::registry::Sealed;

/// The bytes of a key.
const KEY: usize = 32;
/// How the texts of this way to encrypt begin.
const PREFIX: &str = "c20p1305:";

/// Why a password cannot be encrypted or read.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key cannot be read or written.
    #[error("the key of BMC passwords, {}: {error}; give it back, or remove the passwords and set them anew", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The key is gone, and something was encrypted with it.
    #[error(
        "{}, the key of BMC passwords, is gone, and the store has passwords that were encrypted with it: give the key back \
         from a backup; if there is none, make a new one (head -c 32 /dev/urandom >{}; chmod 600 {}) and set all passwords anew",
        .0.display(), .0.display(), .0.display()
    )]
    Gone(PathBuf),
    /// Others can read the key.
    #[error("{} can be read by others than its owner: chmod 600 it, and set the passwords of the BMCs anew if others may have read it", .0.display())]
    Open(PathBuf),
    /// It is no key.
    #[error("{} is no key of 32 bytes: give back the right one (head -c 32 /dev/urandom makes a new one)", .0.display())]
    Length(PathBuf),
    /// The password was encrypted with another key, or for another machine.
    #[error("the stored password does not fit the key {}: give back the right key, or set the password anew (xpxe machines set NAME --bmc-password-file FILE)", .0.display())]
    Key(PathBuf),
    /// The kernel gives no random numbers, or the like.
    #[error("the password cannot be encrypted")]
    Crypto,
}

/// Encrypts the password of a machine's BMC. Makes the key if there is none and `may_make`: a new key beside passwords that
/// were encrypted with another one would hide that those are lost.
///
/// # Errors
/// The key cannot be used.
pub(super) fn seal(
    key_file: &Path,
    machine: u64,
    password: &Secret,
    may_make: bool,
) -> Result<Sealed, VaultError> {
    let key = match read_key(key_file) {
        Err(VaultError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => match may_make {
            true => make(key_file)?,
            false => return Err(VaultError::Gone(key_file.to_owned())),
        },
        key => key?,
    };
    let random = SystemRandom::new();
    let mut nonce = [0; NONCE_LEN];
    random.fill(&mut nonce).map_err(|_| VaultError::Crypto)?;
    let mut bytes = password.reveal().as_bytes().to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), about(machine), &mut bytes)
        .map_err(|_| VaultError::Crypto)?;
    let digits = nonce.iter().chain(&bytes).map(|byte| format!("{byte:02x}"));
    Ok(Sealed(PREFIX.to_owned() + &digits.collect::<String>()))
}

/// Reads an encrypted password.
///
/// # Errors
/// It was not encrypted with this key for this machine.
pub(super) fn open(key_file: &Path, machine: u64, sealed: &Sealed) -> Result<Secret, VaultError> {
    let wrong = || VaultError::Key(key_file.to_owned());
    let key = read_key(key_file)?;
    let bytes = sealed.0.strip_prefix(PREFIX).and_then(from_hex).ok_or_else(wrong)?;
    let (nonce, bytes) = bytes.split_at_checked(NONCE_LEN).ok_or_else(wrong)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
    let mut bytes = bytes.to_vec();
    let plain = key.open_in_place(nonce, about(machine), &mut bytes).map_err(|_| wrong())?;
    String::from_utf8(plain.to_vec()).map(Secret::new).map_err(|_| wrong())
}

fn about(machine: u64) -> Aad<Vec<u8>> {
    Aad::from([b"xpxe: password of the BMC of machine ".as_slice(), &machine.to_be_bytes()].concat())
}

fn read_key(path: &Path) -> Result<LessSafeKey, VaultError> {
    let io = |error| VaultError::Io { path: path.to_owned(), error };
    let file = regular::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.permissions().mode() & 0o077 != 0 {
        return Err(VaultError::Open(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(KEY as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| VaultError::Length(path.to_owned()))?;
    Ok(LessSafeKey::new(key))
}

fn make(path: &Path) -> Result<LessSafeKey, VaultError> {
    let mut bytes = [0; KEY];
    SystemRandom::new().fill(&mut bytes).map_err(|_| VaultError::Crypto)?;
    let io = |error| VaultError::Io { path: path.to_owned(), error };
    replace(path, PRIVATE, &bytes).map_err(io)?;
    read_key(path)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_password_is_read_with_its_key_for_its_machine_only() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("bmc.key");
        let secret = Secret::new("correct horse".to_owned());
        let sealed = seal(&key, 7, &secret, true).unwrap();
        assert!(!sealed.0.contains("horse") && !format!("{sealed:?}{secret:?}").contains("horse"));
        assert_ne!(seal(&key, 7, &secret, true).unwrap(), sealed, "each time with another nonce");
        assert_eq!(open(&key, 7, &sealed).unwrap(), secret);
        assert!(matches!(open(&key, 8, &sealed), Err(VaultError::Key(_))), "another machine's");
        let spoilt = Sealed(sealed.0.replace(['0', '1'], "2"));
        assert!(matches!(open(&key, 7, &spoilt), Err(VaultError::Key(_))));
        assert!(matches!(open(&key, 7, &Sealed("plain".to_owned())), Err(VaultError::Key(_))));
        let other = dir.path().join("other.key");
        seal(&other, 7, &secret, true).unwrap();
        assert!(matches!(open(&other, 7, &sealed), Err(VaultError::Key(_))), "another key");
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("bmc.key");
        let sealed = seal(&key, 7, &Secret::new("x".to_owned()), true).unwrap();
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(open(&key, 7, &sealed), Err(VaultError::Open(_))));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&key, "short").unwrap();
        assert!(matches!(open(&key, 7, &sealed), Err(VaultError::Length(_))));
        fs::remove_file(&key).unwrap();
        assert!(
            matches!(open(&key, 7, &sealed), Err(VaultError::Io { .. })),
            "no new key is made to read with"
        );
        let another = seal(&key, 8, &Secret::new("x".to_owned()), false);
        assert!(matches!(another, Err(VaultError::Gone(_))), "nor beside passwords of another one");
        assert!(!key.exists());
    }
}
