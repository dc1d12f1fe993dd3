//! Lists of digests as `sha256sum` and its like write them: what a publisher says that its files are.

use crate::config::Sha256Digest;

/// What other programs put before a file's name in the BSD form, besides `SHA256`.
const OTHER_ALGORITHMS: [&str; 9] =
    ["MD5", "SHA1", "SHA224", "SHA384", "SHA512", "SHA512/256", "BLAKE2b", "RMD160", "SHA3-256"];
const SIGNED: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";

/// Why a list is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// A line that is neither a digest and a name, nor a comment.
    #[error(
        "line {line} of the digest list is neither \"DIGEST  NAME\" nor \"SHA256 (NAME) = DIGEST\": {text:?}; \
         get the list anew, or give the digest by --sha256"
    )]
    Line {
        /// From 1.
        line: usize,
        /// The beginning of it.
        text: String,
    },
    /// The file is not in the list.
    #[error("the digest list has no {0:?}; name the list that has it, or give the digest by --sha256")]
    Missing(String),
    /// The file is in the list with several digests.
    #[error("the digest list has several digests for {0:?}; give the right one by --sha256")]
    Several(String),
}

/// A list of digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DigestList {
    entries: Vec<(String, Sha256Digest)>,
    /// A file that has a digest only, as some publish beside each of their files.
    alone: Option<Sha256Digest>,
}

impl DigestList {
    /// Reads a list: `DIGEST  NAME`, `DIGEST *NAME` (read as a binary file), `SHA256 (NAME) = DIGEST`, or one digest alone.
    /// Comments, empty lines, digests of other algorithms in the BSD form, and the lines that OpenPGP puts around a text
    /// that it signs are left out; the signature is not checked.
    ///
    /// # Errors
    /// The first line that is something else: what has been damaged in one place is not believed in others.
    pub fn read(text: &str) -> Result<Self, ListError> {
        let mut list = Self::default();
        let mut in_pgp_headers = false;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end_matches('\r');
            if line == SIGNATURE {
                break;
            }
            if line == SIGNED {
                in_pgp_headers = true;
            } else if in_pgp_headers {
                in_pgp_headers = !line.is_empty();
            } else if line.trim().is_empty() || line.starts_with('#') {
            } else if let Some((name, digest)) = gnu(line) {
                list.entries.push((name, digest));
            } else if let Some((algorithm, name, digest)) = bsd(line) {
                match digest.parse() {
                    Ok(digest) if algorithm == "SHA256" => list.entries.push((name.to_owned(), digest)),
                    _ if OTHER_ALGORITHMS.contains(&algorithm) => {}
                    _ => return Err(wrong(index, line)),
                }
            } else if let (Ok(digest), true) =
                (line.trim().parse(), list.entries.is_empty() && list.alone.is_none())
            {
                list.alone = Some(digest);
            } else {
                return Err(wrong(index, line));
            }
        }
        Ok(list)
    }

    /// The digest of the file at `path`, the path of a URL perhaps: of the entry that it ends with, of several the longest.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn find(&self, path: &str) -> Result<Sha256Digest, ListError> {
        let path = path.trim_end_matches('/');
        if let (Some(digest), true) = (self.alone, self.entries.is_empty()) {
            return Ok(digest);
        }
        let length_of_match = |name: &str| {
            let name = name.trim_start_matches("./");
            let before = path.strip_suffix(name)?;
            (!name.is_empty() && (before.is_empty() || before.ends_with('/'))).then_some(name.len())
        };
        let matches =
            || self.entries.iter().filter_map(|(name, digest)| Some((length_of_match(name)?, digest)));
        let base = || path.rsplit('/').next().unwrap_or_default().to_owned();
        let longest = matches().map(|(length, _)| length).max().ok_or_else(|| ListError::Missing(base()))?;
        let mut digests: Vec<_> =
            matches().filter(|(length, _)| *length == longest).map(|(_, digest)| digest).collect();
        digests.sort_unstable();
        digests.dedup();
        match digests[..] {
            [digest] => Ok(*digest),
            _ => Err(ListError::Several(base())),
        }
    }
}

fn wrong(index: usize, line: &str) -> ListError {
    ListError::Line { line: index + 1, text: line.chars().take(60).collect() }
}

/// `DIGEST  NAME`; a backslash before it says that the name's own backslashes and newlines are escaped.
fn gnu(line: &str) -> Option<(String, Sha256Digest)> {
    let plain = line.strip_prefix('\\');
    let (digest, name) = plain.unwrap_or(line).split_at_checked(64)?;
    let name = name.strip_prefix("  ").or_else(|| name.strip_prefix(" *"))?;
    let name = match plain {
        Some(_) => name.replace("\\n", "\n").replace("\\\\", "\\"),
        None => name.to_owned(),
    };
    (!name.is_empty()).then_some((name, digest.parse().ok()?))
}

/// `SHA256 (NAME) = DIGEST`
fn bsd(line: &str) -> Option<(&str, &str, &str)> {
    let (algorithm, rest) = line.split_once(" (")?;
    let (name, digest) = rest.rsplit_once(") = ")?;
    (!name.is_empty()).then_some((algorithm, name, digest.trim()))
}

#[cfg(test)]
mod tests;
