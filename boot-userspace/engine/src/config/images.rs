//! `[images]`: the content store and where its images come from.

use std::path::PathBuf;
use std::time::Duration;

use super::amount;
use super::reader::Table;
use super::report::{At, Place, Report, one};
use super::value::{self, quoted};

/// How large the store may become unless the file says otherwise: 20 GiB.
pub const DEFAULT_IMAGES_SIZE: u64 = 20 << 30;
/// After how long a copy without a digest is compared with its upstream unless the file says otherwise: an hour.
pub const DEFAULT_IMAGES_CHECK: Duration = Duration::from_secs(3600);
/// The region that S3 requests are signed for unless the file says otherwise.
const DEFAULT_REGION: &str = "us-east-1";

/// `[images]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// `size`: bytes that the store may have on disk. Default [`DEFAULT_IMAGES_SIZE`].
    pub size: u64,
    /// `check`: after how long a copy whose digest nobody has said is compared with its upstream, 1 s to 365 days. Default
    /// [`DEFAULT_IMAGES_CHECK`].
    pub check: Duration,
    /// `[[images.upstream]]`, in file order; no two have the same `url`. Default: none.
    pub upstreams: Vec<Upstream>,
}

impl Default for Images {
    fn default() -> Self {
        Self { size: DEFAULT_IMAGES_SIZE, check: DEFAULT_IMAGES_CHECK, upstreams: Vec::new() }
    }
}

impl Images {
    /// What is said about where a URL leads: the longest `url` that it begins with.
    #[must_use]
    pub fn upstream(&self, url: &str) -> Option<&Upstream> {
        let fits = |upstream: &&Upstream| {
            url.strip_prefix(&upstream.url).is_some_and(|rest| {
                rest.is_empty() || upstream.url.ends_with('/') || rest.starts_with(['/', '?', ':'])
            })
        };
        self.upstreams.iter().filter(fits).max_by_key(|upstream| upstream.url.len())
    }
}

/// `[[images.upstream]]`: how to get what lies behind some URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `url`: how the URLs begin: `https://host/path` or `s3://bucket`.
    pub url: String,
    /// `endpoint`: the S3 server, an `http://` or `https://` URL without `/` at its end. Default: Amazon's.
    pub endpoint: Option<String>,
    /// `region`: the region that S3 requests are signed for. Default `us-east-1`.
    pub region: String,
    /// `access_key_file`: the file that has the access key. Absolute; there if `secret_key_file` is. Default: none,
    /// requests are not signed.
    pub access_key_file: Option<PathBuf>,
    /// `secret_key_file`: the file that has the secret key. Absolute; there if `access_key_file` is. Default: none.
    pub secret_key_file: Option<PathBuf>,
    /// `certificate`: a PEM file with certificates that are trusted besides those of the system. Absolute. Default: none.
    pub certificate: Option<PathBuf>,
    /// `presigned`: machines fetch images from S3 themselves, by URLs that are valid for so long, 5 min to 7 days; there only
    /// if the keys are. Default: none, they fetch them from the store.
    pub presigned: Option<Duration>,
}

/// The section as it stands in the file.
#[derive(Default)]
pub(super) struct Written {
    size: Option<At<String>>,
    check: Option<At<String>>,
    upstreams: Vec<WrittenUpstream>,
}

struct WrittenUpstream {
    place: Place,
    url: Option<At<String>>,
    endpoint: Option<At<String>>,
    region: Option<At<String>>,
    access_key_file: Option<At<String>>,
    secret_key_file: Option<At<String>>,
    /// The file says something about both keys, even if it could not be read.
    has_both_keys_or_none: bool,
    certificate: Option<At<String>>,
    presigned: Option<At<String>>,
}

/// The section in the file.
pub(super) fn read(top: &Table<'_>, report: &mut Report<'_>) -> Written {
    let Some(images) = top.table("images", &["size", "check", "upstream"], report) else {
        return Written::default();
    };
    let known =
        ["url", "endpoint", "region", "access_key_file", "secret_key_file", "certificate", "presigned"];
    let upstreams = images.tables("upstream", &known, report);
    let upstream = |table: Table<'_>| WrittenUpstream {
        url: table.required_text("url", "s3://bucket", report),
        endpoint: table.text("endpoint", "https://s3.example.net", report),
        region: table.text("region", DEFAULT_REGION, report),
        access_key_file: table.text("access_key_file", "/etc/xpxe/s3-access-key", report),
        secret_key_file: table.text("secret_key_file", "/etc/xpxe/s3-secret-key", report),
        has_both_keys_or_none: table.has("access_key_file") == table.has("secret_key_file"),
        certificate: table.text("certificate", "/etc/xpxe/site-ca.pem", report),
        presigned: table.text("presigned", "24h", report),
        place: table.place,
    };
    let upstreams = upstreams.into_iter().map(upstream).collect();
    Written {
        size: images.text_or_number("size", "20G", report),
        check: images.text("check", "1h", report),
        upstreams,
    }
}

impl Written {
    /// Adds what a further file says.
    pub(super) fn add(&mut self, more: Self, report: &mut Report<'_>) {
        let Self { size, check, upstreams } = more;
        one(&mut self.size, size, report);
        one(&mut self.check, check, report);
        self.upstreams.extend(upstreams);
    }
}

/// The settings.
pub(super) fn check(from: &Written, report: &mut Report<'_>) -> Images {
    let default = Images::default();
    let mut seen = std::collections::HashMap::new();
    let mut upstreams = Vec::new();
    for written in &from.upstreams {
        let url = written.url.as_ref().and_then(|at| {
            let url = at.read(report, beginning)?;
            super::report::once(&mut seen, url.clone(), at, "upstream", report);
            Some(url)
        });
        if !written.has_both_keys_or_none {
            report.add(&written.place, "has one of access_key_file and secret_key_file; write both, or none");
        }
        let endpoint = written.endpoint.as_ref().and_then(|at| at.read(report, endpoint));
        let region = written.region.as_ref().and_then(|at| at.read(report, region));
        let mut path = |at: &Option<At<String>>| at.as_ref().and_then(|at| at.read(report, value::absolute));
        let (access_key_file, secret_key_file) =
            (path(&written.access_key_file), path(&written.secret_key_file));
        let certificate = path(&written.certificate);
        let presigned = written.presigned.as_ref().and_then(|at| at.read(report, amount::presigned));
        if let Some(at) = written.presigned.as_ref().filter(|_| written.secret_key_file.is_none()) {
            report.add(&at.place, "needs keys to sign with; write access_key_file and secret_key_file");
        }
        if let Some(url) = &url
            && !url.starts_with("s3://")
        {
            let of_s3 = [
                &written.endpoint,
                &written.region,
                &written.access_key_file,
                &written.secret_key_file,
                &written.presigned,
            ];
            for at in of_s3.into_iter().flatten() {
                report.add(
                    &at.place,
                    format!(
                        "is for S3 only; remove it, or write url = \"s3://bucket\" instead of {}",
                        quoted(url)
                    ),
                );
            }
        }
        let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
        upstreams.extend(url.map(|url| Upstream {
            url,
            endpoint,
            region,
            access_key_file,
            secret_key_file,
            certificate,
            presigned,
        }));
    }
    let size = from.size.as_ref().and_then(|at| at.read(report, amount::disk));
    let check = from.check.as_ref().and_then(|at| at.read(report, amount::interval));
    Images { size: size.unwrap_or(default.size), check: check.unwrap_or(default.check), upstreams }
}

/// How URLs begin.
fn beginning(text: &str) -> Result<String, String> {
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) || text.contains(['?', '#']) {
        return Err(format!(
            "{} is not how a URL begins; write it without spaces, '?' and '#'",
            quoted(text)
        ));
    }
    match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("s3") && !rest.trim_matches('/').is_empty() => {
            Ok(format!("s3://{rest}"))
        }
        Some((scheme, rest)) => value::url(text, scheme, rest),
        None => Err(format!("{} is no URL; write \"s3://bucket\" or \"https://host/path\"", quoted(text))),
    }
}

fn endpoint(text: &str) -> Result<String, String> {
    value::server(text, "https://s3.example.net").map(|url| url.trim_end_matches('/').to_owned())
}

fn region(text: &str) -> Result<String, String> {
    let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !good || text.is_empty() {
        return Err(format!(
            "{} is not a region; write letters, digits and '-', such as {DEFAULT_REGION:?}",
            quoted(text)
        ));
    }
    Ok(text.to_owned())
}
