//! A PostgreSQL database that has what the file in `state_dir` has.
//!
//! A machine is stored there first and then in the file; a lease is on this host's disk first, as without PostgreSQL, and
//! follows. So the file is a copy with which xpxe starts and serves while PostgreSQL is away. One xpxe at a time uses a
//! database: it holds an advisory lock for as long as it is connected. How often an xpxe has begun to use the database is
//! noted on both sides, so that a copy knows whether somebody else has changed anything since.

mod link;
mod meet;
#[cfg(test)]
mod tests;
mod trouble;
mod worker;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use boot_engine::config;
use boot_engine::registry::Record;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::StoreError;
use super::database::Database;
use super::sql::Row;
use link::Server;
pub use trouble::Trouble;
use worker::{Work, Worker};

/// How many changes of machines may wait.
const WAITING: usize = 64;
/// How many reasons are said while the database is away.
const MOST_SAID: usize = 8;

/// The way to the thread that uses the database; the thread ends when nobody has it any more.
#[derive(Clone, Debug)]
pub(super) struct Postgres {
    work: mpsc::Sender<Work>,
    state: Arc<State>,
}

/// What is known of the database.
#[derive(Debug, Default)]
pub(super) struct State {
    parts: Mutex<Parts>,
    /// How many addresses have leases that the database does not have yet.
    behind: AtomicU64,
}

/// What is known of the database, for who asks.
#[derive(Clone, Debug, Default)]
pub struct Remote {
    /// Why it takes nothing, if it does not.
    pub trouble: Option<Trouble>,
    /// How many addresses have leases that it does not have yet.
    pub behind: u64,
}

#[derive(Debug, Default)]
struct Parts {
    trouble: Option<Trouble>,
    /// What the log has said since it was last there.
    said: Vec<String>,
}

impl State {
    fn trouble(&self) -> Option<Trouble> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).trouble.clone()
    }

    /// Says once that the database is away, and once that it is back.
    fn tell(&self, trouble: Option<Trouble>, server: &Server) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        match &trouble {
            Some(trouble) => {
                let text = trouble.to_string();
                if !parts.said.contains(&text) && parts.said.len() < MOST_SAID {
                    error!(
                        "{text}. Until then machines cannot be changed; those that are known are served, and leases are kept in state_dir"
                    );
                    parts.said.push(text);
                }
            }
            None => {
                if !std::mem::take(&mut parts.said).is_empty() {
                    info!("{server} is back: machines can be changed again");
                }
            }
        }
        parts.trouble = trouble;
    }
}

impl Postgres {
    /// Connects, and makes of the file what the database has, unless the file is newer.
    ///
    /// # Errors
    /// The database is not for this xpxe, or it is away and the file is no copy of it.
    pub(super) async fn start(settings: &config::Postgres, local: Database) -> Result<Self, StoreError> {
        let server = Server::new(settings)?;
        let state = Arc::<State>::default();
        let (work, inbox) = mpsc::channel(WAITING);
        let (met, first) = oneshot::channel();
        let worker = Worker::new(server.clone(), local.clone(), Arc::clone(&state), inbox);
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| server.no_thread(&error))?;
        let started = thread::Builder::new()
            .name("xpxe-postgres".to_owned())
            .spawn(move || runtime.block_on(worker.run(met)));
        started.map_err(|error| server.no_thread(&error))?;
        match first.await.unwrap_or(Err(StoreError::Gone)) {
            Err(StoreError::Postgres(trouble)) if trouble.may_pass() && local.copy.is_one() => {
                warn!(
                    "xpxe starts with the copy of {server} in state_dir, which may be older than the database"
                );
                state.tell(Some(trouble), &server);
            }
            Err(StoreError::Postgres(trouble)) if trouble.may_pass() => {
                return Err(trouble.without_copy().into());
            }
            met => met?,
        }
        Ok(Self { work, state })
    }

    /// Why the database takes nothing, if it does not.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.state.trouble()
    }

    pub(super) fn remote(&self) -> Remote {
        Remote { trouble: self.trouble(), behind: self.state.behind.load(Ordering::Relaxed) }
    }

    /// Stores machines in the place of what they were, and removes others with the numbers of these changes; all or none.
    pub(super) async fn change(&self, records: &[Record], gone: &[(u64, u64)]) -> Result<(), StoreError> {
        self.ask(|reply| Work::Change(records.to_vec(), gone.to_vec(), reply)).await
    }

    /// Gives what the file has made of a change of these machines. What it refused is taken back, or the next start would
    /// have it from the database. `before` is what their rows were.
    pub(super) async fn confirm(
        &self,
        stored: Result<(), StoreError>,
        ids: Vec<i64>,
        before: Vec<Row>,
    ) -> Result<(), StoreError> {
        if stored.is_err() {
            // Where that fails the connection ends, and the next one begins with what the file has.
            drop(self.ask(|reply| Work::TakeBack(ids, before, reply)).await);
        }
        stored
    }

    /// Waits until it has all leases that the file has.
    pub(super) async fn deliver(&self) -> Result<(), StoreError> {
        self.ask(Work::Deliver).await
    }

    /// Ends the connection, and with it the lock.
    pub(super) async fn end(&self) {
        let (reply, ended) = oneshot::channel();
        if self.work.send(Work::End(reply)).await.is_ok() {
            drop(ended.await);
        }
    }

    async fn ask(&self, work: impl FnOnce(worker::Reply) -> Work) -> Result<(), StoreError> {
        // Who waits for a server that does not answer holds up everybody behind him.
        if let Some(trouble) = self.trouble() {
            return Err(trouble.into());
        }
        let (reply, answer) = oneshot::channel();
        self.work.send(work(reply)).await.map_err(|_| StoreError::Gone)?;
        answer.await.unwrap_or(Err(StoreError::Gone))
    }
}
