//! Images of the content store: those that are here, and those that are on their way.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{ConnectInfo, Extension, State};
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use boot_engine::config::ImageName;
use boot_engine::events::{Http, Machine};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio_util::io::ReaderStream;

use super::body::Segment;
use super::delivery::{CHUNK, Recipient};
use super::ending::Ending;
use super::files::{ANYTHING, Facts, Found, content_type, refuse_link, send};
use super::outbox::Outbox;
use super::{Ends, Site, shown};
use crate::files::{OpenFile, percent};
use crate::host::clock;
use crate::images::{Head, ImageError, Opened, Progress, TAG, Whole, pieces};

/// In seconds: when one asks again whose image waits for others.
const ASK_AGAIN: &str = "30";

pub(super) async fn image(
    State(site): State<Arc<Site>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    method: Method,
    uri: Uri,
    outbox: Option<Extension<Outbox>>,
    ending: Option<Extension<Ending>>,
    headers: HeaderMap,
) -> Response {
    let raw = uri.path().splitn(3, '/').nth(2).unwrap_or_default();
    let (raw, wants_pieces) = raw.strip_suffix(pieces::PATH).map_or((raw, false), |name| (name, true));
    let decoded = percent::decode(raw).unwrap_or_else(|| raw.to_owned());
    let known = site.machines.client_at(ends.client.ip());
    let machine = known.clone().map(Machine::from);
    let (client, file) = (ends.client.ip(), format!("image {}", shown(&decoded)).into());
    let ending = ending.map_or_else(Ending::default, |Extension(ending)| ending);
    let to = Recipient { machine, client, file, ending, events: Arc::clone(&site.events) };
    // The name is the only thing that reaches a file system.
    let Ok(name) = decoded.parse::<ImageName>() else {
        return refuse(StatusCode::NOT_FOUND, "that cannot be the name of an image", &to);
    };
    if let Some(refused) = refuse_link(&site, &format!("/images/{name}"), &uri, known.as_ref(), &to) {
        return refused;
    }
    if wants_pieces {
        return tell_pieces(&site, name).await;
    }
    // One that has come meanwhile is asked for once more; one that was only compared and has left, twice.
    for _ in 0..3 {
        let mut coming = match site.images.open(&name).await {
            Ok(Opened::Whole(whole)) => {
                let outbox = outbox.map(|Extension(outbox)| outbox);
                return send_whole(&method, &headers, &name, whole, to, outbox).await;
            }
            Ok(Opened::Coming(coming)) => coming,
            Err(error) => return explain(&error, &to),
        };
        let begun = coming.wait_for(|progress| {
            progress.end.is_some() || progress.head.as_ref().is_some_and(|head| head.total.is_some())
        });
        // The borrow must not be held while others wait to write.
        let progress = begun.await.map(|progress| progress.clone());
        match progress {
            Ok(Progress { end: Some(Err(error)), .. }) => return explain(&error, &to),
            Ok(Progress { end: None, head: Some(Head { file, total: Some(total), expected }), .. }) => {
                let etag = expected.map(|digest| format!("\"{TAG}{digest}\""));
                let modified = UNIX_EPOCH + clock::wall();
                // What has not come yet cannot be looked at.
                let content_type = content_type(name.as_str(), |bytes, at| file.read_at(bytes, at));
                let content_type = content_type.unwrap_or(ANYTHING);
                let facts = Facts { etag, modified, size: total, content_type, is_stream: true };
                return send(&method, &headers, &facts, to, |segments, to| {
                    let ranges = segments.into_iter().find_map(|segment| match segment {
                        Segment::File(range) => Some(range),
                        Segment::Text(_) => None,
                    });
                    follow(coming, file, ranges.unwrap_or_default(), to)
                });
            }
            _ => {}
        }
    }
    refuse(StatusCode::SERVICE_UNAVAILABLE, "the image is not here yet; ask again", &to)
}

async fn send_whole(
    method: &Method,
    headers: &HeaderMap,
    name: &ImageName,
    whole: Whole,
    to: Recipient,
    outbox: Option<Outbox>,
) -> Response {
    let Whole { file, path, digest, fetched } = whole;
    match look_at(name, file, path).await {
        Ok(found) => {
            let etag = Some(format!("\"{TAG}{digest}\""));
            found.send(method, headers, etag, UNIX_EPOCH + fetched, to, outbox)
        }
        Err(why) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &why, &to),
    }
}

/// Waits for the disk only where the image's beginning is not in memory.
async fn look_at(name: &ImageName, file: File, path: PathBuf) -> Result<Found, String> {
    let opened = OpenFile::of(file, path).map_err(|error| error.to_string())?;
    match Found::at_hand(name.as_str(), opened, false) {
        Ok(found) => Ok(found),
        Err(opened) => {
            let name = name.clone();
            let found = tokio::task::spawn_blocking(move || Found::new(name.as_str(), opened));
            found.await.map_err(|error| error.to_string())
        }
    }
}

async fn tell_pieces(site: &Site, name: ImageName) -> Response {
    let images = Arc::clone(&site.images);
    let pieces = tokio::task::spawn_blocking(move || images.pieces(&name)).await;
    match pieces.ok().flatten() {
        Some(pieces) => ([(CONTENT_TYPE, "application/octet-stream")], pieces).into_response(),
        None => (StatusCode::NOT_FOUND, "this image is not here\n").into_response(),
    }
}

fn explain(error: &ImageError, to: &Recipient) -> Response {
    let status = match error {
        ImageError::Unknown(_) => StatusCode::NOT_FOUND,
        ImageError::Upstream(_) | ImageError::Wrong { .. } | ImageError::List(_) => StatusCode::BAD_GATEWAY,
        ImageError::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
        ImageError::Full { .. } | ImageError::TooLarge(_) => StatusCode::INSUFFICIENT_STORAGE,
        ImageError::Gone(_) | ImageError::Record { .. } | ImageError::Disk(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    let mut response = refuse(status, &error.to_string(), to);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(ASK_AGAIN));
    }
    response
}

/// What is wrong with the store is for the log, not for everybody.
fn refuse(status: StatusCode, why: &str, to: &Recipient) -> Response {
    to.happened(Http::NoImage { file: Arc::clone(&to.file), why: why.to_owned() });
    (status, "this image cannot be had; the server's log says why\n").into_response()
}

/// The bytes of an image as they come. Where the fetch fails the connection ends before the length that was promised.
fn follow(coming: watch::Receiver<Progress>, file: Arc<File>, range: Range<u64>, to: Recipient) -> Body {
    let (out, mut into) = tokio::io::duplex(CHUNK);
    let started = Instant::now();
    tokio::spawn(async move {
        let mut at = range.start;
        let ended = copy(coming, file, &mut at, range.end, &mut into).await;
        drop(into);
        let (file, bytes, took) = (Arc::clone(&to.file), at - range.start, started.elapsed());
        to.happened(match ended {
            Ok(()) => Http::Relayed { file, bytes, took },
            Err(End::Left) => to.cut_short(bytes, range.end - range.start, took),
            Err(End::Failed(why)) => Http::Broken { file, bytes, took, why },
        });
    });
    Body::from_stream(ReaderStream::with_capacity(out, CHUNK))
}

enum End {
    Left,
    Failed(String),
}

async fn copy(
    mut coming: watch::Receiver<Progress>,
    file: Arc<File>,
    at: &mut u64,
    end: u64,
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
) -> Result<(), End> {
    while *at < end {
        let from = *at;
        let ready = coming.wait_for(|progress| progress.readable > from || progress.end.is_some()).await;
        let ready = ready.map(|progress| (progress.readable, progress.end.clone()));
        let (readable, ended) = ready.map_err(|_| End::Failed("xpxe is stopping".to_owned()))?;
        if readable <= from {
            let why = match ended {
                Some(Err(error)) => error.to_string(),
                _ => "the image has ended before".to_owned(),
            };
            return Err(End::Failed(why));
        }
        let len = usize::try_from(readable.min(end) - from).unwrap_or(CHUNK).min(CHUNK);
        let file = Arc::clone(&file);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, from).map(|()| bytes)
        });
        let bytes = read.await.map_err(io::Error::other).and_then(|bytes| bytes);
        let bytes = bytes.map_err(|error| End::Failed(error.to_string()))?;
        to.write_all(&bytes).await.map_err(|_| End::Left)?;
        *at += bytes.len() as u64;
    }
    Ok(())
}
