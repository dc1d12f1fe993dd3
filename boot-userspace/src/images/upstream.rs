//! Asking an upstream: HTTP, HTTPS and S3, and what its answers mean.

use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response, StatusCode, Url};
use tokio::time::timeout;

use super::configured::Configured;
use super::reach::Reach;
use super::s3;
use crate::host::live::Live;
use crate::host::regular;
use boot_engine::config::{Sha256Digest, Upstream};

/// The part of an error's body that is read for what S3 says.
const ERROR_BODY: usize = 4096;
/// What xpxe writes before a digest in its entity tags.
pub const TAG: &str = "sha256-";

/// How long an upstream may keep us waiting.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the beginning of the answer, and then for each byte; for the whole of an answer that has to be short.
    pub read: Duration,
    /// In which at least `slowest` bytes have to come.
    pub window: Duration,
    /// See `window`.
    pub slowest: u64,
    /// How often it is tried without getting any further.
    pub tries: u32,
    /// Before the second try; twice as long before each further one.
    pub pause: Duration,
    /// After a failure, for so long nobody tries again.
    pub rest: Duration,
    /// So long a fetch waits for others to end.
    pub turn: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            read: Duration::from_secs(30),
            window: Duration::from_secs(60),
            slowest: 64 << 10,
            tries: 4,
            pause: Duration::from_secs(1),
            rest: Duration::from_secs(20),
            turn: Duration::from_secs(60),
        }
    }
}

/// What an upstream calls a content, and when it says that it has changed.
pub(super) type Validators = (Option<String>, Option<String>);

/// What to ask for.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// From this byte on.
    pub(super) from: u64,
    /// Only if it is still this content; else all of the other.
    pub(super) if_range: Option<String>,
    /// Nothing if it is still this: the entity tag and the time.
    pub(super) unless: Option<Validators>,
}

/// Why an upstream does not give what it is asked for: a sentence without signatures and passwords.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may later.
    Passing(String),
    /// It will not.
    Lasting(String),
}

impl Trouble {
    pub(super) fn into_sentence(self) -> String {
        match self {
            Self::Passing(why) | Self::Lasting(why) => why,
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// What was asked for.
    Content(Box<Content>),
    /// It is still the same.
    Unchanged,
    /// It does not have so many bytes.
    Ended,
}

/// Bytes on their way.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) response: Response,
    /// From which byte on.
    pub(super) from: u64,
    pub(super) total: Option<u64>,
    /// Only a strong one.
    pub(super) etag: Option<String>,
    pub(super) modified: Option<String>,
}

impl Content {
    /// What the upstream itself says that the digest is: another xpxe does.
    pub(super) fn digest(&self) -> Option<Sha256Digest> {
        self.etag.as_ref()?.trim_matches('"').strip_prefix(TAG)?.parse().ok()
    }
}

/// How the reading of a short answer ended.
#[derive(Debug)]
pub(super) enum Short {
    Whole,
    TooLong,
    TooSlow,
    Broken(reqwest::Error),
}

/// Those who can be asked.
#[derive(Debug)]
pub(super) struct Upstreams {
    configured: Live<Configured>,
    pub(super) patience: Patience,
}

impl Upstreams {
    pub(super) fn new(configured: Live<Configured>, patience: Patience) -> Self {
        // Whoever was first has chosen the same.
        rustls::crypto::ring::default_provider().install_default().ok();
        Self { configured, patience }
    }

    /// Asks for what is at `url`.
    pub(super) async fn ask(&self, url: &str, wanted: &Wanted) -> Result<Answer, Trouble> {
        let configured = self.configured.get();
        let upstream = configured.settings.upstream(url);
        let is_s3 = url.starts_with("s3://");
        let place: Url = match is_s3 {
            true => s3::locate(url, upstream, s3::SIGNED_FOR).await.map_err(Trouble::Lasting)?,
            false => {
                url.parse().map_err(|error| Trouble::Lasting(format!("{} is no URL: {error}", shown(url))))?
            }
        };
        let client = self.client(upstream, is_s3, &place).map_err(Trouble::Lasting)?;
        let mut request = client.get(place).header(ACCEPT_ENCODING, "identity");
        if wanted.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", wanted.from));
            if let Some(tag) = &wanted.if_range {
                request = request.header(IF_RANGE, tag);
            }
        }
        match &wanted.unless {
            Some((Some(tag), _)) => request = request.header(IF_NONE_MATCH, tag),
            Some((None, Some(time))) => request = request.header(IF_MODIFIED_SINCE, time),
            _ => {}
        }
        let response = request.send().await.map_err(|error| failure(url, error))?;
        self.understand(url, wanted, response).await
    }

    async fn understand(&self, url: &str, wanted: &Wanted, response: Response) -> Result<Answer, Trouble> {
        let headers = response.headers();
        let text = |name: HeaderName| Some(headers.get(name)?.to_str().ok()?.trim().to_owned());
        let (range, encoding) = (text(CONTENT_RANGE), text(CONTENT_ENCODING));
        if let Some(encoding) = encoding.filter(|encoding| encoding != "identity") {
            let why = format!(
                "{} answers in {encoding:?} although only the file as it is was asked for",
                shown(url)
            );
            return Err(Trouble::Lasting(why));
        }
        let etag = text(ETAG).filter(|tag| tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2);
        let modified = text(LAST_MODIFIED);
        let content = |from, total, response| {
            Answer::Content(Box::new(Content { response, from, total, etag, modified }))
        };
        match response.status() {
            StatusCode::OK => {
                let total = length(headers);
                Ok(content(0, total, response))
            }
            StatusCode::PARTIAL_CONTENT if wanted.from > 0 => {
                let (from, total) = range.as_deref().and_then(read_range).ok_or_else(|| {
                    Trouble::Lasting(format!("{} sends a part and does not say which", shown(url)))
                })?;
                if from != wanted.from {
                    let why = format!("{} sends from byte {from} on, not from {}", shown(url), wanted.from);
                    return Err(Trouble::Lasting(why));
                }
                Ok(content(from, total, response))
            }
            StatusCode::NOT_MODIFIED if wanted.unless.is_some() => Ok(Answer::Unchanged),
            StatusCode::RANGE_NOT_SATISFIABLE if wanted.from > 0 => Ok(Answer::Ended),
            status => Err(self.refused(url, status, response).await),
        }
    }

    /// Takes an answer of at most `most` bytes, in the time that an upstream may be silent for: one that sends a byte now
    /// and then would else hold a fetch for ever. What has come is in `bytes`, however it ends.
    pub(super) async fn short(&self, response: &mut Response, most: usize, bytes: &mut Vec<u8>) -> Short {
        let reading = async {
            loop {
                match response.chunk().await {
                    Ok(Some(chunk)) if bytes.len() + chunk.len() > most => return Short::TooLong,
                    Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                    Ok(None) => return Short::Whole,
                    Err(error) => return Short::Broken(error),
                }
            }
        };
        timeout(self.patience.read, reading).await.unwrap_or(Short::TooSlow)
    }

    async fn refused(&self, url: &str, status: StatusCode, mut response: Response) -> Trouble {
        let mut body = Vec::new();
        let is_s3 = url.starts_with("s3://");
        if is_s3 {
            // Whatever has come of it may have the code in it.
            self.short(&mut response, ERROR_BODY, &mut body).await;
        }
        let code = s3_code(&body).map_or_else(String::new, |code| format!(" ({code})"));
        let remedy = match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => "; is the URL right?",
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if is_s3 => {
                "; are the keys, region and endpoint of [[images.upstream]] right, and the clock?"
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; may this host read it?",
            status if status.is_redirection() => "; are region and endpoint of [[images.upstream]] right?",
            _ => "",
        };
        let why = format!("{} answers {status}{code}{remedy}", shown(url));
        let passing = status.is_server_error()
            || matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY
            );
        if passing { Trouble::Passing(why) } else { Trouble::Lasting(why) }
    }

    /// A client of its own for each fetch: fetches are rare, and certificates may change.
    fn client(&self, upstream: Option<&Upstream>, is_s3: bool, place: &Url) -> Result<Client, String> {
        let reach = Reach::of(place);
        let builder = || {
            Client::builder()
                .user_agent(concat!("xpxe/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(self.patience.connect)
                .read_timeout(self.patience.read)
                .referer(false)
                .dns_resolver(Arc::new(reach.clone()))
                .redirect(if is_s3 { Policy::none() } else { reach.policy() })
        };
        let mut own = Vec::new();
        if let Some(path) = upstream.and_then(|upstream| upstream.certificate.as_ref()) {
            own = certificates(path)?;
        }
        // A system without any certificates is enough for plain HTTP, and for those of our own.
        let with_systems = builder().tls_certs_merge(own.clone()).build();
        with_systems
            .or_else(|_| builder().tls_certs_only(own).build())
            .map_err(|error| format!("TLS cannot be prepared: {}", reasons(&error)))
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let pem = regular::read(path)
        .map_err(|error| format!("the certificate {} cannot be read: {error}", path.display()))?;
    let found = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if found.is_empty() {
        return Err(format!("{} has no certificates in PEM in it", path.display()));
    }
    Ok(found)
}

/// What is wrong with the files of an upstream.
pub(super) fn wrong_files(upstream: &Upstream) -> Vec<String> {
    let mut wrong = s3::wrong_keys(upstream);
    wrong.extend(upstream.certificate.as_deref().and_then(|path| certificates(path).err()));
    wrong
}

/// By the header: the client's own idea of it knows nothing of answers without a body.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(reqwest::header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// `bytes 5-9/10` or `bytes 5-9/*`
fn read_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let from = range.split_once('-')?.0.parse().ok()?;
    Some((from, if total == "*" { None } else { Some(total.parse().ok()?) }))
}

/// What S3 calls an error.
fn s3_code(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let code = text.split_once("<Code>")?.1.split_once("</Code>")?.0;
    (code.len() < 60 && code.bytes().all(|b| b.is_ascii_alphanumeric())).then(|| code.to_owned())
}

/// Why there was no answer, or why it ended.
pub(super) fn failure(url: &str, error: reqwest::Error) -> Trouble {
    // The URL in the error may be a signed one.
    let error = error.without_url();
    let what = match () {
        () if error.is_redirect() => "cannot be fetched",
        () if error.is_timeout() && error.is_connect() => "cannot be reached in time",
        () if error.is_timeout() => "has sent nothing for too long",
        () if error.is_connect() => "cannot be reached",
        () if error.is_body() || error.is_decode() => "stopped in the middle",
        () => "does not answer",
    };
    let why = format!("{} {what}: {}", shown(url), reasons(&error));
    if error.is_redirect() { Trouble::Lasting(why) } else { Trouble::Passing(why) }
}

/// The innermost cause says it.
fn reasons(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = error.to_string();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

/// A URL for people: without a password and without what stands behind `?`, which may be a token.
pub fn shown(url: &str) -> String {
    let (place, query) = url.split_once('?').map_or((url, false), |(place, _)| (place, true));
    let place = match place.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
            let host = host.rsplit('@').next().unwrap_or_default();
            let path = path.map_or_else(String::new, |path| format!("/{path}"));
            format!("{scheme}://{host}{path}")
        }
        None => place.to_owned(),
    };
    if query { format!("{place}?…") } else { place }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_urls_are_not_shown() {
        assert_eq!(shown("https://h/a/b"), "https://h/a/b");
        assert_eq!(shown("https://user:pass@h:8/a@b?token=1"), "https://h:8/a@b?…");
        assert_eq!(shown("https://u:p@h"), "https://h");
        assert_eq!(shown("s3://bucket/key"), "s3://bucket/key");
    }

    #[test]
    fn ranges_and_codes_are_read() {
        assert_eq!(read_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(read_range("bytes 5-9/*"), Some((5, None)));
        for wrong in ["bytes */10", "5-9/10", "bytes 5-9", "bytes a-9/10", "bytes 5-9/x"] {
            assert_eq!(read_range(wrong), None, "{wrong}");
        }
        assert_eq!(s3_code(b"<Error><Code>NoSuchKey</Code>"), Some("NoSuchKey".to_owned()));
        assert_eq!(s3_code(b"<Error><Code>No Such\x1b[31m</Code>"), None);
    }
}
