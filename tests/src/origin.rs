//! An upstream of images that does what it is told to, wrong things too, and remembers who asked for what.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::wait::eventually;

/// Bytes that are written at a time.
const PIECE: usize = 64 << 10;
/// Between two bytes that drip.
const DRIP: Duration = Duration::from_millis(300);

/// How a file is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As it should be.
    Right,
    /// As it should be, but after so many bytes it waits for [`Origin::release`].
    Gated(usize),
    /// Says that there are so many bytes more than there are.
    Promising(usize),
    /// Says that there are so many bytes less than there are.
    Hiding(usize),
    /// Ends each connection after so many bytes.
    Stopping(usize),
    /// Answers with a redirect.
    To(String),
    /// Accepts, and never answers.
    Silent,
    /// A byte every ten milliseconds.
    Trickling,
    /// A byte now and then: an upstream that is never silent for long, and never ready.
    Dripping,
    /// The same before the answer has begun.
    DrippingHead,
    /// Answers with a status, and the page that says why drips.
    DrippingStatus(u16),
    /// Answers with a status and nothing else.
    Status(u16),
    /// Always the whole file, and no length of it.
    Streaming,
    /// Without an entity tag.
    Untagged,
    /// With this entity tag.
    Tagged(String),
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The path, with what is behind `?`.
    pub path: String,
    /// The headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// The body, for which `Content-Length` says how long it is.
    pub body: String,
    /// What the answer began with.
    pub status: u16,
}

#[derive(Debug)]
struct Content {
    bytes: Arc<Vec<u8>>,
    version: u32,
    manner: Manner,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<String, Content>,
    asked: Vec<Asked>,
    released: bool,
    is_dead: bool,
    /// Bytes of bodies.
    sent: u64,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The upstream. It serves until it is dropped, in the network namespace that it was started in.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Origin {
    /// Starts it on loopback.
    pub fn start() -> Result<Self> {
        Self::start_at("127.0.0.1")
    }

    /// Starts it on an address of this host.
    pub fn start_at(address: &str) -> Result<Self> {
        let listener = TcpListener::bind((address, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.lock().is_dead {
                    return;
                }
                let serving = Arc::clone(&serving);
                // Who leaves early is no error.
                thread::spawn(move || serving.serve(stream).ok());
            }
        });
        Ok(Self { address, shared })
    }

    /// The URL of a path, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Serves a file from now on; one of the same path is replaced by it.
    pub fn put(&self, path: &str, bytes: Vec<u8>, manner: Manner) {
        let mut state = self.shared.lock();
        let version = state.files.get(path).map_or(0, |content| content.version + 1);
        state.files.insert(path.to_owned(), Content { bytes: Arc::new(bytes), version, manner });
    }

    /// Serves a file in another way.
    pub fn set(&self, path: &str, manner: Manner) {
        if let Some(content) = self.shared.lock().files.get_mut(path) {
            content.manner = manner;
        }
    }

    /// Lets what is gated go on.
    pub fn release(&self) {
        self.shared.lock().released = true;
        self.shared.changed.notify_all();
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.lock().asked.clone()
    }

    /// How many bytes of bodies it has sent.
    pub fn sent(&self) -> u64 {
        self.shared.lock().sent
    }

    /// Waits until it has sent so many bytes.
    pub fn wait_for_sent(&self, bytes: u64) -> Result<()> {
        eventually(Duration::from_secs(30), "bytes from the upstream", || self.sent() >= bytes)
    }

    /// Ends it: connections are refused from now on.
    pub fn kill(&self) {
        self.shared.lock().is_dead = true;
        self.release();
        // The listener ends when it has seen another connection.
        drop(TcpStream::connect(self.address));
        eventually(Duration::from_secs(10), "the end of the upstream", || {
            TcpStream::connect(self.address).is_err()
        })
        .ok();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.lock().is_dead = true;
        self.shared.changed.notify_all();
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':') {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = String::new();
        reader.take(length).read_to_string(&mut body)?;
        let file = path.split('?').next().unwrap_or_default().to_owned();
        let found = self
            .lock()
            .files
            .get(&file)
            .map(|content| (Arc::clone(&content.bytes), content.version, content.manner.clone()));
        let note = |status: u16| {
            self.lock().asked.push(Asked {
                path: path.clone(),
                headers: headers.clone(),
                body: body.clone(),
                status,
            });
            self.changed.notify_all();
        };
        let Some((bytes, version, manner)) = found else {
            note(404);
            return stream
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        match &manner {
            Manner::Status(status) => {
                note(*status);
                return write!(
                    stream,
                    "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
            }
            Manner::DrippingHead => {
                note(0);
                stream.write_all(b"HTTP/1.1 200 OK\r\nX-Why: ")?;
                return self.drip(&mut stream, usize::MAX);
            }
            Manner::DrippingStatus(status) => {
                note(*status);
                write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 4000\r\nConnection: close\r\n\r\n")?;
                return self.drip(&mut stream, 4000);
            }
            Manner::To(url) => {
                note(302);
                return write!(
                    stream,
                    "HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
            }
            Manner::Silent => {
                note(0);
                self.wait(|state| state.is_dead);
                return Ok(());
            }
            _ => {}
        }
        let tag = match &manner {
            Manner::Tagged(tag) => tag.clone(),
            _ => format!("\"v{version}\""),
        };
        let tagged = if manner == Manner::Untagged { String::new() } else { format!("ETag: {tag}\r\n") };
        if headers.get("if-none-match") == Some(&tag) {
            note(304);
            return write!(stream, "HTTP/1.1 304 Not Modified\r\n{tagged}Connection: close\r\n\r\n");
        }
        let said = match manner {
            Manner::Promising(more) => bytes.len() + more,
            Manner::Hiding(less) => bytes.len() - less,
            _ => bytes.len(),
        };
        let is_same = headers.get("if-range").is_none_or(|wanted| *wanted == tag);
        let from = headers
            .get("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let from: usize = from.filter(|_| is_same && manner != Manner::Streaming).unwrap_or(0);
        if from > 0 && from >= bytes.len() {
            note(416);
            return write!(
                stream,
                "HTTP/1.1 416 No\r\nContent-Range: bytes */{}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                bytes.len()
            );
        }
        if from > 0 {
            note(206);
            write!(
                stream,
                "HTTP/1.1 206 Part\r\n{tagged}Content-Range: bytes {from}-{}/{said}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                said - 1,
                said - from
            )?;
        } else {
            note(200);
            let length = if manner == Manner::Streaming {
                String::new()
            } else {
                format!("Content-Length: {said}\r\n")
            };
            write!(stream, "HTTP/1.1 200 OK\r\n{tagged}{length}Connection: close\r\n\r\n")?;
        }
        self.body(&mut stream, bytes.get(from..).unwrap_or_default(), &manner)
    }

    fn body(&self, stream: &mut TcpStream, bytes: &[u8], manner: &Manner) -> io::Result<()> {
        let mut send = |bytes: &[u8]| {
            stream.write_all(bytes)?;
            self.lock().sent += bytes.len() as u64;
            io::Result::Ok(())
        };
        let (now, later) = match manner {
            Manner::Gated(first) => bytes.split_at((*first).min(bytes.len())),
            Manner::Stopping(first) => (bytes.get(..(*first).min(bytes.len())).unwrap_or_default(), &[][..]),
            Manner::Dripping => return self.drip(stream, bytes.len()),
            Manner::Trickling => {
                for byte in bytes.chunks(1) {
                    send(byte)?;
                    let state = self.lock();
                    let waited = self.changed.wait_timeout(state, Duration::from_millis(10));
                    if waited.unwrap_or_else(PoisonError::into_inner).0.is_dead {
                        return Ok(());
                    }
                }
                return Ok(());
            }
            _ => (bytes, &[][..]),
        };
        now.chunks(PIECE).try_for_each(&mut send)?;
        if !later.is_empty() {
            self.wait(|state| state.released || state.is_dead);
            later.chunks(PIECE).try_for_each(&mut send)?;
        }
        Ok(())
    }

    /// Sends so many bytes, slowly, until the client leaves or the upstream is gone.
    fn drip(&self, stream: &mut TcpStream, bytes: usize) -> io::Result<()> {
        for _ in 0..bytes {
            stream.write_all(b"x")?;
            let deadline = Instant::now() + DRIP;
            let mut state = self.lock();
            while !state.is_dead {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            if state.is_dead {
                return Ok(());
            }
        }
        Ok(())
    }

    fn wait(&self, until: impl Fn(&State) -> bool) {
        let mut state = self.lock();
        while !until(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
