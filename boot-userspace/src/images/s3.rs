//! S3: an object is fetched by a URL that is signed for a while, like everything else by HTTP.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::signer::Signer as _;
use reqwest::{Method, Url};

use crate::host::regular;
use boot_engine::config::Upstream;

/// For how long a signature of the store's own requests is good: the beginning of the answer has to come by then.
pub(super) const SIGNED_FOR: Duration = Duration::from_secs(15 * 60);

/// The URL of the object `s3://bucket/key`, for so long. Has a signature in it: not for the log.
///
/// # Errors
/// A sentence without keys in it.
pub(super) async fn locate(url: &str, upstream: Option<&Upstream>, valid: Duration) -> Result<Url, String> {
    let (bucket, key) = url
        .strip_prefix("s3://")
        .and_then(|rest| rest.split_once('/'))
        .ok_or_else(|| format!("{url} names no object"))?;
    let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_http_connector(SignsOnly);
    if let Some(upstream) = upstream {
        builder = builder.with_region(&upstream.region);
        if let Some(endpoint) = &upstream.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(true);
        }
    }
    let keys = upstream
        .and_then(|upstream| Some((upstream.access_key_file.as_ref()?, upstream.secret_key_file.as_ref()?)));
    let Some((access, secret)) = keys else { return unsigned(bucket, key, upstream) };
    let store: AmazonS3 = builder
        .with_access_key_id(read(access, regular::read)?)
        .with_secret_access_key(read(secret, regular::read_private)?)
        .build()
        .map_err(|error| format!("{url} cannot be asked for: {error}"))?;
    let path =
        object_store::path::Path::parse(key).map_err(|error| format!("{url} names no object: {error}"))?;
    store
        .signed_url(Method::GET, &path, valid)
        .await
        .map_err(|error| format!("{url} cannot be signed: {error}"))
}

/// Where everybody may read the object.
fn unsigned(bucket: &str, key: &str, upstream: Option<&Upstream>) -> Result<Url, String> {
    let endpoint = match upstream.and_then(|upstream| upstream.endpoint.as_ref()) {
        Some(endpoint) => format!("{endpoint}/{bucket}"),
        None => {
            let region = upstream.map_or("us-east-1", |upstream| upstream.region.as_str());
            format!("https://{bucket}.s3.{region}.amazonaws.com")
        }
    };
    let mut url: Url = endpoint.parse().map_err(|error| format!("{endpoint} is no URL: {error}"))?;
    url.path_segments_mut()
        .map_err(|()| format!("{endpoint} is no URL with a path"))?
        .pop_if_empty()
        .extend(key.split('/'));
    Ok(url)
}

/// What is wrong with the files of an upstream's keys.
pub(super) fn wrong_keys(upstream: &Upstream) -> Vec<String> {
    let access = upstream.access_key_file.as_deref().and_then(|file| read(file, regular::read).err());
    let secret = upstream.secret_key_file.as_deref().and_then(|file| read(file, regular::read_private).err());
    access.into_iter().chain(secret).collect()
}

/// A key as it stands in its file, which may have a newline at its end.
fn read(path: &Path, bytes_of: fn(&Path) -> io::Result<Vec<u8>>) -> Result<String, String> {
    let text = bytes_of(path).and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
    let text = text.map_err(|error| {
        format!(
            "the key in {} cannot be read: {error}; put it there, readable for the user of xpxe",
            path.display()
        )
    })?;
    let key = text.trim();
    if key.is_empty() || key.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("{} has to have one key and nothing else in it", path.display()));
    }
    Ok(key.to_owned())
}

/// Lets the crate sign and keeps it from connecting.
#[derive(Debug)]
struct SignsOnly;

impl HttpConnector for SignsOnly {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Self))
    }
}

impl HttpService for SignsOnly {
    fn call<'s, 'f>(
        &'s self,
        _: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        let why = std::io::Error::other("only signs");
        Box::pin(std::future::ready(Err(HttpError::new(HttpErrorKind::Connect, why))))
    }
}

#[cfg(test)]
mod tests;
