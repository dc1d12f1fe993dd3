//! Images of the content store: their names, their digests, and how a profile names one.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use super::value::{self, quoted};

/// What a URL may have at its end: the digest of what is there.
const DIGEST_IN_URL: &str = "#sha256=";
/// Longest name, in bytes; file systems have room for 255, and what is beside an image has its name and more.
const MAX_NAME: usize = 128;

/// The name of an image: 1 to 128 letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`. So it is a file's name
/// and a part of URLs as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageName(String);

impl ImageName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of what has none but its URL: the last part of its path, and twelve digits of the URL's digest. The same
    /// URL has the same name everywhere.
    fn of_url(url: &str) -> Self {
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let base = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let good = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let base: String = base.chars().filter(good).take(64).collect();
        let base = base.trim_start_matches(['.', '-']);
        let digest = Sha256Digest::of(url.as_bytes()).to_string();
        Self(format!(
            "{}-{}",
            if base.is_empty() { "image" } else { base },
            digest.get(..12).unwrap_or_default()
        ))
    }
}

impl FromStr for ImageName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if !good || text.is_empty() || text.len() > MAX_NAME || text.starts_with(['.', '-']) {
            return Err(format!(
                "{} cannot be an image; write 1 to {MAX_NAME} letters, digits, '.', '_' and '-', not beginning with '.' or '-'",
                quoted(text)
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SHA-256 digest; 64 hexadecimal digits as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256Digest(pub [u8; 32]);

impl Sha256Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl FromStr for Sha256Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{} is not a SHA-256 digest; write its 64 hexadecimal digits", quoted(text));
        let mut digest = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(digest))
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Where an image comes from, and what it has to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageSource {
    /// An `http://`, `https://` or `s3://BUCKET/KEY` URL without a fragment; the scheme is in lower case.
    pub url: String,
    /// The digest of what is there, if it is known beforehand.
    pub sha256: Option<Sha256Digest>,
}

impl FromStr for ImageSource {
    type Err = String;

    /// Reads a URL, which may end in `#sha256=` and the digest.
    fn from_str(text: &str) -> Result<Self, String> {
        let (url, sha256) = match text.split_once('#') {
            None => (text, None),
            Some((url, _)) => {
                let fragment = text.get(url.len()..).unwrap_or_default();
                let digest = fragment.strip_prefix(DIGEST_IN_URL).ok_or_else(|| {
                    format!(
                        "{} has a fragment that is not known; write {DIGEST_IN_URL} and the digest, or none",
                        quoted(text)
                    )
                })?;
                (url, Some(digest.parse()?))
            }
        };
        if url.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(format!(
                "{} contains a space or a control character; write %20 instead",
                quoted(url)
            ));
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(format!(
                "{} is no URL; write one that begins with https://, http:// or s3://",
                quoted(url)
            ));
        };
        if !scheme.eq_ignore_ascii_case("s3") {
            return Ok(Self { url: value::url(url, scheme, rest)?, sha256 });
        }
        let named = rest.split_once('/').filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty());
        if named.is_none() {
            return Err(format!(
                "{} names no object; write it like \"s3://bucket/talos/vmlinuz\"",
                quoted(url)
            ));
        }
        Ok(Self { url: format!("s3://{rest}"), sha256 })
    }
}

/// An image as a profile names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef {
    /// Its name; of a URL one that is made from it.
    pub name: ImageName,
    /// Where it comes from, if the profile says so. Else `xpxe images add` has said it.
    pub source: Option<ImageSource>,
}

impl ImageRef {
    /// Reads what a profile has as kernel or initrd; `None`: it is no image.
    #[must_use]
    pub fn read(text: &str) -> Option<Result<Self, String>> {
        let image = text.strip_prefix(value::IMAGE)?;
        if !image.contains("://") {
            return Some(image.parse().map(|name| Self { name, source: None }));
        }
        Some(
            image
                .parse::<ImageSource>()
                .map(|source| Self { name: ImageName::of_url(&source.url), source: Some(source) }),
        )
    }
}

/// A kernel or an initrd: a file in `boot_dir`, a URL that the machine fetches itself, or an image of the store.
pub(crate) fn kernel(text: &str, boot_dir: &Path) -> Result<String, String> {
    match ImageRef::read(text) {
        Some(image) => image.map(|_| text.to_owned()),
        None => value::file(text, boot_dir),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_names_of_files_and_parts_of_urls() {
        for text in ["talos-1.9_x", "vmlinuz", "a", "A.b", &"x".repeat(128)] {
            assert_eq!(text.parse::<ImageName>().unwrap().as_str(), text);
        }
        let long = "x".repeat(129);
        for text in [
            "",
            ".",
            "..",
            ".hidden",
            "-x",
            "a/b",
            "/etc/passwd",
            "../x",
            "a\nb",
            "a\0b",
            "a b",
            "a%2fb",
            "é",
            "a\\b",
            &long,
        ] {
            let said = text.parse::<ImageName>().unwrap_err();
            assert!(said.contains("cannot be an image") && !said.contains('\n'), "{said}");
        }
    }

    #[test]
    fn digests_are_64_digits() {
        assert_eq!(DIGEST.parse(), Ok(Sha256Digest::of(b"")));
        assert_eq!(DIGEST.to_uppercase().parse(), Ok(Sha256Digest::of(b"")));
        assert_eq!(Sha256Digest::of(b"").to_string(), DIGEST);
        for text in
            ["", "e3b0", &DIGEST[1..], &format!("{DIGEST}0"), &DIGEST.replace('e', "+"), &"é".repeat(32)]
        {
            assert!(text.parse::<Sha256Digest>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_profile_names_an_image_or_the_url_of_one() {
        assert_eq!(ImageRef::read("talos/vmlinuz"), None);
        assert_eq!(ImageRef::read("https://h/vmlinuz"), None, "machines fetch it themselves");
        let named = ImageRef::read("image:vmlinuz").unwrap().unwrap();
        assert_eq!((named.name.as_str(), named.source), ("vmlinuz", None));
        let read = |text: &str| ImageRef::read(text).unwrap().unwrap();
        let plain = read("image:HTTPS://h/a/vm%20linuz?x=1");
        assert_eq!(plain.source.as_ref().unwrap().url, "https://h/a/vm%20linuz?x=1");
        assert!(plain.name.as_str().starts_with("vm20linuz-"), "{}", plain.name);
        assert!(plain.name.as_str().parse::<ImageName>().is_ok());
        let with = read(&format!("image:https://h/a/vm%20linuz?x=1#sha256={DIGEST}"));
        assert_eq!(with.name, plain.name, "the digest is no part of where it is");
        assert_eq!(with.source.unwrap().sha256, Some(Sha256Digest::of(b"")));
        assert_ne!(plain.name, read("image:https://h/a/vm%20linuz?x=2").name);
        let object = read("image:S3://bucket/talos/vmlinuz");
        assert_eq!(object.source.unwrap().url, "s3://bucket/talos/vmlinuz");
        for odd in ["image:http://h/", "image:http://h", "image:http://h/...", "image:http://h/-"] {
            assert!(read(odd).name.as_str().parse::<ImageName>().is_ok(), "{odd}");
        }
        for (text, why) in [
            ("image:", "cannot be an image"),
            ("image:a/b", "cannot be an image"),
            ("image:ftp://h/x", "write an http:// or https:// URL"),
            ("image:https:///x", "names no host"),
            ("image:https://h/x y", "a space"),
            ("image:https://h/x\n", "control character"),
            ("image:s3://bucket", "names no object"),
            ("image:s3://bucket/", "names no object"),
            ("image:s3:///key", "names no object"),
            ("image:https://h/x#md5=1", "a fragment"),
            ("image:https://h/x#sha256=1", "not a SHA-256 digest"),
        ] {
            let said = ImageRef::read(text).unwrap().unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
