//! `xpxe capture`: one machine's next boot as a pcapng file, with its steps as comments.

mod pcapng;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::body::Body;
use axum::http::Method;
use boot_common::Mac;
use clap::builder::NonEmptyStringValueParser;
use hyper::body::Body as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use self::pcapng::Frame;
use crate::cli::boots::escaped;
use crate::cli::daemon_api::{read, refusal, request, running};
use crate::cli::{ConfigFile, configuration};
use crate::host::clock;
use crate::host::link;
use crate::host::size::human_size;
use crate::http::boots::{BOOTS, ShownBoot, Watched};
use crate::io::record::{Recorder, SNAP};
use boot_engine::config::Config;

/// How often the boot is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long xpxe may take to tell of the boot.
const ANSWER: Duration = Duration::from_secs(5);
/// A boot that has come to its end and is silent for so many milliseconds is over.
const QUIET: u64 = 5_000;
/// How long a recorder waits for a frame before it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(100);

/// The flags.
#[derive(Debug, clap::Args)]
pub(super) struct Capture {
    /// The machine; it need not have asked yet
    #[arg(value_name = "MAC|NAME|IP", value_parser = NonEmptyStringValueParser::new())]
    machine: String,
    /// The file; one that is there is not overwritten [default: the MAC with dashes, and .pcapng]
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// For how many seconds the boot is waited for and recorded, at most
    #[arg(long, default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How many MiB are recorded, at most
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1024))]
    mib: u64,
    #[command(flatten)]
    file: ConfigFile,
}

impl Capture {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let config = configuration::load(&self.file.config)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.record(&config))
    }

    async fn record(&self, config: &Config) -> Result<ExitCode> {
        let path = format!("{BOOTS}/{}/capture", escaped(&self.machine));
        // As long as this is open, the kernel half passes on what the machine sends.
        let answer = running(config).await?.send(request(Method::POST, &path, "")?).await?;
        if !answer.status().is_success() {
            let (status, body) = read(answer).await?;
            return refusal(status, &body).map_or(Ok(ExitCode::SUCCESS), Err);
        }
        let mut signs = answer.into_body();
        let Watched { mac, interfaces } = serde_json::from_str(&first_line(&mut signs).await?)?;
        let file = self.write.clone().unwrap_or_else(|| format!("{}.pcapng", mac.replace(':', "-")).into());
        let mut signals = Signals::listen()?;
        let target = Target::try_out(&file)?;
        let recording = Recording::begin(&interfaces, mac.parse().map_err(anyhow::Error::msg)?, self.mib)?;
        eprintln!(
            "recording {mac} on {}: switch the machine on; its next boot ends it, and so does Ctrl-C",
            interfaces.join(", ")
        );
        let mut boot = Seen { since: millis(), boot: None };
        let has_daemon_ended = tokio::select! {
            () = self.wait(config, &mac, &mut boot, &recording, &mut signals) => false,
            () = ended(&mut signs) => true,
        };
        let (mut frames, is_full) = recording.end();
        if has_daemon_ended && frames.is_empty() {
            bail!("xpxe has ended: nothing was recorded, and nothing written");
        }
        let boot = boot.boot;
        frames.sort_by_key(|frame| frame.at);
        let steps: Vec<(u64, String)> = boot.iter().flat_map(steps).collect();
        pcapng::comment(&mut frames, &steps);
        let about = match (&boot, has_daemon_ended) {
            (Some(boot), false) => told(boot),
            (Some(boot), true) => format!("{}; xpxe has ended meanwhile", told(boot)),
            (None, false) => format!("{mac}: it did not boot"),
            (None, true) => format!("{mac}: xpxe has ended before it booted"),
        };
        let file = target.write(|to| pcapng::write(to, &about, &interfaces, &frames))?;
        // The terminal may be gone, and what was recorded is safe.
        writeln!(io::stdout(), "{}", summary(&file, &frames, is_full, &about)).ok();
        Ok(if has_daemon_ended { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Waits until the machine has booted, until there is no room or time for more, or until somebody ends it.
    async fn wait(
        &self,
        config: &Config,
        mac: &str,
        seen: &mut Seen,
        recording: &Recording,
        signals: &mut Signals,
    ) {
        let until = Instant::now() + Duration::from_secs(self.seconds);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_last = tokio::select! {
                _ = look.tick() => Instant::now() >= until || recording.is_full(),
                () = signals.next() => true,
            };
            // What was seen before is better than nothing, if xpxe does not answer now.
            if let Ok(Ok(Some(boot))) = timeout(ANSWER, newest(config, mac)).await
                && boot.last >= seen.since
            {
                seen.boot = Some(boot);
            }
            if is_last || seen.boot.as_ref().is_some_and(is_over) {
                return;
            }
        }
    }
}

/// The boot as it was seen last.
struct Seen {
    /// What was before is another one.
    since: u64,
    boot: Option<ShownBoot>,
}

/// What ends it: from a keyboard, a service manager, or a terminal that is closed.
struct Signals([Signal; 3]);

impl Signals {
    fn listen() -> Result<Self> {
        let [a, b, c] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        Ok(Self([a?, b?, c?]))
    }

    async fn next(&mut self) {
        let [a, b, c] = &mut self.0;
        tokio::select! {
            _ = a.recv() => {}
            _ = b.recv() => {}
            _ = c.recv() => {}
        }
    }
}

/// The file. It is tried at the beginning, so that nobody records in vain, and made at the end, so that nothing empty is left
/// behind, however the recording ends.
struct Target(PathBuf);

impl Target {
    fn try_out(path: &Path) -> Result<Self> {
        make(path)
            .and_then(|_| fs::remove_file(path))
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// Where it was written. Whoever has taken the name meanwhile keeps it.
    fn write(self, all: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> Result<PathBuf> {
        let mut path = self.0.clone();
        let mut file = make(&path);
        for number in 1..10 {
            if !file.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
                break;
            }
            path = self.0.with_added_extension(number.to_string());
            file = make(&path);
        }
        let file = file.with_context(|| format!("cannot make {}", path.display()))?;
        // A part is worth something, too.
        all(&mut BufWriter::new(&file)).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

fn make(path: &Path) -> io::Result<File> {
    // Scripts and documents are in it, and they may be secret.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Whether a boot has come to an end, whichever.
fn is_over(boot: &ShownBoot) -> bool {
    let cause = boot.verdict.as_ref().map_or("", |verdict| &verdict.cause);
    cause != "under-way" && millis() > boot.last + QUIET
}

async fn newest(config: &Config, mac: &str) -> Result<Option<ShownBoot>> {
    let path = format!("{BOOTS}/{}", escaped(mac));
    let answer = running(config).await?.send(request(Method::GET, &path, "")?).await?;
    let (status, body) = read(answer).await?;
    // One that has never asked is not known.
    if !status.is_success() {
        return Ok(None);
    }
    Ok(serde_json::from_str::<Vec<ShownBoot>>(&body)?.into_iter().next())
}

fn steps(boot: &ShownBoot) -> Vec<(u64, String)> {
    boot.steps.iter().map(|step| (step.at, format!("{}: {}", step.by, step.says))).collect()
}

fn told(boot: &ShownBoot) -> String {
    let called = boot.name.as_ref().map_or_else(|| boot.mac.clone(), |name| format!("{name} ({})", boot.mac));
    match &boot.verdict {
        Some(verdict) => format!("{called}: {} ({}: {})", verdict.cause, verdict.sure, verdict.because),
        None => called,
    }
}

fn summary(file: &Path, frames: &[Frame], is_full: bool, about: &str) -> String {
    let bytes = frames.iter().map(|frame| frame.bytes.len() as u64).sum();
    let full = if is_full { ", and no more: --mib allows more" } else { "" };
    format!("{about}\n{}: {} packets, {}{full}", file.display(), frames.len(), human_size(bytes))
}

fn millis() -> u64 {
    u64::try_from(clock::wall().as_millis()).unwrap_or(u64::MAX)
}

/// The next bytes of a body, if there are any.
async fn chunk(body: &mut Body) -> Option<Vec<u8>> {
    let frame = std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context)).await;
    Some(frame?.ok()?.into_data().ok()?.to_vec())
}

async fn first_line(body: &mut Body) -> Result<String> {
    let mut line = Vec::new();
    while !line.contains(&b'\n') {
        line.extend(chunk(body).await.context("xpxe has ended")?);
    }
    Ok(String::from_utf8_lossy(&line).trim().to_owned())
}

/// Reads the daemon's signs of life until there are no more.
async fn ended(body: &mut Body) {
    while chunk(body).await.is_some() {}
}

/// Frames as they are recorded, each interface by a thread of its own.
struct Recording {
    shared: Arc<Frames>,
    threads: Vec<JoinHandle<()>>,
}

struct Frames {
    frames: Mutex<Vec<Frame>>,
    /// How many bytes more there is room for.
    room: AtomicUsize,
    is_full: AtomicBool,
    is_over: AtomicBool,
}

impl Recording {
    fn begin(interfaces: &[String], mac: Mac, mib: u64) -> Result<Self> {
        let room = usize::try_from(mib << 20).unwrap_or(usize::MAX);
        let shared = Arc::new(Frames {
            frames: Mutex::default(),
            room: AtomicUsize::new(room),
            is_full: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        for (interface, name) in (0..).zip(interfaces) {
            let recorder = Recorder::open(&link::find(name)?, mac, PATIENCE)?;
            let shared = Arc::clone(&shared);
            threads.push(thread::spawn(move || shared.record(&recorder, interface)));
        }
        Ok(Self { shared, threads })
    }

    fn is_full(&self) -> bool {
        self.shared.is_full.load(Relaxed)
    }

    /// The frames, and whether there was no room for all.
    fn end(self) -> (Vec<Frame>, bool) {
        self.shared.is_over.store(true, Relaxed);
        let is_full = self.is_full();
        // One that has panicked has recorded nothing more.
        self.threads.into_iter().for_each(|thread| drop(thread.join()));
        let mut frames = self.shared.frames.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut *frames), is_full)
    }
}

impl Frames {
    fn record(&self, recorder: &Recorder, interface: u32) {
        let mut buf = [0; SNAP];
        while !self.is_over.load(Relaxed) && !self.is_full.load(Relaxed) {
            match recorder.next(&mut buf) {
                Ok(None) => {}
                // The interface may come back.
                Err(_) => thread::sleep(PATIENCE),
                Ok(Some(length)) => {
                    let at = u64::try_from(clock::wall().as_micros()).unwrap_or(u64::MAX);
                    let bytes = buf.get(..length).unwrap_or_default().to_vec();
                    let has_room =
                        self.room.fetch_update(Relaxed, Relaxed, |room| room.checked_sub(length)).is_ok();
                    if !has_room {
                        self.is_full.store(true, Relaxed);
                        return;
                    }
                    let frame = Frame { at, interface, bytes, comments: Vec::new() };
                    self.frames.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_only_once_something_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcapng");
        let target = Target::try_out(&path).unwrap();
        assert!(!path.exists(), "whoever is killed now leaves nothing");
        assert_eq!(target.write(|to| to.write_all(b"a")).unwrap(), path);
        assert_eq!(fs::read(&path).unwrap(), b"a");
        assert!(Target::try_out(&path).is_err());
        // Two recordings at once.
        let late = Target(path.clone()).write(|to| to.write_all(b"b")).unwrap();
        assert_eq!(late, dir.path().join("a.pcapng.1"));
        assert_eq!(fs::read(&path).unwrap(), b"a", "it is another's");
        assert_eq!(fs::read(&late).unwrap(), b"b");
    }
}
