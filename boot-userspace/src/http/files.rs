//! Boot files.

use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::{ConnectInfo, Extension, State};
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED,
};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use rustix::io::{ReadWriteFlags, preadv2};

use super::body::{self, Segment};
use super::conditions::{Subject, Verdict, judge};
use super::delivery::{Delivery, Recipient, has_no_disk};
use super::ending::Ending;
use super::outbox::Outbox;
use super::{Ends, Request, Site, boot, date, loaders, multipart, shown};
use crate::files::{BootFiles, OpenError, OpenFile, is_efi_application, percent};
use crate::host::clock;
use boot_engine::events::{Http, Machine, NotServed, WhyNotServed};
use boot_engine::machines::Client;

pub(super) async fn file(
    State(site): State<Arc<Site>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    method: Method,
    uri: Uri,
    outbox: Option<Extension<Outbox>>,
    ending: Option<Extension<Ending>>,
    headers: HeaderMap,
) -> Response {
    // Not axum's own parameter, which may not be decoded in the same way.
    let raw = uri.path().splitn(3, '/').nth(2).unwrap_or_default();
    let Some(name) = percent::decode(raw) else {
        let why = "the path has a percent sign without two digits, control characters, or is not UTF-8\n";
        return (StatusCode::BAD_REQUEST, why).into_response();
    };
    let outbox = outbox.map(|Extension(outbox)| outbox);
    let ending = ending.map_or_else(Ending::default, |Extension(ending)| ending);
    named(&site, ends, &Request { method, uri, headers, ending }, outbox, name).await
}

/// The file of a name.
pub(super) async fn named(
    site: &Site,
    ends: Ends,
    request: &Request,
    outbox: Option<Outbox>,
    name: String,
) -> Response {
    let Request { method, uri, headers, ending } = request;
    let known = site.machines.client_at(ends.client.ip());
    let machine = known.clone().map(Machine::from);
    let (client, file) = (ends.client.ip(), shown(&name).into());
    let to = Recipient { machine, client, file, ending: ending.clone(), events: Arc::clone(&site.events) };
    if site.files.wants_signature(&name)
        && let Some(refused) = refuse_link(site, &format!("/files/{name}"), uri, known.as_ref(), &to)
    {
        return refused;
    }
    let opened = match find_at_hand(&site.files, &name) {
        Some(found) => Ok(found),
        None => find(&site.files, name.clone()).await,
    };
    match opened {
        Ok(found) => answer(method, headers, found, to, outbox),
        // iPXE looks for this beside its own binary, so here if that came from here.
        Err(OpenError::NotFound { .. }) if to.file.rsplit('/').next() == Some("autoexec.ipxe") => {
            boot::bootstrap_for(site, ends, method, uri, headers, known)
        }
        Err(error @ OpenError::NotFound { .. }) => match loaders::written(site, ends, request, &name).await {
            Some(written) => written,
            None => refuse(error, to),
        },
        Err(error) => refuse(error, to),
    }
}

/// A file, and what has to be known before anything is sent of it.
pub(super) struct Found {
    opened: OpenFile,
    content_type: &'static str,
    in_memory: bool,
}

impl Found {
    /// Looks at a file that clients know as `name`. Waits for its disk.
    pub(super) fn new(name: &str, opened: OpenFile) -> Self {
        let content_type = content_type(name, |bytes, at| opened.file.read_at(bytes, at));
        let in_memory = has_no_disk(&opened.file);
        Self { content_type: content_type.unwrap_or(ANYTHING), opened, in_memory }
    }

    /// The same, and waits for nothing: the file is given back where it would have to. `in_memory`: see [`has_no_disk`].
    pub(super) fn at_hand(name: &str, opened: OpenFile, in_memory: bool) -> Result<Self, OpenFile> {
        let at_hand = if in_memory { ReadWriteFlags::empty() } else { ReadWriteFlags::NOWAIT };
        let content_type = content_type(name, |bytes, at| {
            preadv2(&opened.file, &mut [IoSliceMut::new(bytes)], at, at_hand).map_err(io::Error::from)
        });
        match content_type {
            Ok(content_type) => Ok(Self { opened, content_type, in_memory }),
            Err(_) => Err(opened),
        }
    }

    /// Answers with what the request wants of the file.
    pub(super) fn send(
        self,
        method: &Method,
        headers: &HeaderMap,
        etag: Option<String>,
        modified: SystemTime,
        to: Recipient,
        outbox: Option<Outbox>,
    ) -> Response {
        let Self { opened, content_type, in_memory } = self;
        let facts = Facts { etag, modified, size: opened.size, content_type, is_stream: false };
        send(method, headers, &facts, to, |segments, to| {
            let wanted = segments.iter().map(Segment::of_file).sum();
            let size = opened.size;
            let is_inner = |segment: &Segment| matches!(segment, Segment::File(range) if range.start > 0 && range.end < size);
            let is_read = segments.iter().all(is_inner);
            body::body(Delivery::new(opened, in_memory, wanted, to).with_read(is_read), segments, outbox)
        })
    }
}

/// What can be had without waiting for a disk; none says nothing.
fn find_at_hand(files: &BootFiles, name: &str) -> Option<Found> {
    let opened = files.open_at_hand(name)?;
    let in_memory = has_no_disk(&opened.file);
    Found::at_hand(name, opened, in_memory).ok()
}

/// The same, and waits as long as it takes.
async fn find(files: &Arc<BootFiles>, name: String) -> Result<Found, OpenError> {
    let waiting = Arc::clone(files);
    let found = tokio::task::spawn_blocking(move || Ok(Found::new(&name, waiting.open_plain(&name)?)));
    found.await.unwrap_or_else(|error| {
        Err(OpenError::Io { path: files.boot_dir().to_path_buf(), error: io::Error::other(error) })
    })
}

fn answer(
    method: &Method,
    headers: &HeaderMap,
    found: Found,
    to: Recipient,
    outbox: Option<Outbox>,
) -> Response {
    let OpenFile { size, modified, identity: (_, inode), .. } = found.opened;
    let nanoseconds = modified.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let etag = Some(format!("\"{inode:x}-{size:x}-{nanoseconds:x}\""));
    found.send(method, headers, etag, modified, to, outbox)
}

/// What is known of something that is sent.
pub(super) struct Facts {
    /// In quotes. None where nobody knows yet what it will be.
    pub(super) etag: Option<String>,
    pub(super) modified: SystemTime,
    pub(super) size: u64,
    pub(super) content_type: &'static str,
    /// It comes as a stream: who asks for several ranges of it gets the whole (RFC 9110 section 14.2).
    pub(super) is_stream: bool,
}

/// What an answer has at most, with hyper's date: room for them is made once.
const MOST_HEADERS: usize = 8;

/// Answers with what the request wants of something. `body` sends the segments.
pub(super) fn send(
    method: &Method,
    headers: &HeaderMap,
    facts: &Facts,
    to: Recipient,
    body: impl FnOnce(Vec<Segment>, Recipient) -> Body,
) -> Response {
    let Facts { etag, modified, size, content_type, is_stream } = facts;
    let (size, content_type) = (*size, *content_type);
    let subject = Subject { etag: etag.as_deref().unwrap_or_default(), modified: *modified, size };
    let verdict = judge(headers, &subject, method == Method::GET);
    let value = |text: String| HeaderValue::try_from(text).ok();
    let etag = etag.iter().filter_map(|tag| Some((ETAG, tag.parse().ok()?)));
    let modified = value(date::format(*modified)).map(|time| (LAST_MODIFIED, time));
    let mut validators = HeaderMap::with_capacity(MOST_HEADERS);
    validators.extend(etag.chain(modified));
    let plain = HeaderValue::from_static(content_type);
    let whole = |plain| (StatusCode::OK, None, plain, vec![Segment::File(0..size)]);
    let (status, range, content_type, segments) = match verdict {
        Verdict::NotModified => return (StatusCode::NOT_MODIFIED, validators).into_response(),
        Verdict::Changed => return (StatusCode::PRECONDITION_FAILED, validators).into_response(),
        Verdict::Unsatisfiable => {
            let whole = [(CONTENT_RANGE, format!("bytes */{size}"))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, whole).into_response();
        }
        Verdict::Whole => whole(plain),
        Verdict::Parts(_) if *is_stream => whole(plain),
        Verdict::Part(range) => {
            let of = value(multipart::content_range(&range, size));
            (StatusCode::PARTIAL_CONTENT, of, plain, vec![Segment::File(range)])
        }
        Verdict::Parts(ranges) => {
            let boundary = multipart::boundary();
            let segments = multipart::segments(ranges, size, content_type, &boundary);
            let content_type = value(multipart::content_type(&boundary)).unwrap_or(plain);
            (StatusCode::PARTIAL_CONTENT, None, content_type, segments)
        }
    };
    let mut facts = validators;
    facts.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    facts.extend(range.map(|range| (CONTENT_RANGE, range)));
    // Set by hand: iPXE is slow and EDK2 fails without a length, so the answer must never be chunked.
    facts.insert(CONTENT_LENGTH, segments.iter().map(Segment::length).sum::<u64>().into());
    facts.insert(CONTENT_TYPE, content_type);
    let is_head = method == Method::HEAD;
    let is_part = status == StatusCode::PARTIAL_CONTENT;
    to.happened(Http::Asked { file: Arc::clone(&to.file), is_head, is_part });
    let body = if is_head { Body::empty() } else { body(segments, to) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = facts;
    response
}

/// The answer to a link that is not signed for the client, if links have to be.
pub(super) fn refuse_link(
    site: &Site,
    path: &str,
    uri: &Uri,
    holder: Option<&Client>,
    to: &Recipient,
) -> Option<Response> {
    let holder = holder.map(|client| client.mac);
    let now = clock::wall().as_secs();
    let bad = site.scripts.link_key()?.check(path, uri.query(), (to.client, holder), now).err()?;
    let answer = (StatusCode::FORBIDDEN, format!("{bad}\n")).into_response();
    let why = NotServed { why: WhyNotServed::Forbidden, error: Arc::new(bad) };
    to.happened(Http::NotServed { file: Arc::clone(&to.file), why });
    Some(answer)
}

fn refuse(error: OpenError, to: Recipient) -> Response {
    let why = NotServed::from(error);
    let (status, text) = match why.why {
        WhyNotServed::NotFound => (StatusCode::NOT_FOUND, "no such file\n"),
        WhyNotServed::Forbidden => (StatusCode::FORBIDDEN, "this may not be served\n"),
        WhyNotServed::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read\n"),
    };
    to.happened(Http::NotServed { file: Arc::clone(&to.file), why });
    (status, text).into_response()
}

pub(super) const ANYTHING: &str = "application/octet-stream";

/// UEFI HTTP Boot goes by this header before it looks at the name (UEFI 2.10 section 24.7). Fails as `read` does.
pub(super) fn content_type(
    name: &str,
    read: impl Fn(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<&'static str> {
    let begins = |at: u64, wanted: &[u8]| {
        let mut found = vec![0; wanted.len()];
        Ok::<_, io::Error>(read(&mut found, at)? == wanted.len() && found == wanted)
    };
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    match extension.as_str() {
        "efi" => return Ok("application/efi"),
        "ipxe" | "cfg" | "conf" | "txt" | "lst" | "yaml" | "yml" => return Ok("text/plain"),
        "json" => return Ok("application/json"),
        "iso" if begins(32_769, b"CD001")? => return Ok("application/vnd.efi-iso"),
        "img" if begins(510, b"\x55\xaa")? => return Ok("application/vnd.efi-img"),
        _ => {}
    }
    let mut head = [0; 4096];
    let length = read(&mut head, 0)?;
    let is_efi = is_efi_application(head.get(..length).unwrap_or_default());
    Ok(if is_efi { "application/efi" } else { ANYTHING })
}
