//! The images of a configuration, looked at before a machine asks for them.

use super::Images;
use super::configured::named;
use super::layout::{self, Layout};
use super::record::Record;
use super::upstream::wrong_files;
use crate::host::size::human_size;
use boot_engine::config::Config;

/// What is to be said about one image of the configuration, or about an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFinding {
    /// Machines cannot boot it, or nothing can be fetched from there.
    pub is_error: bool,
    /// One line.
    pub says: String,
}

impl Images {
    /// Looks at every image that a configuration names, and at the files of its upstreams. Asks no upstream.
    #[must_use]
    pub fn audit(config: &Config) -> Vec<ImageFinding> {
        let layout = Layout::new(&config.state_dir);
        let mut findings: Vec<ImageFinding> = Vec::new();
        for (image, place) in named(config) {
            let name = &image.name;
            let (is_error, what) = match Record::read(&layout, name) {
                Err(error) => (image.source.is_none(), error.to_string()),
                Ok(Some(Record { sha256: Some(digest), size, .. }))
                    if layout::open(&layout.blob(digest)).is_ok() =>
                {
                    (false, format!("is here, {}", human_size(size)))
                }
                Ok(record) => match record
                    .as_ref()
                    .and_then(|record| record.url.clone())
                    .or(image.source.map(|source| source.url))
                {
                    Some(url) => {
                        (false, format!("is fetched from {} when a machine asks for it", super::shown(&url)))
                    }
                    None if record.is_some() => (true, super::ImageError::Gone(name.clone()).to_string()),
                    None => (true, super::ImageError::Unknown(name.clone()).to_string()),
                },
            };
            let colon = if is_error { ":" } else { "" };
            findings.push(ImageFinding { is_error, says: format!("image {name} ({place}){colon} {what}") });
        }
        if !findings.is_empty() {
            findings.extend(
                layout
                    .is_open_to_others()
                    .map(|says| ImageFinding { is_error: false, says: format!("warning: {says}") }),
            );
        }
        for upstream in &config.images.upstreams {
            let place = super::shown(&upstream.url);
            let wrong = wrong_files(upstream).into_iter().map(|why| ImageFinding {
                is_error: true,
                says: format!("[[images.upstream]] {place}: {why}"),
            });
            findings.extend(wrong);
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use boot_engine::config::parse;

    use super::*;

    #[test]
    fn files_of_an_upstream_that_cannot_be_used_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let [access, secret, certificate] = ["access", "secret", "ca.pem"].map(|name| dir.path().join(name));
        let text = format!(
            "state_dir = {:?}\n[[interface]]\nname = 'eth1'\ndhcp = 'off'\n[[images.upstream]]\nurl = 's3://boot'\n\
             access_key_file = {access:?}\nsecret_key_file = {secret:?}\ncertificate = {certificate:?}\n",
            dir.path()
        );
        let config = parse(&text, "test").unwrap();
        let said = || Images::audit(&config);
        let missing = said();
        assert!(missing.len() == 3 && missing.iter().all(|finding| finding.is_error), "{missing:?}");
        assert!(missing[0].says.starts_with("[[images.upstream]] s3://boot: the key in "), "{missing:?}");
        for (file, text) in [(&access, "AKIA\n"), (&secret, "geheim\n"), (&certificate, "none\n")] {
            fs::write(file, text).unwrap();
            fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
        }
        let found = said();
        assert!(found.len() == 1 && found[0].says.contains("no certificates in PEM"), "{found:?}");
        fs::set_permissions(&secret, Permissions::from_mode(0o604)).unwrap();
        assert!(said()[0].says.contains("can be read by everybody"));
    }
}
