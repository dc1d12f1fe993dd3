//! Digests of an image and of each of its pieces, and which blobs are known to have theirs.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use boot_engine::config::Sha256Digest;

/// Bytes of a piece, which has a digest of its own: 1 MiB.
pub(super) const PIECE: u64 = 1 << 20;

/// The digests of what has come so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    whole: Sha256,
    piece: Sha256,
    /// Bytes so far.
    pub(super) len: u64,
    /// Of each whole piece.
    pub(super) pieces: Vec<Sha256Digest>,
}

impl Sums {
    /// Takes more bytes; gives how many pieces they have completed.
    pub(super) fn update(&mut self, mut bytes: &[u8]) -> usize {
        let before = self.pieces.len();
        self.whole.update(bytes);
        while !bytes.is_empty() {
            let room = usize::try_from(PIECE - self.len % PIECE).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.update(now);
            self.len += now.len() as u64;
            if self.len.is_multiple_of(PIECE) {
                self.pieces.push(Sha256Digest(self.piece.finalize_reset().into()));
            }
            bytes = later;
        }
        self.pieces.len() - before
    }

    /// The digest of everything, and those of all pieces, a shorter one at the end too.
    pub(super) fn finish(mut self) -> (Sha256Digest, Vec<Sha256Digest>) {
        if !self.len.is_multiple_of(PIECE) {
            self.pieces.push(Sha256Digest(self.piece.finalize().into()));
        }
        (Sha256Digest(self.whole.finalize().into()), self.pieces)
    }

    /// Reads a file from its beginning, as far as its pieces are these (or all of it if there are none).
    pub(super) fn of_file(file: &File, pieces: Option<&[Sha256Digest]>) -> io::Result<Self> {
        let mut sums = Self::default();
        let mut buffer = vec![0; usize::try_from(PIECE).unwrap_or(1 << 20)];
        loop {
            let read = read_piece(file, &mut buffer, sums.len)?;
            let whole = read.len() as u64 == PIECE;
            if let Some(pieces) = pieces {
                let expected = pieces.get(sums.pieces.len());
                if !whole || expected != Some(&Sha256Digest::of(read)) {
                    return Ok(sums);
                }
            }
            sums.update(read);
            if !whole {
                return Ok(sums);
            }
        }
    }
}

fn read_piece<'b>(file: &File, buffer: &'b mut [u8], at: u64) -> io::Result<&'b [u8]> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(buffer.get(..filled).unwrap_or_default())
}

/// Digests one behind the other, as they lie in a file.
pub(super) fn to_bytes(sums: &[Sha256Digest]) -> Vec<u8> {
    sums.iter().flat_map(|digest| digest.0).collect()
}

/// The other way; what is shorter than a digest at the end is left out.
pub(super) fn from_bytes(bytes: &[u8]) -> Vec<Sha256Digest> {
    bytes.as_chunks().0.iter().map(|digest| Sha256Digest(*digest)).collect()
}

/// How many pieces so many bytes have.
pub(super) fn pieces_of(len: u64) -> u64 {
    len.div_ceil(PIECE)
}

/// What a file's content cannot change without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint([i64; 7]);

impl Fingerprint {
    fn of(file: &File) -> io::Result<Self> {
        let facts = file.metadata()?;
        let number = u64::cast_signed;
        Ok(Self([
            number(facts.dev()),
            number(facts.ino()),
            number(facts.len()),
            facts.mtime(),
            facts.mtime_nsec(),
            facts.ctime(),
            facts.ctime_nsec(),
        ]))
    }
}

/// The blobs that this process has read and found right, as they were then.
#[derive(Debug, Default)]
pub(super) struct Verified(Mutex<HashMap<Sha256Digest, Fingerprint>>);

impl Verified {
    /// Whether a blob has the bytes that its name says. Reads it only if it has changed, or was never read.
    pub(super) fn is_right(&self, file: &File, digest: Sha256Digest) -> io::Result<bool> {
        let fingerprint = Fingerprint::of(file)?;
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).copied();
        if known() == Some(fingerprint) {
            return Ok(true);
        }
        let is_right = Sums::of_file(file, None)?.finish().0 == digest;
        // It may have been changed while it was read.
        if is_right && Fingerprint::of(file)? == fingerprint {
            self.put(digest, fingerprint);
            return Ok(true);
        }
        Ok(false)
    }

    /// A blob that has just been made of bytes with that digest.
    pub(super) fn add(&self, file: &File, digest: Sha256Digest) {
        if let Ok(fingerprint) = Fingerprint::of(file) {
            self.put(digest, fingerprint);
        }
    }

    fn put(&self, digest: Sha256Digest, fingerprint: Fingerprint) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, fingerprint);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn pieces_do_not_depend_on_how_the_bytes_come() {
        let bytes: Vec<u8> = (0..PIECE * 2 + 77).map(|at| (at * 31 % 251) as u8).collect();
        let whole = Sha256Digest::of(&bytes);
        let expected: Vec<Sha256Digest> = bytes.chunks(1 << 20).map(Sha256Digest::of).collect();
        for step in [1000, 4096, 1 << 20, 3 << 20] {
            let mut sums = Sums::default();
            let completed: usize = bytes.chunks(step).map(|chunk| sums.update(chunk)).sum();
            assert_eq!((completed, sums.len), (2, bytes.len() as u64));
            assert_eq!(sums.finish(), (whole, expected.clone()), "{step}");
        }
        assert_eq!(from_bytes(&to_bytes(&expected)), expected);
        assert_eq!(Sums::default().finish(), (Sha256Digest::of(b""), vec![]));
    }

    #[test]
    fn a_file_is_believed_as_far_as_its_pieces_are_right() {
        let bytes: Vec<u8> = (0..PIECE * 3 + 5).map(|at| (at % 253) as u8).collect();
        let sums: Vec<Sha256Digest> = bytes.chunks(1 << 20).map(Sha256Digest::of).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let right = |pieces: &[Sha256Digest]| Sums::of_file(&file, Some(pieces)).unwrap().len / PIECE;
        assert_eq!(right(&sums), 3);
        assert_eq!(right(&sums[..2]), 2);
        file.write_at(b"x", PIECE + 9).unwrap();
        assert_eq!(right(&sums), 1);
    }

    #[test]
    fn a_blob_that_changes_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        std::fs::write(&path, "right").unwrap();
        let (digest, verified) = (Sha256Digest::of(b"right"), Verified::default());
        let check = || verified.is_right(&File::open(&path).unwrap(), digest).unwrap();
        assert!(check() && check());
        std::fs::write(&path, "wrong").unwrap();
        assert!(!check());
        std::fs::write(&path, "right").unwrap();
        assert!(check());
    }
}
