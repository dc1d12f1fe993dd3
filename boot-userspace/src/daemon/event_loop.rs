//! The event loop: packets, kernel events and time go into the engine, its commands come out.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use boot_common::Mac;
use boot_common::tables::{AnswerKey, LinkEntry, role};
use boot_common::wire::port;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{error, info};

use super::commits::Commits;
use super::engine_events::EngineEvents;
use super::request::{Ask, EventStream, Stats};
use crate::fastpath::{AsyncEvents, Tables};
use crate::host::clock::{now, was_set_by};
use crate::host::link::Link;
use crate::host::precedence::Precedence;
use crate::io::probe::{self, Verdict};
use crate::io::sockets::{AT_ONCE, Packet, Sockets};
use crate::store::Store;
use boot_engine::Engine;
use boot_engine::command::{Command, Incoming};
use boot_engine::config::DhcpRole;
use boot_engine::events::{BootEvent, Sink as _, Step};
use boot_engine::leases::Change;
use boot_engine::policy::ServedLink;

/// How many packets a round takes at most.
const ROUND: usize = 512;
/// How many batches of the kernel half's events wait.
const BATCHES: usize = 4;
/// How many packets wait for the next round; more stay in the sockets' buffers.
const WAITING: usize = 2048;
/// Counting looks at every lease: who asks more often gets the same stats.
pub(super) const COUNTED_EVERY: Duration = Duration::from_secs(1);
/// How many requests of operators wait; more wait at their connections.
const ASKS: usize = 16;

/// The daemon's one mover.
pub struct Daemon {
    pub(super) engine: Engine,
    pub(super) events: EngineEvents,
    pub(super) store: Store,
    pub(super) sockets: HashMap<u32, Sockets>,
    /// Interfaces whose port 67 is another server's: the kernel half has to leave them to it.
    pub(super) beside: HashSet<u32>,
    pub(super) tables: Option<Tables>,
    /// What probes have found.
    pub(super) findings: (mpsc::UnboundedSender<Finding>, mpsc::UnboundedReceiver<Finding>),
    /// What interfaces have become.
    pub(super) rebinds: (mpsc::Sender<Rebind>, mpsc::Receiver<Rebind>),
    /// What operators want.
    pub(super) asks: (mpsc::Sender<Ask>, mpsc::Receiver<Ask>),
    /// What waits for the disk.
    pub(super) commits: Commits,
    /// What the packets that were heard last lead to and does not wait for it.
    pub(super) at_once: Vec<Command>,
    pub(super) store_failures: u64,
    /// What has been stored since somebody began to read what is stored.
    pub(super) stored_since: Option<Vec<Change>>,
    /// Why nothing can be stored, since the last time that failed.
    pub(super) store_trouble: Option<String>,
    /// What was counted last, and when: anybody may ask.
    pub(super) counted: Stats,
    pub(super) counted_at: Option<Instant>,
    /// Prepared answers that the kernel's table had no room for: the daemon gives them.
    pub(super) refused: HashSet<AnswerKey>,
    /// By how many seconds the store's time is later than the engine's.
    pub(super) set_by: i64,
    /// The machine whose packets somebody records.
    pub(super) watched: Option<Mac>,
}

/// An interface that is another one now under its old name, or none.
pub struct Rebind {
    /// Its name.
    pub name: String,
    /// What it is now, and the same for the engine; nothing if it is gone, down, or has no address.
    pub to: Option<(Link, ServedLink)>,
    /// Gets whether it is served as it is now.
    pub reply: oneshot::Sender<Result<()>>,
}

/// What a probe found: the machine, its address, and who has that already.
type Finding = (Mac, Ipv4Addr, Option<String>);

impl Daemon {
    /// Puts the parts together. `beside` are the interfaces whose port 67 is another server's; `tables` are the kernel's,
    /// where there is a fast path. `events` gets what happens.
    #[must_use]
    pub fn new(
        engine: Engine,
        store: Store,
        beside: HashSet<u32>,
        tables: Option<Tables>,
        events: EventStream,
    ) -> Self {
        let (findings, asks, rebinds) = (mpsc::unbounded_channel(), mpsc::channel(ASKS), mpsc::channel(1));
        Self {
            engine,
            events: EngineEvents::new(events),
            store,
            sockets: HashMap::new(),
            beside,
            tables,
            findings,
            rebinds,
            asks,
            commits: Commits::default(),
            at_once: Vec::new(),
            store_failures: 0,
            stored_since: None,
            store_trouble: None,
            counted: Stats::default(),
            counted_at: None,
            refused: HashSet::new(),
            set_by: 0,
            watched: None,
        }
    }

    /// Where requests of operators go.
    #[must_use]
    pub fn asks(&self) -> mpsc::Sender<Ask> {
        self.asks.0.clone()
    }

    /// Where to tell what an interface has become, when it was made again or has other addresses.
    #[must_use]
    pub fn rebinds(&self) -> mpsc::Sender<Rebind> {
        self.rebinds.0.clone()
    }

    /// Fills the kernel's tables with what the engine has decided so far, and first removes what is not so any more, if
    /// they were `adopted` from an earlier daemon. Gives the number of stale entries.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn fill_tables(&mut self, adopted: bool) -> Result<usize> {
        self.beat();
        self.events.pass_on(&mut self.engine);
        let mut stale = 0;
        if adopted && let Some(tables) = &mut self.tables {
            let engine = &self.engine;
            stale = tables.reconcile(
                |link| engine.has_link(link),
                |host| engine.has_host(host),
                |key, answer| engine.has_answer(key, answer),
            )?;
        }
        let (machines, answers) = self.engine.take_first_commands();
        self.execute(machines);
        for (ifindex, link) in self.engine.link_entries() {
            let link = self.as_kernel_has(ifindex, link);
            if let Some(tables) = &mut self.tables {
                tables.put_link(ifindex, &link)?;
            }
        }
        self.execute(answers);
        self.settle().await;
        Ok(stale)
    }

    /// An interface whose port 67 is another server's the kernel half leaves to it.
    fn as_kernel_has(&self, ifindex: u32, link: LinkEntry) -> LinkEntry {
        let role = if self.beside.contains(&ifindex) { role::OFF } else { link.role };
        LinkEntry { role, ..link }
    }

    /// Tells the kernel of an interface.
    pub(super) fn tell_link(&mut self, ifindex: u32, link: LinkEntry) {
        let link = self.as_kernel_has(ifindex, link);
        self.tell("interface", |tables| tables.put_link(ifindex, &link));
    }

    /// Runs until the sockets' tasks end, which they do not. What the sockets have heard since they were opened is
    /// answered first.
    pub async fn run(mut self, sockets: Vec<Sockets>, events: Option<AsyncEvents>) {
        let (sender, mut packets) = mpsc::channel(WAITING);
        self.sockets.extend(sockets.into_iter().map(|sockets| (sockets.ifindex(), sockets)));
        for sockets in self.sockets.values_mut() {
            sockets.listen(&sender);
        }
        let (event_sender, mut kernel_events) = mpsc::channel(BATCHES);
        if let Some(events) = events {
            tokio::spawn(events.gather(event_sender));
        }
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut precedence = Precedence::take();
        loop {
            tokio::select! {
                Some(events) = kernel_events.recv() => {
                    let now = now();
                    for event in &events {
                        self.engine.kernel_answered(event, now);
                    }
                    self.act();
                }
                ended = self.commits.end() => self.committed(ended),
                Some(packet) = packets.recv(), if self.commits.have_room() => {
                    self.hear(&packet);
                    for heard in 1..ROUND {
                        if heard % AT_ONCE == 0 {
                            self.answer_heard();
                        }
                        let Ok(packet) = packets.try_recv() else { break };
                        self.hear(&packet);
                    }
                    self.answer_heard();
                }
                Some((mac, address, in_use_by)) = self.findings.1.recv() => {
                    self.engine.probed(mac, address, in_use_by, now());
                    while let Ok((mac, address, in_use_by)) = self.findings.1.try_recv() {
                        self.engine.probed(mac, address, in_use_by, now());
                    }
                    self.act();
                }
                Some(ask) = self.asks.1.recv() => self.answer(ask).await,
                Some(Rebind { name, to, reply }) = self.rebinds.1.recv() => {
                    let done = match to {
                        Some((link, served)) => self.rebind(&link, served, &sender).await,
                        None => self.unlink(&name),
                    };
                    // Nobody waits for it when the daemon ends.
                    drop(reply.send(done));
                }
                _ = second.tick() => {
                    self.beat();
                    self.follow_wall_clock().await;
                    self.engine.tick(now());
                    self.act();
                    self.events.next_second(&self.engine, now());
                    precedence.next_second();
                }
            }
            self.commit_next();
            // Of what a commit has let go.
            self.events.pass_on(&mut self.engine);
        }
    }

    /// Serves an interface that is another one now.
    async fn rebind(&mut self, link: &Link, served: ServedLink, sender: &mpsc::Sender<Packet>) -> Result<()> {
        self.settle().await;
        let role = served.role;
        let old = self.engine.rebind(served, now()).and_then(|ifindex| self.sockets.remove(&ifindex));
        if role != DhcpRole::Off {
            let mut sockets = match old {
                // Of other addresses its ports know nothing.
                Some(old) if old.ifindex() == link.index => old.with_addresses_of(link)?,
                _ => {
                    let new = Sockets::open(link, role)?;
                    new.say_beside(&link.name);
                    new
                }
            };
            sockets.listen(sender);
            self.beside.remove(&link.index);
            if sockets.is_beside() {
                self.beside.insert(link.index);
            }
            self.sockets.insert(link.index, sockets);
        }
        self.fill_tables(true).await?;
        Ok(())
    }

    /// Serves an interface no longer. What its machines have stays as it is, for its return.
    fn unlink(&mut self, name: &str) -> Result<()> {
        let Some(ifindex) = self.engine.unlink(name) else { return Ok(()) };
        self.sockets.remove(&ifindex);
        match &mut self.tables {
            Some(tables) => Ok(tables.delete_link(ifindex)?),
            None => Ok(()),
        }
    }

    /// When the wall clock has been set, leases in the store go with it: they last as long as before.
    async fn follow_wall_clock(&mut self) {
        let set_by = was_set_by();
        let by = set_by - self.set_by;
        // Of a second nobody can be sure.
        if by.abs() < 2 {
            return;
        }
        self.settle().await;
        let old = i64::try_from(now().seconds()).unwrap_or(i64::MAX).saturating_add(self.set_by);
        match self.store.shift(by, old).await {
            Ok(()) => {
                info!(
                    "the wall clock was set by {by} s: adjusted the stored leases, which last as long as before"
                );
                self.set_by = set_by;
            }
            Err(failure) => {
                error!(
                    "{failure}: the wall clock was set by {by} s, but the stored leases could not be adjusted and end that much earlier or later"
                );
            }
        }
    }

    fn hear(&mut self, packet: &Packet) {
        let incoming = Incoming {
            ifindex: packet.ifindex,
            port: packet.port,
            from: packet.from,
            to: packet.to,
            payload: &packet.payload,
        };
        match packet.port {
            port::DHCP_CLIENT => self.engine.snoop(&incoming, packet.station, now()),
            _ => self.engine.handle(&incoming, now()),
        }
        let commands = self.engine.take_commands();
        let at_once = self.gather(commands);
        self.at_once.extend(at_once);
    }

    /// Answers the packets that were heard, as far as that does not wait for the disk: all of them together.
    fn answer_heard(&mut self) {
        self.events.pass_on(&mut self.engine);
        let commands = std::mem::take(&mut self.at_once);
        self.carry_out(commands, &HashSet::new(), true);
        self.events.pass_on(&mut self.engine);
    }

    /// Does what the engine wants done, and tells what has happened: before it, and of it.
    pub(super) fn act(&mut self) {
        self.events.pass_on(&mut self.engine);
        let commands = self.engine.take_commands();
        self.execute(commands);
        self.events.pass_on(&mut self.engine);
    }

    pub(super) fn probe(
        &self,
        ifindex: u32,
        address: Ipv4Addr,
        mac: Mac,
        on_link: bool,
        own_answer_counts: bool,
    ) {
        let Some(sockets) = self.sockets.get(&ifindex) else { return };
        let (prober, findings) = (sockets.prober(), self.findings.0.clone());
        // No station has this one.
        let not_counted = if own_answer_counts { Mac([0; 6]) } else { mac };
        let events = self.events.stream().clone();
        tokio::spawn(async move {
            let in_use_by = match prober.in_use(address, on_link, not_counted, probe::WAIT).await {
                Verdict::Free => None,
                Verdict::UsedBy(other) => Some(other.to_string()),
                Verdict::Answers => Some("a machine that answers ping".to_owned()),
            };
            if prober.was_just_refused() {
                events.emit(BootEvent::new(now().boot, Step::CannotProbe));
            }
            // The daemon is ending, if nobody listens.
            findings.send((mac, address, in_use_by)).ok();
        });
    }

    fn beat(&mut self) {
        let now = now().nanos();
        self.tell("heartbeat", |tables| tables.beat(now));
    }
}
