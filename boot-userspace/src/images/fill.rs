//! One fetch of one image, and those who read while it runs.
//!
//! Nobody gets a byte before it was compared with something that is as good as the digest:
//!
//! | what is known beforehand | what readers get meanwhile |
//! | --- | --- |
//! | no digest: the image is whatever the upstream has | every byte as it comes |
//! | a digest, and the digests of its pieces, from an earlier fetch of the same bytes | each MiB that has its digest |
//! | a digest that the upstream itself has said, being another xpxe, and its pieces' | each MiB that has its digest |
//! | a digest alone | the head of the answer at once, the bytes when all of them have come and are right |
//!
//! A digest that the operator has given is never taken as shown by an upstream's list of pieces, which is its own word.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::error::ImageError;
use super::happenings::Happenings;
use super::layout::Layout;
use super::partial::{Facts, Partial};
use super::pieces;
use super::room::{self, Blob, Need};
use super::sums::{self, PIECE};
use super::upstream::{Answer, Content, Patience, Trouble, Upstreams, Validators, Wanted, failure, shown};
use crate::host::size::human_size;
use boot_engine::config::{ImageName, ImageSource, Sha256Digest};
use boot_engine::events::Image;

/// Readers are woken after so many bytes, or so much time.
const STEP_BYTES: u64 = 128 << 10;
const STEP_TIME: Duration = Duration::from_millis(100);
/// Room is made for so much at once, as it comes: what is only promised takes no other image's place.
const STEP_ROOM: u64 = 16 << 20;

/// How far a fetch is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// What comes, once the upstream has begun to answer.
    pub head: Option<Head>,
    /// Bytes that have come.
    pub received: u64,
    /// Bytes from the beginning on that readers may have.
    pub readable: u64,
    /// How it ended.
    pub end: Option<Result<Ending, ImageError>>,
}

/// What comes.
#[derive(Clone, Debug)]
pub struct Head {
    /// The file that it is written to.
    pub file: Arc<File>,
    /// How many bytes there will be, if the upstream says it.
    pub total: Option<u64>,
    /// What it has to be.
    pub expected: Option<Sha256Digest>,
}

/// How a fetch ended that went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is a blob now.
    Stored(Stored),
    /// The upstream has still the same.
    Unchanged,
    /// Another process was at it and has ended.
    Elsewhere,
}

/// What has been stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its digest.
    pub digest: Sha256Digest,
    /// In bytes.
    pub size: u64,
    /// What the upstream calls it.
    pub etag: Option<String>,
    /// When it changed there.
    pub modified: Option<String>,
}

/// Why an image is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A machine waits for it, and it is not here.
    Missing,
    /// It is here, and its upstream may have another one than that with this entity tag and time.
    Compare(Validators),
    /// An operator says so, and whether it is to stay.
    Told { pinned: bool },
}

/// What to fetch.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) layout: Layout,
    pub(super) events: Happenings,
    pub(super) name: ImageName,
    pub(super) source: ImageSource,
    /// Why it is fetched.
    pub(super) why: Why,
    /// Of the whole store.
    pub(super) limit: u64,
}

enum Failure {
    Passing(String),
    /// What has come is of no use.
    Useless(ImageError),
    /// What has come may be gone on with.
    Lasting(ImageError),
}

enum Step {
    Complete,
    Unchanged,
}

/// Fetches an image, as often as it takes. Makes no record of it.
pub(super) async fn run(
    upstreams: &Upstreams,
    job: Job,
    progress: &watch::Sender<Progress>,
) -> Result<Ending, ImageError> {
    let (layout, name, url) = (job.layout.clone(), job.name.clone(), job.source.url.clone());
    let opened = blocking(&job, move || Partial::open(&layout, &name, &url)).await?;
    let partial = opened.map_err(|error| ImageError::disk(job.layout.root(), &error))?;
    let Some(partial) = partial else { return Ok(Ending::Elsewhere) };
    let readable = 0;
    Fill { upstreams, job, progress, partial: Some(partial), expected: None, reference: None, readable }
        .run()
        .await
}

struct Fill<'f> {
    upstreams: &'f Upstreams,
    job: Job,
    progress: &'f watch::Sender<Progress>,
    /// Away while another thread writes to it.
    partial: Option<Partial>,
    /// What it has to be, by the operator or by the upstream.
    expected: Option<Sha256Digest>,
    /// The digests that its pieces should have.
    reference: Option<Vec<Sha256Digest>>,
    readable: u64,
}

impl Fill<'_> {
    async fn run(mut self) -> Result<Ending, ImageError> {
        let Patience { tries: most, pause, .. } = self.upstreams.patience;
        let mut tries = 0;
        loop {
            let before = self.len();
            match self.attempt().await {
                Ok(Step::Complete) => return self.finish().await,
                Ok(Step::Unchanged) => {
                    self.discard().await;
                    return Ok(Ending::Unchanged);
                }
                Err(Failure::Lasting(error)) => return self.give_up(error).await,
                Err(Failure::Useless(error)) => {
                    self.discard().await;
                    return Err(error);
                }
                Err(Failure::Passing(why)) => {
                    // A few bytes now and again are no progress.
                    tries = if self.len() >= before + PIECE { 1 } else { tries + 1 };
                    if tries >= most {
                        let here = match self.len() / PIECE * PIECE {
                            0 => String::new(),
                            len => format!("; {} are here, the next try goes on from there", human_size(len)),
                        };
                        return self.give_up(ImageError::Upstream(why + &here)).await;
                    }
                    let pause = pause * 2_u32.pow(tries - 1);
                    let name = self.job.name.clone();
                    self.job.events.emit(Image::Retried { name, why, pause });
                    sleep(pause).await;
                }
            }
        }
    }

    /// Ends, and leaves what has come to the next fetch.
    async fn give_up(mut self, error: ImageError) -> Result<Ending, ImageError> {
        if self.len() == 0 {
            self.discard().await;
        }
        Err(error)
    }

    fn len(&self) -> u64 {
        self.partial.as_ref().map_or(0, Partial::len)
    }

    /// Asks once and takes what comes.
    async fn attempt(&mut self) -> Result<Step, Failure> {
        let (len, facts) = self.with(|partial| (partial.len(), partial.facts.clone())).await?;
        if len > 0 && facts.total == Some(len) {
            return Ok(Step::Complete);
        }
        let same_only = facts.etag.clone().or_else(|| facts.modified.clone());
        // Without either it could be a part of something else, which only a digest would bring to light.
        let from = if same_only.is_some() || self.job.source.sha256.is_some() { len } else { 0 };
        let unless = match &self.job.why {
            Why::Compare(known) if from == 0 => Some(known.clone()),
            _ => None,
        };
        let wanted = Wanted { from, if_range: same_only.filter(|_| from > 0), unless };
        let mut content = match self.upstreams.ask(&self.job.source.url, &wanted).await {
            Ok(Answer::Content(content)) => content,
            Ok(Answer::Unchanged) => return Ok(Step::Unchanged),
            Ok(Answer::Ended) if facts.total.is_none() => return Ok(Step::Complete),
            Ok(Answer::Ended) => {
                let total = facts.total.unwrap_or_default();
                return Err(self.lie(format!("said that it has {total} bytes, and has {len} at most")));
            }
            Err(Trouble::Passing(why)) => return Err(Failure::Passing(why)),
            Err(Trouble::Lasting(why)) => return Err(Failure::Lasting(ImageError::Upstream(why))),
        };
        // `bytes 5-9/*`: how many there are was said before.
        content.total = content.total.or(facts.total.filter(|_| content.from > 0));
        let skip = self.begin(&content, len, facts).await?;
        self.take(content, skip).await
    }

    /// Fits an answer to what is here. Gives how many bytes of it are here already.
    async fn begin(&mut self, content: &Content, len: u64, facts: Facts) -> Result<u64, Failure> {
        let Content { from, total, etag, modified, .. } = content;
        let is_same = etag.is_some() && *etag == facts.etag;
        let mut skip = 0;
        if *from > 0 {
            if facts.total.is_some() && total.is_some() && facts.total != *total {
                let (said, says) = (facts.total.unwrap_or_default(), total.unwrap_or_default());
                return Err(self.lie(format!("said that it has {said} bytes, and now {says}")));
            }
            if etag.is_some() && facts.etag.is_some() && !is_same {
                return Err(self.lie("sends a part of another file than before".to_owned()));
            }
        } else if len > 0 && is_same && facts.total == *total {
            skip = len;
        } else {
            if self.readable > 0 {
                return Err(self.lie("has another file than when it began to send this one".to_owned()));
            }
            let facts =
                Facts { url: facts.url, etag: etag.clone(), modified: modified.clone(), total: *total };
            self.with(|partial| partial.begin(facts)).await?.map_err(|error| self.broken(&error))?;
        }
        if *total == Some(0) {
            return Err(self.lie("has an empty file".to_owned()));
        }
        self.make_room(*total).await?;
        self.expect(content).await?;
        // Who has the head of the answer was promised this length and this tag.
        let promised = self.progress.borrow().head.as_ref().map(|head| (head.total, head.expected));
        if promised.is_some_and(|promised| promised != (*total, self.expected)) {
            return Err(self.lie("has another file than when it began to send this one".to_owned()));
        }
        let reader = self.with(|partial| partial.reader()).await?.map_err(|error| self.broken(&error))?;
        let head = Head { file: Arc::new(reader), total: *total, expected: self.expected };
        let (received, readable) = (self.len(), self.look().await?);
        self.progress.send_modify(|progress| {
            progress.head.get_or_insert(head);
            (progress.received, progress.readable) = (received, readable);
        });
        Ok(skip)
    }

    /// Finds out what the image and its pieces have to be.
    async fn expect(&mut self, content: &Content) -> Result<(), Failure> {
        let own = self.job.source.sha256;
        self.expected = own.or_else(|| content.digest());
        let (Some(digest), None) = (self.expected, &self.reference) else { return Ok(()) };
        let layout = self.job.layout.clone();
        let known = blocking(&self.job, move || std::fs::read(layout.sums(digest)).ok())
            .await
            .map_err(Failure::Lasting)?;
        let mut known = known.map(|bytes| sums::from_bytes(&bytes));
        let count = content.total.map(sums::pieces_of);
        if let (None, None, Some(count)) = (&known, own, count) {
            known = pieces::ask(self.upstreams, &self.job.source.url, count).await;
        }
        self.reference = known.filter(|known| count == Some(known.len() as u64));
        Ok(())
    }

    /// How far readers may read.
    async fn look(&mut self) -> Result<u64, Failure> {
        let readable = match (self.expected, &self.reference) {
            (None, _) => self.len(),
            (Some(_), None) => 0,
            (Some(_), Some(reference)) => {
                let reference = reference.clone();
                let same = move |partial: &mut Partial| {
                    let pieces = partial.sums.pieces.iter().zip(&reference);
                    pieces.take_while(|(found, expected)| found == expected).count() as u64 * PIECE
                };
                self.with(same).await?
            }
        };
        self.readable = self.readable.max(readable);
        Ok(self.readable)
    }

    async fn take(&mut self, mut content: Box<Content>, mut skip: u64) -> Result<Step, Failure> {
        let url = self.job.source.url.clone();
        let mut speed = Speed::new(self.upstreams.patience);
        let (mut told, mut told_len) = (Instant::now(), self.len());
        let mut room_until = self.len() + self.step();
        loop {
            // An upstream that pauses must not keep from readers what has come.
            let next = timeout(STEP_TIME, content.response.chunk()).await;
            let len = self.len();
            if len > told_len
                && (next.is_err() || len - told_len >= STEP_BYTES || told.elapsed() >= STEP_TIME)
            {
                let readable = self.look().await?;
                self.progress
                    .send_modify(|progress| (progress.received, progress.readable) = (len, readable));
                (told, told_len) = (Instant::now(), len);
            }
            let mut bytes = match next {
                Err(_) => continue,
                Ok(Ok(Some(bytes))) => bytes,
                Ok(Ok(None)) => break,
                Ok(Err(error)) => {
                    return Err(match failure(&url, error) {
                        Trouble::Passing(why) => Failure::Passing(why),
                        Trouble::Lasting(why) => Failure::Lasting(ImageError::Upstream(why)),
                    });
                }
            };
            speed
                .note(bytes.len() as u64)
                .map_err(|why| Failure::Passing(format!("{} {why}", shown(&url))))?;
            let here_already = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
            bytes = bytes.split_off(here_already);
            skip -= here_already as u64;
            let len = len + bytes.len() as u64;
            if content.total.is_some_and(|total| len > total) {
                return Err(self.lie("sends more than it said".to_owned()));
            }
            if len > room_until {
                self.make_room(content.total).await?;
                room_until = self.len() + self.step();
            }
            self.with(move |partial| partial.append(&bytes)).await?.map_err(|error| self.broken(&error))?;
        }
        match content.total {
            Some(total) if self.len() < total => {
                let (len, total) = (human_size(self.len()), human_size(total));
                Err(Failure::Passing(format!("{} stopped after {len} of {total}", shown(&url))))
            }
            None if self.len() == 0 => Err(self.lie("has an empty file".to_owned())),
            _ => Ok(Step::Complete),
        }
    }

    /// Makes a blob of it if it is what it has to be.
    async fn finish(mut self) -> Result<Ending, ImageError> {
        let Some(partial) = self.partial.take() else { return Err(lost()) };
        let (expected, layout, from) =
            (self.expected.or(self.job.source.sha256), self.job.layout.clone(), shown(&self.job.source.url));
        let made = move || {
            let disk = |error: std::io::Error| ImageError::disk(layout.root(), &error);
            let Facts { etag, modified, .. } = partial.facts.clone();
            let size = partial.len();
            let (found, pieces) = partial.sums.clone().finish();
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                partial.remove().map_err(disk)?;
                return Err(ImageError::Wrong { from, found, expected });
            }
            partial.finish(found, &pieces)?;
            room::mark_used(&layout, found);
            Ok(Ending::Stored(Stored { digest: found, size, etag, modified }))
        };
        blocking(&self.job, made).await?
    }

    async fn discard(&mut self) {
        if let Some(partial) = self.partial.take() {
            // What stays is found and thrown away by the next one.
            let removed = spawn_blocking(move || partial.remove().ok());
            removed.await.ok();
        }
    }

    fn step(&self) -> u64 {
        STEP_ROOM.min(self.job.limit / 8).max(1)
    }

    /// Makes room for what comes next of an image with `total` bytes, if somebody has said how many.
    async fn make_room(&mut self, total: Option<u64>) -> Result<(), Failure> {
        let (layout, limit) = (self.job.layout.clone(), self.job.limit);
        let (len, step) = (self.len(), self.step());
        let need = match total.map(|total| total.saturating_sub(len)) {
            Some(rest) => Need { now: rest.min(step), in_all: rest, takes_named: true },
            None => Need { now: step, in_all: step, takes_named: len + step <= limit / room::UNTOLD },
        };
        let made =
            blocking(&self.job, move || room::make(&layout, limit, need)).await.map_err(Failure::Lasting)?;
        for Blob { digest, size: bytes, names, .. } in made.map_err(Failure::Useless)? {
            self.job.events.emit(Image::Removed { digest, bytes, names });
        }
        Ok(())
    }

    fn lie(&self, what: String) -> Failure {
        Failure::Useless(ImageError::Upstream(format!("{} {what}", shown(&self.job.source.url))))
    }

    fn broken(&self, error: &std::io::Error) -> Failure {
        Failure::Useless(ImageError::disk(self.job.layout.root(), error))
    }

    /// Does something with the part on disk, on a thread that may wait for it.
    async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Partial) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let mut partial = self.partial.take().ok_or_else(|| Failure::Lasting(lost()))?;
        let done = spawn_blocking(move || {
            let result = work(&mut partial);
            (partial, result)
        });
        let (partial, result) = done.await.map_err(|_| Failure::Lasting(lost()))?;
        self.partial = Some(partial);
        Ok(result)
    }
}

/// How fast an upstream is: one that sends a byte now and again is never silent, and never ready.
struct Speed {
    patience: Patience,
    began: Instant,
    bytes: u64,
}

impl Speed {
    fn new(patience: Patience) -> Self {
        Self { patience, began: Instant::now(), bytes: 0 }
    }

    fn note(&mut self, bytes: u64) -> Result<(), String> {
        self.bytes += bytes;
        let Patience { window, slowest, .. } = self.patience;
        if self.began.elapsed() < window {
            return Ok(());
        }
        if self.bytes < slowest {
            return Err(format!(
                "is too slow: {} in {:.0} s",
                human_size(self.bytes),
                self.began.elapsed().as_secs_f64()
            ));
        }
        *self = Self::new(self.patience);
        Ok(())
    }
}

fn lost() -> ImageError {
    ImageError::Disk("the thread that writes an image has ended: restart xpxe".to_owned())
}

async fn blocking<T: Send + 'static>(
    _: &Job,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ImageError> {
    spawn_blocking(work).await.map_err(|_| lost())
}
