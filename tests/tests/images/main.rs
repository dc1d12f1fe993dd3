//! The content store: upstreams as they are and as they should not be, and what machines get meanwhile.

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_engine::boot::script::ScriptWriter;
use boot_engine::config::{Config, Http, ImageName, ImageSource, Sha256Digest};
use boot_engine::events::Events;
use boot_engine::machines::Machines;
use boot_tests::origin::{Manner, Origin};
use boot_userspace::files::BootFiles;
use boot_userspace::http::{self, Readiness, Site};
use boot_userspace::images::{Ending, ImageError, Images, Patience};
use tempfile::TempDir;
use tokio::runtime::Runtime;

mod cold;
mod hand_out;
mod hostile;
mod live;
mod patience;
mod store;
mod tls;

const SOON: Duration = Duration::from_secs(30);
/// Nothing comes in a thousand times what it would take.
const SILENCE: Duration = Duration::from_millis(500);
const MIB: usize = 1 << 20;

/// Soon over, so that tests of what fails are.
const SHORT: Patience = Patience {
    connect: Duration::from_secs(5),
    read: Duration::from_secs(2),
    window: Duration::from_millis(400),
    slowest: 1000,
    tries: 3,
    pause: Duration::from_millis(10),
    rest: Duration::ZERO,
    turn: Duration::from_secs(3),
};

/// A store and the HTTP server that has it, in this process.
struct Served {
    dir: PathBuf,
    images: Arc<Images>,
    runtime: Runtime,
    address: SocketAddr,
    _temporary: Option<TempDir>,
}

/// An answer, as far as it came.
#[derive(Debug)]
struct Got {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Got {
    /// Whether all came that was promised.
    fn is_whole(&self) -> bool {
        self.headers.get("content-length").and_then(|length| length.parse().ok()) == Some(self.body.len())
    }
}

impl Served {
    fn new() -> Result<Self> {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Result<Self> {
        let temporary = tempfile::tempdir()?;
        let mut served = Self::at(temporary.path(), change)?;
        served._temporary = Some(temporary);
        Ok(served)
    }

    fn at(dir: &Path, change: impl FnOnce(&mut Config)) -> Result<Self> {
        Self::patient(dir, SHORT, Arc::new(()), change)
    }

    fn patient(
        dir: &Path,
        patience: Patience,
        events: Events,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self> {
        let mut config = Config { state_dir: dir.to_owned(), boot_dir: dir.join("boot"), ..Config::empty() };
        change(&mut config);
        let images = Images::with_patience(&config, events, patience);
        let site = Site {
            files: Arc::new(BootFiles::configured(&config)),
            images: Arc::clone(&images),
            machines: Machines::default(),
            scripts: Arc::new(ScriptWriter::new(config)?),
            trusted_proxies: Arc::new([]),
            readiness: Readiness::default(),
            events: Arc::new(()),
            history: Arc::default(),
            tokens: Arc::default(),
            inventories: Arc::default(),
            registry: boot_userspace::daemon::request::RegistryHandle::none(),
            boot_parameters: boot_userspace::daemon::request::ParametersHandle::none(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        runtime.spawn(async move {
            http::serve(listener, http::router(site), &Http::default(), Arc::default(), Arc::new(())).await;
        });
        Ok(Self { dir: dir.to_owned(), images, runtime, address, _temporary: None })
    }

    fn url(&self, name: &str) -> String {
        format!("http://{}/images/{name}", self.address)
    }

    /// The root of the store.
    fn store(&self) -> PathBuf {
        self.dir.join("images")
    }

    /// Says where an image comes from, and does not fetch it.
    fn know(&self, name: &str, url: &str, sha256: Option<Sha256Digest>) -> Result<()> {
        fs::create_dir_all(self.store().join("names"))?;
        let digest = sha256.map_or_else(|| "null".to_owned(), |digest| format!("\"{digest}\""));
        let record = format!("{{\"url\": {url:?}, \"expected\": {digest}}}");
        Ok(fs::write(self.store().join("names").join(name), record)?)
    }

    /// Fetches an image, as `xpxe images add` does.
    fn add(&self, name: &str, url: &str, sha256: Option<Sha256Digest>) -> Result<Ending, ImageError> {
        let name: ImageName = name.parse().map_err(ImageError::Disk)?;
        let source: ImageSource = url.parse().map_err(ImageError::Disk)?;
        self.runtime.block_on(async {
            let mut progress = self.images.add(&name, ImageSource { sha256, ..source }, false)?;
            let ended = progress.wait_for(|progress| progress.end.is_some()).await;
            let ended = ended.map_err(|_| ImageError::Disk("nobody fetches".to_owned()))?;
            ended.end.clone().unwrap_or_else(|| Err(ImageError::Disk("no end".to_owned())))
        })
    }

    fn connect(&self, name: &str, more: &str) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(SOON))?;
        write!(stream, "GET /images/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n")?;
        Ok(stream)
    }

    fn get(&self, name: &str) -> Result<Got> {
        self.get_with(name, "")
    }

    fn get_with(&self, name: &str, more: &str) -> Result<Got> {
        rest(self.connect(name, more)?)
    }

    fn blob(&self, bytes: &[u8]) -> PathBuf {
        self.store().join("blobs").join(Sha256Digest::of(bytes).to_string())
    }

    /// Which images are here.
    fn blobs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.store().join("blobs")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    fn trouble(&self, name: &str) -> Result<String> {
        let name: ImageName = name.parse().map_err(anyhow::Error::msg)?;
        self.images.show(&name)?.trouble.context("no trouble")
    }
}

/// The head of an answer, byte by byte, so that none of the body is taken.
fn head(stream: &mut TcpStream) -> Result<Got> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).context("the head of an answer")?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status")?;
    let headers = head.lines().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Ok(Got { status, headers, body: Vec::new() })
}

/// All that comes until the connection ends, however it does.
fn rest(mut stream: TcpStream) -> Result<Got> {
    let mut got = head(&mut stream)?;
    let mut buffer = vec![0; MIB];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(got),
            Ok(read) => got.body.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(got),
            Err(error) => return Err(error.into()),
        }
    }
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(len)
    .collect()
}

fn digest(bytes: &[u8]) -> Option<Sha256Digest> {
    Some(Sha256Digest::of(bytes))
}
