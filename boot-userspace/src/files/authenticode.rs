//! Who has signed a PE image ("Windows Authenticode Portable Executable Signature Format"; UEFI section 32.2.4).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use openssl::hash::{Hasher, MessageDigest};
use openssl::pkcs7::{Pkcs7, Pkcs7Flags};
use openssl::stack::Stack;
use openssl::x509::X509;

use super::pe::Layout;

/// Longer tables of signatures are not read, in bytes. Those of Debian's files have about 2 kB.
const LONGEST_TABLE: u64 = 1 << 20;
/// A signature's header: length, revision and type.
const HEADER: usize = 8;
/// `WIN_CERT_TYPE_PKCS_SIGNED_DATA`
const PKCS_SIGNED_DATA: u16 = 2;
/// No more entries of the table are looked at.
const MOST_SIGNATURES: usize = 8;
/// How much of a file is read at once.
const CHUNK: u64 = 1 << 16;

/// One of the signatures of an image.
#[derive(Debug)]
pub(super) struct Signature {
    /// The certificate of who has signed it.
    pub(super) by: X509,
    /// It is of this image's bytes.
    pub(super) fits: bool,
}

/// The signatures of an image, in their order. What cannot be read as one is none, as firmware has it.
///
/// # Errors
/// As the system gives them.
pub(super) fn signatures(layout: &Layout, file: &File) -> io::Result<Vec<Signature>> {
    let Range { start, end } = layout.certificates;
    let mut table = vec![0; usize::try_from((end - start).min(LONGEST_TABLE)).unwrap_or(0)];
    let read = read_as_far_as_there(file, &mut table, start)?;
    let mut rest = table.get(..read).unwrap_or_default();
    let (mut found, mut digests) = (Vec::new(), BTreeMap::new());
    for _ in 0..MOST_SIGNATURES {
        let Some((kind, content, behind)) = entry(rest) else { break };
        rest = behind;
        if kind != PKCS_SIGNED_DATA {
            continue;
        }
        let signers = signers(content);
        let signed = signed_digest(content).filter(|_| !signers.is_empty());
        // The whole file is read for each kind of digest, once.
        let fits = match signed {
            Some(signed) => {
                let own = match digests.entry(signed.len()) {
                    Entry::Occupied(own) => own.into_mut(),
                    Entry::Vacant(place) => place.insert(digest(layout, file, signed.len())?),
                };
                own.as_deref() == Some(signed)
            }
            None => false,
        };
        found.extend(signers.into_iter().map(|by| Signature { by, fits }));
    }
    Ok(found)
}

/// The type and the content of the first signature of a table, and what follows it: each begins at a multiple of 8 bytes.
fn entry(table: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_le_bytes(*table.first_chunk()?)).ok()?;
    let kind = u16::from_le_bytes(*table.get(6..)?.first_chunk()?);
    let content = table.get(HEADER..length)?;
    Some((kind, content, table.get(length.next_multiple_of(8)..).unwrap_or_default()))
}

/// The certificates of those who have signed, out of a PKCS #7 message.
fn signers(message: &[u8]) -> Vec<X509> {
    let signers = || {
        let no_others = Stack::new()?;
        let found = Pkcs7::from_der(message)?.signers(&no_others, Pkcs7Flags::empty())?;
        Ok::<Vec<X509>, openssl::error::ErrorStack>(found.iter().map(ToOwned::to_owned).collect())
    };
    signers().unwrap_or_default()
}

/// The digest of an image in a PKCS #7 message: ContentInfo → SignedData → contentInfo → SpcIndirectDataContent →
/// messageDigest → digest.
fn signed_digest(message: &[u8]) -> Option<&[u8]> {
    let path = [0, 1, 0, 2, 1, 0, 1, 1];
    path.into_iter().try_fold(message, child)
}

/// The content of the element with this number among the DER elements of `bytes`.
fn child(bytes: &[u8], number: usize) -> Option<&[u8]> {
    let mut rest = bytes;
    for _ in 0..number {
        rest = element(rest)?.1;
    }
    Some(element(rest)?.0)
}

/// The content of the first DER element, and what follows it.
fn element(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [_tag, length, rest @ ..] = bytes else { return None };
    let (length, rest) = match usize::from(*length) {
        short @ 0..0x80 => (short, rest),
        long => {
            let (digits, rest) = rest.split_at_checked(long - 0x80)?;
            let grown = |length: usize, digit: &u8| length.checked_mul(256)?.checked_add((*digit).into());
            (digits.iter().try_fold(0, grown)?, rest)
        }
    };
    rest.split_at_checked(length)
}

/// The image's digest of this length: without its checksum, the place of its signatures, and those.
fn digest(layout: &Layout, file: &File, length: usize) -> io::Result<Option<Vec<u8>>> {
    let kind = match length {
        20 => MessageDigest::sha1(),
        32 => MessageDigest::sha256(),
        48 => MessageDigest::sha384(),
        64 => MessageDigest::sha512(),
        _ => return Ok(None),
    };
    let mut hasher = Hasher::new(kind)?;
    let Layout { checksum, entry, certificates, .. } = layout;
    for part in [0..*checksum, checksum + 4..*entry, entry + 8..certificates.start] {
        let mut at = part.start;
        while at < part.end {
            let mut chunk = vec![0; usize::try_from((part.end - at).min(CHUNK)).unwrap_or(0)];
            let read = read_as_far_as_there(file, &mut chunk, at)?;
            if read == 0 {
                return Ok(None);
            }
            hasher.update(chunk.get(..read).unwrap_or_default())?;
            at += read as u64;
        }
    }
    Ok(Some(hasher.finish()?.to_vec()))
}

/// How many bytes there are.
pub(super) fn read_as_far_as_there(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = into.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
