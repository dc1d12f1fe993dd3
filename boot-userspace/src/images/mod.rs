//! The content store: images of upstreams and of this host's files, by the SHA-256 of their bytes, in `state_dir`.
//!
//! A name means a digest, and a digest is a blob. Everything is on disk, so the daemon and the command line work on it side
//! by side. Nobody gets a blob that was not read and found right since it was last changed.

mod audit;
mod configured;
mod error;
mod fill;
mod hand_out;
mod happenings;
mod import;
mod layout;
mod operator;
mod partial;
pub mod pieces;
mod reach;
mod record;
mod room;
mod s3;
mod sums;
mod turns;
mod upstream;

use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;

use crate::host::clock;
use crate::host::live::Live;
use boot_engine::boot::HandOut;
use boot_engine::boot::parameters::Table;
use boot_engine::config::{Config, ImageName, ImageSource, Sha256Digest};
use boot_engine::events::{Events, Image};
use configured::Configured;
use fill::{Job, Why};
use happenings::Happenings;
use layout::Layout;
use sums::Verified;
use turns::Turns;
use upstream::Upstreams;

pub use configured::named;
pub use error::ImageError;
pub use fill::{Ending, Head, Progress, Stored};
pub use record::{Named, Record};
pub use room::Removed;
pub use upstream::{Patience, TAG, shown};

/// How often somebody looks whether another process has ended a fetch.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// After a comparison that failed, the next one is this much later at most.
const SOON: u64 = 60;

/// A whole image, open.
#[derive(Debug)]
pub struct Whole {
    /// Its bytes.
    pub file: File,
    /// Where they lie.
    pub path: PathBuf,
    /// Their digest.
    pub digest: Sha256Digest,
    /// When they came, in Unix time.
    pub fetched: Duration,
}

/// An image that somebody has asked for.
#[derive(Debug)]
pub enum Opened {
    /// It is here.
    Whole(Whole),
    /// It is on its way.
    Coming(watch::Receiver<Progress>),
}

/// What has been counted.
#[derive(Debug, Default)]
pub struct Counters {
    /// Fetches that were begun.
    pub fetches: AtomicU64,
    /// Fetches that failed.
    pub failures: AtomicU64,
    /// Fetches of what had another digest than it should.
    pub wrong: AtomicU64,
    /// Blobs that had been changed on disk.
    pub damaged: AtomicU64,
    /// Copies that were served while their upstream could not be asked.
    pub stale: AtomicU64,
}

impl Counters {
    /// Each with its name.
    #[must_use]
    pub fn all(&self) -> [(&'static str, u64); 5] {
        let all = [
            ("fetched", &self.fetches),
            ("failed", &self.failures),
            ("wrong", &self.wrong),
            ("damaged", &self.damaged),
            ("stale", &self.stale),
        ];
        all.map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}

/// What a fetch is of. A name alone may have another URL or digest after a reload.
type Wanted = (ImageName, ImageSource);

/// The store.
pub struct Images {
    layout: Layout,
    configured: Live<Configured>,
    upstreams: Upstreams,
    verified: Verified,
    fills: Mutex<HashMap<Wanted, watch::Receiver<Progress>>>,
    /// Who reads a blob to find out whether it is right; others wait.
    reading: Mutex<HashMap<Sha256Digest, Arc<Mutex<()>>>>,
    turns: Turns,
    failed: Mutex<HashMap<Wanted, (Instant, ImageError)>>,
    /// What was wanted and when, so that the disk hears of it once a minute.
    marked: Mutex<HashMap<Sha256Digest, Instant>>,
    /// What machines fetch elsewhere.
    handed_out: Live<HandOut>,
    /// What is written through the front for BSS.
    written: Mutex<Table>,
    reconfigured: Notify,
    events: Happenings,
    /// What has been counted.
    pub counters: Counters,
}

impl Images {
    /// The store that a configuration describes. Nothing is read or written yet.
    #[must_use]
    pub fn new(config: &Config, events: Events) -> Arc<Self> {
        Self::with_patience(config, events, Patience::default())
    }

    /// The same with other times to wait for upstreams.
    #[must_use]
    pub fn with_patience(config: &Config, events: Events, patience: Patience) -> Arc<Self> {
        let configured = Live::new(Configured::new(config, &Table::default()));
        Arc::new(Self {
            layout: Layout::new(&config.state_dir),
            upstreams: Upstreams::new(configured.clone(), patience),
            configured,
            verified: Verified::default(),
            fills: Mutex::default(),
            reading: Mutex::default(),
            turns: Turns::default(),
            failed: Mutex::default(),
            marked: Mutex::default(),
            handed_out: Live::new(HandOut::default()),
            written: Mutex::default(),
            reconfigured: Notify::new(),
            events: Happenings(events),
            counters: Counters::default(),
        })
    }

    /// Another configuration counts from now on. Running fetches and transfers go on with what they began with.
    pub fn follow(&self, config: &Config) {
        {
            let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            self.configured.replace(Configured::new(config, &written));
        }
        // What it hands out is signed by its keys.
        self.handed_out.replace(HandOut::default());
        self.reconfigured.notify_one();
    }

    /// The images of these boot parameters can be had from now on.
    pub fn follow_written(&self, written: &Table) {
        let mut before = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        before.clone_from(written);
        self.configured.replace(self.configured.get().with(written));
        self.reconfigured.notify_one();
    }

    /// Says what is wrong with the store's directory before it is used.
    pub fn look_over(&self) {
        if let Some(sentence) = self.layout.is_open_to_others() {
            self.events.emit(Image::StoreIsOpen(sentence));
        }
    }

    /// Reads the images that profiles name, so that the first machine after a start need not wait for it. Takes as long as
    /// the disk does.
    pub fn read_ahead(&self) {
        for name in &self.configured.get().named {
            // Whoever asks for it hears what is wrong.
            self.look(name).ok();
        }
    }

    /// Opens an image, and has it fetched if it is not here. Ends soon: who gets [`Opened::Coming`] waits for himself.
    ///
    /// # Errors
    /// There is none, or it cannot be had now.
    pub async fn open(self: &Arc<Self>, name: &ImageName) -> Result<Opened, ImageError> {
        let this = Arc::clone(self);
        let wanted = name.clone();
        let looked = spawn_blocking(move || this.look(&wanted)).await;
        let looked = looked
            .map_err(|_| ImageError::Disk("a thread of the store has ended: restart xpxe".to_owned()))??;
        let (whole, record, source) = looked;
        let Some(whole) = whole else {
            let source = source.ok_or_else(|| ImageError::Gone(name.clone()))?;
            return self.fetch(name, source, Why::Missing).map(Opened::Coming);
        };
        self.mark(whole.digest);
        if let Some(source) = source.filter(|source| source.sha256.is_none()) {
            self.compare_later(name, &record, source);
        }
        Ok(Opened::Whole(whole))
    }

    /// What is here of a name: the blob if it is right, the record, and where it comes from.
    fn look(&self, name: &ImageName) -> Result<(Option<Whole>, Record, Option<ImageSource>), ImageError> {
        let configured = self.configured.get().sources.get(name).cloned();
        let record = match Record::read(&self.layout, name) {
            // With its URL it can be fetched, and so gets another one.
            Err(error) if configured.is_some() => {
                self.events.emit(Image::BadRecord { name: name.clone(), error: error.to_string() });
                None
            }
            record => record?,
        };
        if record.is_none() && configured.is_none() {
            return Err(ImageError::Unknown(name.clone()));
        }
        let record = record.unwrap_or_default();
        let source = configured.or_else(|| record.source());
        let expected = source.as_ref().and_then(|source| source.sha256);
        // What is expected may be here by another name.
        let candidates =
            [record.sha256.filter(|found| expected.is_none_or(|expected| expected == *found)), expected];
        for digest in candidates.into_iter().flatten() {
            if let Some((file, path)) = self.blob(digest)? {
                let fetched = Duration::from_secs(record.fetched);
                return Ok((Some(Whole { file, path, digest, fetched }), record, source));
            }
        }
        Ok((None, record, source))
    }

    /// A blob that is right. One that is not is put aside.
    fn blob(&self, digest: Sha256Digest) -> Result<Option<(File, PathBuf)>, ImageError> {
        let path = self.layout.blob(digest);
        let file = match layout::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                self.events.emit(Image::Unreadable { digest, error: error.to_string() });
                return Ok(None);
            }
        };
        let turn = Arc::clone(lock(&self.reading).entry(digest).or_default());
        let is_right = {
            let _one_at_a_time = turn.lock().unwrap_or_else(PoisonError::into_inner);
            self.verified.is_right(&file, digest).map_err(|error| ImageError::disk(&path, &error))?
        };
        if is_right {
            return Ok(Some((file, path)));
        }
        self.counters.damaged.fetch_add(1, Ordering::Relaxed);
        let (file, store) = (path.display().to_string(), self.layout.root().display().to_string());
        self.events.emit(Image::Damaged { digest, path: file, store });
        std::fs::rename(&path, self.layout.bad(digest)).map_err(|error| ImageError::disk(&path, &error))?;
        Ok(None)
    }

    /// Fetches an image; who asks for the same meanwhile gets the same fetch.
    fn fetch(
        self: &Arc<Self>,
        name: &ImageName,
        source: ImageSource,
        why: Why,
    ) -> Result<watch::Receiver<Progress>, ImageError> {
        let wanted = (name.clone(), source.clone());
        let mut fills = lock(&self.fills);
        if let Some(running) = fills.get(&wanted) {
            return Ok(running.clone());
        }
        if let Some((when, error)) = lock(&self.failed).get(&wanted).cloned()
            && when.elapsed() < self.upstreams.patience.rest
        {
            return Err(error);
        }
        let (sender, receiver) = watch::channel(Progress::default());
        fills.insert(wanted, receiver.clone());
        drop(fills);
        let limit = self.configured.get().settings.size;
        let (layout, events) = (self.layout.clone(), self.events.clone());
        let job = Job { layout, events, name: name.clone(), source, why, limit };
        tokio::spawn(Arc::clone(self).run(job, sender));
        Ok(receiver)
    }

    async fn run(self: Arc<Self>, job: Job, progress: watch::Sender<Progress>) {
        let (name, source) = (job.name.clone(), job.source.clone());
        let wanted = (name.clone(), source.clone());
        let is_comparison = matches!(job.why, Why::Compare(_));
        let tell = |running| self.events.emit(Image::Waits { name: name.clone(), running });
        let _turn = match self.turns.wait(&name, is_comparison, self.upstreams.patience.turn, tell).await {
            Ok(turn) => turn,
            Err(error) => {
                // It has failed at nothing: the next who asks has it tried again at once.
                lock(&self.fills).remove(&wanted);
                progress.send_modify(|progress| progress.end = Some(Err(error)));
                return;
            }
        };
        let started = Instant::now();
        let mut is_counted = false;
        let result = loop {
            // Who has asked may have looked just before the fetch before this one ended.
            if job.why == Why::Missing && self.is_right(&name).await {
                break Ok(Ending::Elsewhere);
            }
            // Waiting for another process is no further fetch.
            if !std::mem::replace(&mut is_counted, true) {
                self.counters.fetches.fetch_add(1, Ordering::Relaxed);
            }
            match fill::run(&self.upstreams, job.clone(), &progress).await {
                Ok(Ending::Elsewhere) => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    let is_meant = !matches!(job.why, Why::Told { .. }) || self.means(&name, &source);
                    if is_meant && self.is_right(&name).await {
                        break Ok(Ending::Elsewhere);
                    }
                }
                ended => break ended,
            }
        };
        let this = Arc::clone(&self);
        let (noted, why, ending) = (name.clone(), job.why.clone(), result.clone());
        let recorded = spawn_blocking(move || this.note(&noted, source, &why, &ending)).await;
        let result = match recorded {
            Ok(Err(error)) if result.is_ok() => Err(error),
            _ => result,
        };
        self.tell(&name, &result, started, is_comparison);
        match &result {
            Ok(_) => drop(lock(&self.failed).remove(&wanted)),
            Err(error) => {
                let mut failed = lock(&self.failed);
                failed.retain(|_, (when, _)| when.elapsed() < self.upstreams.patience.rest);
                failed.insert(wanted.clone(), (Instant::now(), error.clone()));
            }
        }
        // Those who ask from now on find the blob, or the failure.
        lock(&self.fills).remove(&wanted);
        progress.send_modify(|progress| {
            if let (Ok(Ending::Stored(stored)), true) = (&result, progress.head.is_some()) {
                progress.readable = stored.size;
            }
            progress.end = Some(result);
        });
    }

    /// Whether an image is here by now.
    async fn is_right(self: &Arc<Self>, name: &ImageName) -> bool {
        let (this, name) = (Arc::clone(self), name.clone());
        let looked = spawn_blocking(move || this.look(&name)).await;
        matches!(looked, Ok(Ok((Some(_), ..))))
    }

    /// Whether a name has this source by now.
    fn means(&self, name: &ImageName, source: &ImageSource) -> bool {
        let record = Record::read(&self.layout, name).ok().flatten();
        record.and_then(|record| record.source()).as_ref() == Some(source)
    }

    /// Writes down how a fetch ended.
    fn note(
        &self,
        name: &ImageName,
        source: ImageSource,
        why: &Why,
        result: &Result<Ending, ImageError>,
    ) -> Result<(), ImageError> {
        let now = clock::wall().as_secs();
        let is_told = matches!(why, Why::Told { .. });
        let _lock = self.layout.lock().map_err(|error| ImageError::disk(self.layout.root(), &error))?;
        let mut record = Record::read(&self.layout, name).ok().flatten().unwrap_or_default();
        match result {
            Ok(Ending::Elsewhere) if !is_told => return Ok(()),
            // What the name has meant until now goes on.
            Err(_) if is_told && record.source().as_ref() != Some(&source) => return Ok(()),
            // Adding it once more takes no pin away.
            Ok(_) => record.pinned |= *why == Why::Told { pinned: true },
            Err(_) => {}
        }
        if let Ok(Ending::Elsewhere) = result {
            return record.write(&self.layout, name);
        }
        (record.url, record.expected) = (Some(source.url), source.sha256);
        match result {
            Ok(Ending::Stored(Stored { digest, size, etag, modified })) => {
                if let Ok(file) = layout::open(&self.layout.blob(*digest)) {
                    self.verified.add(&file, *digest);
                }
                record.sha256 = Some(*digest);
                record.size = *size;
                (record.etag, record.modified) = (etag.clone(), modified.clone());
                (record.fetched, record.checked, record.trouble) = (now, now, None);
            }
            Ok(_) => (record.checked, record.trouble) = (now, None),
            Err(error) => {
                let retry = now.saturating_sub(self.check()).saturating_add(SOON);
                record.checked = retry.min(now);
                record.trouble = Some(error.to_string());
            }
        }
        record.write(&self.layout, name)
    }

    fn tell(
        &self,
        name: &ImageName,
        result: &Result<Ending, ImageError>,
        started: Instant,
        is_comparison: bool,
    ) {
        let (name, took) = (name.clone(), started.elapsed());
        match result {
            Ok(Ending::Stored(Stored { digest, size, .. })) => {
                self.events.emit(Image::Fetched { name, digest: *digest, bytes: *size, took });
            }
            Ok(_) => {}
            Err(error) => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                if matches!(error, ImageError::Wrong { .. }) {
                    self.counters.wrong.fetch_add(1, Ordering::Relaxed);
                }
                if is_comparison {
                    self.counters.stale.fetch_add(1, Ordering::Relaxed);
                    self.events.emit(Image::NotCompared { name, error: error.to_string() });
                } else {
                    self.events.emit(Image::NotFetched { name, error: error.to_string() });
                }
            }
        }
    }

    /// Has a copy compared with its upstream if that is due, while the copy is served.
    fn compare_later(self: &Arc<Self>, name: &ImageName, record: &Record, source: ImageSource) {
        let age = clock::wall().as_secs().saturating_sub(record.checked);
        if age < self.check() {
            return;
        }
        // Another URL has the same content by chance only.
        let is_same_place = record.url.as_ref() == Some(&source.url);
        let known = is_same_place.then(|| (record.etag.clone(), record.modified.clone()));
        // One that has just failed is not tried again.
        drop(self.fetch(name, source, Why::Compare(known.unwrap_or_default())));
    }

    /// After how many seconds a copy is compared with its upstream.
    fn check(&self) -> u64 {
        self.configured.get().settings.check.as_secs()
    }

    fn mark(&self, digest: Sha256Digest) {
        let mut marked = lock(&self.marked);
        let is_marked = marked.get(&digest).is_some_and(|when| when.elapsed() < Duration::from_secs(60));
        if !is_marked {
            marked.insert(digest, Instant::now());
            let layout = self.layout.clone();
            drop(spawn_blocking(move || room::mark_used(&layout, digest)));
        }
    }

    /// The digests of an image's pieces, for another xpxe; none while it is not here.
    #[must_use]
    pub fn pieces(&self, name: &ImageName) -> Option<Vec<u8>> {
        let record = Record::read(&self.layout, name).ok().flatten()?;
        pieces::read(&self.layout, record.sha256?)
    }

    /// Bytes of all images.
    #[must_use]
    pub fn size(&self) -> u64 {
        room::blobs(&self.layout).map_or(0, |blobs| blobs.iter().map(|blob| blob.size).sum())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
