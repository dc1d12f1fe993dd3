//! The thread that makes leases durable, and the one that brings them into the database.
//!
//! Two journals take turns: commits go to one of them, and meanwhile what the other one has goes into the database, all of
//! it in one transaction, and then leaves the journal. That begins when nothing was committed for a while, or when
//! a journal is full; only when both are full a commit waits for the database.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::database::{Database, Fate};
use super::encoding::encode;
use super::journal::Journal;
use super::{Change, Location, StoreError};
use crate::host::lock::Lock;
use crate::host::precedence;

/// How long nothing is committed before a journal is emptied.
const QUIET: Duration = Duration::from_millis(200);
/// How long until that is tried again when it failed.
const AGAIN: Duration = Duration::from_secs(1);
/// How often files are looked for by their names while leases are stored: that costs as much as the system calls of a
/// commit.
const LOOK_AT_FILES: Duration = Duration::from_millis(100);
/// How often it is looked whether the database is done.
const LOOK: Duration = Duration::from_millis(2);

/// Who waits to hear how it went.
type Reply = oneshot::Sender<Result<(), StoreError>>;

enum Work {
    /// Make it durable.
    Commit(Vec<Change>, Reply),
    /// Have the database have everything.
    Settle(Reply),
    /// End, and let go of the files.
    End(oneshot::Sender<()>),
}

/// For the thread that uses the database.
enum Job {
    Apply(Arc<Vec<Change>>),
    Disconnect,
}

/// The way to the threads, which end when nobody has it any more.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    work: Sender<Work>,
    /// Why the database does not take what the journals have.
    trouble: Arc<Mutex<Option<String>>>,
}

impl Writer {
    /// Begins with two empty journals, whose epochs are later than `latest`. `lock` is kept for as long as files are used.
    pub(super) fn start(
        [first, second]: [PathBuf; 2],
        latest: u64,
        database: Database,
        location: Location,
        lock: Lock,
    ) -> Result<Self, StoreError> {
        let looks_at = database.clone();
        let empty = |path: PathBuf, epoch| {
            let named = location.journal(&path);
            Journal::empty(path, epoch).map_err(|error| named.explain_write(error))
        };
        let journals = [empty(first, latest + 1)?, empty(second, latest + 2)?];
        let (work, inbox) = channel();
        let (jobs, to_do) = channel();
        let (finished, done) = channel();
        let trouble = Arc::<Mutex<Option<String>>>::default();
        let (named, explain) = (location.clone(), |error| location.explain_write(error));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(explain)?;
        let applier = thread::Builder::new().name("xpxe-database".to_owned()).spawn(move || {
            for job in to_do {
                match job {
                    // Nobody waits for it when the other thread has ended.
                    Job::Apply(changes) => drop(finished.send(runtime.block_on(apply(&database, &changes)))),
                    Job::Disconnect => runtime.block_on(database.disconnect()),
                }
            }
        });
        let applier = applier.map_err(explain)?;
        let scribe = Scribe {
            location,
            database: looks_at,
            journals,
            current: 0,
            latest: latest + 2,
            written: Vec::new(),
            left: Arc::default(),
            is_applying: false,
            looked: None,
            settles: VecDeque::new(),
            jobs,
            done,
            trouble: Arc::clone(&trouble),
        };
        let started = thread::Builder::new().name("xpxe-store".to_owned()).spawn(move || {
            // An ACK waits for it, and a packet thread that goes first would keep it from its core.
            precedence::go_first();
            let ended = scribe.run(&inbox);
            // It ends with the way to it, which the scribe had.
            drop(applier.join());
            drop(lock);
            if let Some(ended) = ended {
                ended.send(()).ok();
            }
        });
        started.map_err(|error| named.explain_write(error))?;
        Ok(Self { work, trouble })
    }

    /// Hands changes over to be made durable; the answer comes when they are, or cannot be.
    pub(super) fn begin(&self, changes: Vec<Change>) -> oneshot::Receiver<Result<(), StoreError>> {
        let (reply, answer) = oneshot::channel();
        // With the thread gone, so is the sender of the answer.
        drop(self.work.send(Work::Commit(changes, reply)));
        answer
    }

    /// The answer comes when the database has everything that was committed before.
    pub(super) fn settle(&self) -> oneshot::Receiver<Result<(), StoreError>> {
        let (reply, answer) = oneshot::channel();
        drop(self.work.send(Work::Settle(reply)));
        answer
    }

    /// Ends the threads. What the journals have stays there for the next time.
    pub(super) async fn end(&self) {
        let (ended, end) = oneshot::channel();
        if self.work.send(Work::End(ended)).is_ok() {
            drop(end.await);
        }
    }

    /// Why the database does not take what the journals have, if it does not.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Brings changes into the database, which has its name before and after that.
async fn apply(database: &Database, changes: &[Change]) -> Result<(), StoreError> {
    database.keep().await?;
    database.commit(changes).await?;
    database.keep().await
}

/// Who writes the journals.
struct Scribe {
    location: Location,
    /// To look what became of its file.
    database: Database,
    journals: [Journal; 2],
    current: usize,
    /// The latest epoch.
    latest: u64,
    /// What the current journal has.
    written: Vec<Change>,
    /// What the other one has; with nothing in it, it is empty.
    left: Arc<Vec<Change>>,
    /// Whether that is on its way into the database.
    is_applying: bool,
    /// When files were looked for by their names.
    looked: Option<Instant>,
    settles: VecDeque<Reply>,
    jobs: Sender<Job>,
    done: Receiver<Result<(), StoreError>>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Scribe {
    /// Works until it is told to end, or nobody is left who could tell it anything.
    fn run(mut self, inbox: &Receiver<Work>) -> Option<oneshot::Sender<()>> {
        loop {
            let has_nothing = self.written.is_empty() && self.left.is_empty();
            let patience = match self.trouble() {
                _ if self.is_applying => LOOK,
                None if !has_nothing => QUIET,
                _ => AGAIN,
            };
            match inbox.recv_timeout(patience) {
                Ok(Work::Commit(changes, reply)) => {
                    let committed = self.commit(changes);
                    if committed.is_err() {
                        self.close();
                    }
                    // Who asked may be gone: it is stored all the same.
                    drop(reply.send(committed));
                }
                Ok(Work::Settle(reply)) => {
                    self.settles.push_back(reply);
                    self.apply();
                }
                Ok(Work::End(ended)) => return Some(ended),
                Err(RecvTimeoutError::Timeout) if !self.is_applying => match self.look_after_files() {
                    Err(failure) => self.tell(Some(&failure)),
                    // Whoever uses the database looks after it.
                    Ok(()) if has_nothing => self.hand_over(Arc::default()),
                    Ok(()) => self.apply(),
                },
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
            if let Ok(applied) = self.done.try_recv()
                && let Err(failure) = self.finish(applied)
                && let Some(reply) = self.settles.pop_front()
            {
                drop(reply.send(Err(failure)));
            }
            if !self.settles.is_empty() {
                self.apply();
            }
            if !self.is_applying {
                self.settles.drain(..).for_each(|reply| drop(reply.send(Ok(()))));
            }
        }
    }

    /// Appends changes to a journal that has room for them.
    fn commit(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        // The journal has its room already, but the database, where this goes to, would have to grow.
        if statvfs(&*self.location.file).is_ok_and(|disk| disk.f_blocks > 0 && disk.f_bfree == 0) {
            return Err(StoreError::DiskFull { path: self.location.shown.to_path_buf() });
        }
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_AT_FILES) {
            self.look_after_files()?;
            self.looked = Some(Instant::now());
        }
        let (payload, before) = (encode(&changes), self.written.len());
        if !Journal::could_have_room(payload.len()) {
            return self.commit_without_journal(changes);
        }
        if !self.journals[self.current].has_room(payload.len()) {
            while !self.left.is_empty() {
                self.apply_now()?;
            }
            self.apply();
        }
        let appended = self.journals[self.current].append(&payload);
        appended.map_err(|error| self.explain(self.current, error))?;
        self.written.extend(changes);
        // In a file without a name it would be gone with this process.
        if let Err(failure) = self.keep_journals(Journal::is_linked) {
            self.written.truncate(before);
            return Err(failure);
        }
        Ok(())
    }

    /// Makes journals anew that were deleted or replaced: all that they had is known here.
    fn keep_journals(&mut self, is_kept: fn(&Journal) -> bool) -> Result<(), StoreError> {
        for number in [1 - self.current, self.current] {
            let journal = &mut self.journals[number];
            if is_kept(journal) {
                continue;
            }
            let had = if number == self.current { &self.written } else { &*self.left };
            let made = journal.make_anew(had);
            made.map_err(|error| self.explain(number, error))?;
            let changes = had.len();
            warn!(
                changes,
                "a journal of the database was deleted or replaced while xpxe runs: the {changes} changes of leases that it had are in a new one. Leave the files in state_dir alone while xpxe runs: what is deleted just before xpxe ends is lost"
            );
        }
        Ok(())
    }

    /// Notices files that were deleted, moved or replaced.
    fn look_after_files(&mut self) -> Result<(), StoreError> {
        if self.database.fate() == Fate::Replaced {
            return Err(self.location.replaced());
        }
        self.keep_journals(Journal::is_kept)
    }

    /// More than a journal can have goes into the database at once, behind everything else.
    fn commit_without_journal(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        while !self.left.is_empty() || !self.written.is_empty() {
            self.apply_now()?;
        }
        self.hand_over(Arc::new(changes));
        self.is_applying = false;
        self.result()
    }

    /// Begins to bring into the database what the other journal has, or else what this one has, unless it is at it.
    fn apply(&mut self) {
        if self.is_applying || (self.left.is_empty() && self.written.is_empty()) {
            return;
        }
        if self.left.is_empty() {
            self.left = Arc::new(std::mem::take(&mut self.written));
            self.current = 1 - self.current;
        }
        self.hand_over(Arc::clone(&self.left));
    }

    /// The same, and waits for its end.
    fn apply_now(&mut self) -> Result<(), StoreError> {
        self.apply();
        let applied = self.result();
        self.finish(applied)
    }

    fn explain(&self, journal: usize, error: io::Error) -> StoreError {
        self.location.journal(self.journals[journal].path()).explain_write(error)
    }

    fn hand_over(&mut self, changes: Arc<Vec<Change>>) {
        self.is_applying = true;
        // With the thread gone, so is the sender of the result.
        drop(self.jobs.send(Job::Apply(changes)));
    }

    fn result(&self) -> Result<(), StoreError> {
        self.done.recv().unwrap_or(Err(StoreError::Gone))
    }

    /// What the database has durably leaves the journal.
    fn finish(&mut self, applied: Result<(), StoreError>) -> Result<(), StoreError> {
        self.is_applying = false;
        let emptied = applied.and_then(|()| {
            if self.left.is_empty() {
                return Ok(());
            }
            self.latest += 1;
            let emptied = self.journals[1 - self.current].reset(self.latest);
            emptied.map_err(|error| self.explain(1 - self.current, error))
        });
        if emptied.is_ok() {
            self.left = Arc::default();
        }
        self.tell(emptied.as_ref().err());
        emptied
    }

    /// Says once that the database takes nothing, and once that it does.
    fn tell(&self, failure: Option<&StoreError>) {
        let now = failure.map(ToString::to_string);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            _ if *trouble == now => {}
            Some(failure @ StoreError::Replaced { .. }) => error!("{failure}"),
            Some(failure) => {
                error!("{failure}: until the database recovers, leases are kept in the journal beside it");
            }
            None => info!("the database stores leases again"),
        }
        *trouble = now;
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A disk with a file that is open for writing cannot be made read-only.
    fn close(&mut self) {
        self.journals.iter_mut().for_each(Journal::close);
        if !self.is_applying {
            drop(self.jobs.send(Job::Disconnect));
        }
    }
}
