//! The thread that uses the database: it connects again by itself, makes changes of machines, and brings leases over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use boot_engine::registry::Record;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::State;
use super::link::{Link, Server};
use super::meet::{Role, meet};
use super::trouble::Trouble;
use crate::store::copied::{self, Origin, Unsent};
use crate::store::database::Database;
use crate::store::sql::{Row, Statement};
use crate::store::{StoreError, machines, write};

/// How long until a connection is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// The same of a server that answers and stores nothing, at most: each attempt costs it some space.
const LONGEST: Duration = Duration::from_secs(10);
/// How often the server is asked whether it is there, when there is nothing else to do.
const PING: Duration = Duration::from_secs(1);
/// How long a start waits for the lock: the server may still have the session of a daemon that was just killed.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// How many leases go over in one transaction.
const AT_ONCE: usize = 1000;

/// Who waits to hear how it went.
pub(super) type Reply = oneshot::Sender<Result<(), StoreError>>;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Work {
    /// Store machines, and remove others, each with the number of that change.
    Change(Vec<Record>, Vec<(u64, u64)>, Reply),
    /// Make of machines what their rows were; those without a row are removed.
    TakeBack(Vec<i64>, Vec<Row>, Reply),
    /// Bring over all leases.
    Deliver(Reply),
    /// End.
    End(oneshot::Sender<()>),
}

/// Who has the connection.
pub(super) struct Worker {
    server: Server,
    local: Database,
    state: Arc<State>,
    inbox: mpsc::Receiver<Work>,
    link: Option<Link>,
    /// What this process has made of the database.
    taken: Option<Origin>,
    /// The session that had the lock last.
    session: Option<i64>,
    /// When a connection is tried again.
    next: Instant,
    /// How long after the last attempt that is.
    pause: Duration,
}

impl Worker {
    pub(super) fn new(
        server: Server,
        local: Database,
        state: Arc<State>,
        inbox: mpsc::Receiver<Work>,
    ) -> Self {
        let next = Instant::now();
        Self { server, local, state, inbox, link: None, taken: None, session: None, next, pause: AGAIN }
    }

    /// Works until nobody is left who could tell it anything. `met` hears how the first meeting went.
    pub(super) async fn run(mut self, met: oneshot::Sender<Result<(), StoreError>>) {
        let first = self.meet_first().await;
        let ends = matches!(&first, Err(failure) if !failure.may_pass());
        // Nobody waits for it who is gone.
        drop(met.send(first));
        if ends {
            return;
        }
        loop {
            tokio::select! {
                work = self.inbox.recv() => match work {
                    None => break,
                    Some(Work::End(ended)) => {
                        self.end().await;
                        ended.send(()).ok();
                        return;
                    }
                    Some(work) => self.work(work).await,
                },
                () = self.local.copy.rung(), if self.link.is_some() => self.send().await,
                () = sleep_until(self.next), if self.link.is_none() => self.connect(Role::Served).await.unwrap_or(()),
                () = sleep(PING), if self.link.is_some() => self.ping().await,
            }
        }
        self.end().await;
    }

    async fn end(&mut self) {
        if let Some(link) = self.link.take() {
            link.close().await;
        }
    }

    async fn meet_first(&mut self) -> Result<(), StoreError> {
        let patience = Instant::now() + LOCK_PATIENCE;
        loop {
            match self.connect(Role::Unread).await {
                Err(StoreError::Postgres(trouble)) if trouble.is_lock() && Instant::now() < patience => {
                    sleep(Duration::from_millis(200)).await;
                }
                met => return met,
            }
        }
    }

    /// Connects and brings both sides together. What fails is told, and tried again later.
    async fn connect(&mut self, role: Role) -> Result<(), StoreError> {
        let met = self.try_to_connect(role.clone()).await;
        self.next = Instant::now() + self.pause;
        match &met {
            Ok(()) => {
                self.send().await;
                // A database that does not take the leases is not back.
                if self.link.is_some() {
                    self.state.tell(None, &self.server);
                }
            }
            Err(failure) => {
                if role == Role::Served {
                    self.state.tell(Some(failure.as_trouble()), &self.server);
                }
                self.count().await;
            }
        }
        met
    }

    async fn try_to_connect(&mut self, role: Role) -> Result<(), StoreError> {
        let mut link = Link::open(&self.server, &mut self.session).await?;
        let met = match meet((&mut link, &self.server), &self.local, role, self.taken.as_ref()).await {
            Ok(origin) => {
                self.taken = Some(origin);
                self.prove(&mut link).await
            }
            Err(failure) => Err(failure),
        };
        match met {
            Ok(()) => {
                self.link = Some(link);
                Ok(())
            }
            Err(failure) => {
                link.close().await;
                Err(failure)
            }
        }
    }

    /// Whether the database stores anything: one that can only be read is not back.
    async fn prove(&mut self, link: &mut Link) -> Result<(), StoreError> {
        let proven = link.write_something().await;
        self.pause = if proven.is_ok() { AGAIN } else { LONGEST.min(self.pause * 2) };
        proven.map_err(|error| Trouble::of(&self.server, &error).into())
    }

    async fn work(&mut self, work: Work) {
        match work {
            Work::Change(records, gone, reply) => {
                let revisions = records.iter().map(|record| record.revision);
                let last = revisions.chain(gone.iter().map(|(_, revision)| *revision)).max().unwrap_or(0);
                let change = async |link: &mut Link| {
                    link.transact(async |link| {
                        machines::change(link, &records, &gone).await?;
                        ring(link, last).await
                    })
                    .await
                };
                reply.send(self.with(change).await).ok();
            }
            Work::TakeBack(ids, rows, reply) => {
                let restore = async |link: &mut Link| {
                    link.transact(async |link| machines::restore(link, &ids, &rows).await).await
                };
                reply.send(self.with(restore).await).ok();
            }
            Work::Deliver(reply) => {
                self.send().await;
                let trouble = self.state.trouble().map_or(Ok(()), |trouble| Err(trouble.into()));
                reply.send(trouble).ok();
            }
            // It is looked for before.
            Work::End(ended) => drop(ended),
        }
    }

    /// Uses the connection, and ends it if that fails.
    async fn with<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Link) -> sqlx::Result<T>,
    ) -> Result<T, StoreError> {
        let Some(link) = &mut self.link else {
            let trouble = self.state.trouble();
            return Err(trouble.map_or(StoreError::Gone, StoreError::from));
        };
        let worked = work(link).await;
        worked.map_err(|error| {
            self.link = None;
            self.next = Instant::now() + AGAIN;
            let trouble = Trouble::of(&self.server, &error);
            self.state.tell(Some(trouble.clone()), &self.server);
            trouble.into()
        })
    }

    async fn ping(&mut self) {
        // What fails was told.
        drop(self.with(async |link| link.ping().await).await);
    }

    /// Brings over the leases that the database does not have yet.
    async fn send(&mut self) {
        loop {
            let unsent = self.local.with(async |connection| copied::some(connection, AT_ONCE).await).await;
            let sent = match unsent {
                Ok(unsent) if unsent.addresses.is_empty() => break,
                Ok(unsent) => self.send_some(&unsent).await,
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                // Who has the file, or the connection, says what is wrong with it.
                tracing::debug!("leases wait for {}: {error}", self.server);
                break;
            }
        }
        self.count().await;
    }

    /// Counts what the database does not have yet.
    async fn count(&self) {
        if let Ok(behind) = self.local.unsent_count().await {
            self.state.behind.store(u64::try_from(behind).unwrap_or(0), Ordering::Relaxed);
        }
    }

    async fn send_some(&mut self, unsent: &Unsent) -> Result<(), StoreError> {
        let leases: Vec<_> = unsent.leases.iter().collect();
        let put = async |link: &mut Link| {
            link.transact(async |link| write::put(link, &unsent.addresses, &leases).await).await
        };
        self.with(put).await?;
        self.local.transact(async |connection| copied::sent(connection, unsent).await).await
    }
}

/// Wakes whoever listens; he reads what is behind the last change that he has seen.
async fn ring(link: &mut Link, revision: u64) -> sqlx::Result<()> {
    let notify = Statement::new("SELECT CAST(pg_notify('xpxe_machines', ").value(revision.to_string());
    notify.then(") AS TEXT)").run(link).await.map(drop)
}
