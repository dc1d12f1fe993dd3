//! What operators and watchers ask for, and what they change.

use std::collections::HashMap;
use std::sync::Arc;

use boot_common::tables::{Hook, LinkEntry};
use boot_common::{Mac, Reason};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracing::debug;

use super::event_loop::{COUNTED_EVERY, Daemon};
use super::request::{Ask, AskFailure, Stats};
use crate::host::clock::now;
use crate::store::{StoreError, overlay};
use boot_engine::command::Command;
use boot_engine::config::Config;
use boot_engine::events::{BootEvent, By, Machine, Sink as _, Step};
use boot_engine::leases::{Change, Lease};
use boot_engine::leases::{Entry, Outcome, Shown, Which};
use boot_engine::policy::Loaders;
use boot_engine::reload::may_restore;

impl Daemon {
    pub(super) async fn answer(&mut self, ask: Ask) {
        // A client that has hung up wants no answer; the change it asked for is made all the same.
        match ask {
            Ask::List(reply) => self.read_leases(reply),
            Ask::Listed(stored, reply) => self.list(stored, reply),
            Ask::Delete(which, reply) => drop(reply.send(self.delete_leases(which).await)),
            Ask::Import { entries, dry_run, reply } => {
                drop(reply.send(self.import_leases(&entries, dry_run).await));
            }
            Ask::Reload { config, loaders, reply } => {
                if may_restore(self.engine.policy().config(), &config) {
                    self.read_for_reload(config, loaders, reply);
                } else {
                    self.reload(config, loaders, Vec::new()).await;
                    drop(reply.send(Ok(())));
                }
            }
            Ask::ReadForReload { config, loaders, stored, reply } => {
                let done = match stored {
                    Ok(stored) => {
                        self.reload(config, loaders, stored).await;
                        Ok(())
                    }
                    Err(failure) => Err(failure.into()),
                };
                self.stored_since = None;
                drop(reply.send(done));
            }
            Ask::PutMachine { id, machine, life, reply } => {
                let before: HashMap<u32, LinkEntry> = self.engine.link_entries().collect();
                let put = self.engine.put_machine(id, machine, life, now());
                self.act();
                self.tell_changed_links(&before);
                drop(reply.send(put));
            }
            Ask::RemoveMachine(id, reply) => {
                let before: HashMap<u32, LinkEntry> = self.engine.link_entries().collect();
                self.engine.remove_machine(id, now());
                self.act();
                self.tell_changed_links(&before);
                reply.send(()).ok();
            }
            Ask::Watch(mac, reply) => drop(reply.send(self.watch(mac).await)),
            Ask::Packets(reply) => drop(reply.send(self.packets())),
            Ask::Stats(reply) => {
                if self.counted_at.is_none_or(|at| at.elapsed() >= COUNTED_EVERY) {
                    self.counted = self.stats();
                    self.counted_at = Some(Instant::now());
                }
                drop(reply.send(self.counted.clone()));
            }
            Ask::Trouble(reply) => drop(reply.send(self.trouble().await)),
        }
    }

    /// The kernel's tables are written where they change: first the answers, then the machines and links, and at last the
    /// answers that are no longer used are removed.
    ///
    /// `stored` was read a while ago.
    async fn reload(&mut self, config: Arc<Config>, loaders: Loaders, stored: Vec<Lease>) {
        self.settle().await;
        let since = self.stored_since.take().unwrap_or_default();
        let leases = overlay(self.in_engine_time(stored), &since);
        let before: HashMap<u32, LinkEntry> = self.engine.link_entries().collect();
        self.engine.reload(config, loaders, &leases, now());
        let commands = self.engine.take_commands();
        let (gone, written): (Vec<Command>, Vec<Command>) =
            commands.into_iter().partition(|command| matches!(command, Command::DeleteAnswer(_)));
        debug!(written = written.len(), removed = gone.len(), "tables after the reload");
        self.execute(written);
        self.settle().await;
        self.tell_changed_links(&before);
        self.execute(gone);
        self.settle().await;
        self.events.pass_on(&mut self.engine);
    }

    /// Tells the kernel of interfaces that are others than before.
    fn tell_changed_links(&mut self, before: &HashMap<u32, LinkEntry>) {
        let links: Vec<(u32, LinkEntry)> =
            self.engine.link_entries().filter(|(ifindex, link)| before.get(ifindex) != Some(link)).collect();
        for (ifindex, link) in links {
            self.tell_link(ifindex, link);
        }
    }

    /// Reads what is stored elsewhere, and comes back with it. What is stored meanwhile is remembered.
    fn read_for_reload(
        &mut self,
        config: Arc<Config>,
        loaders: Loaders,
        reply: oneshot::Sender<Result<(), AskFailure>>,
    ) {
        self.stored_since = Some(Vec::new());
        self.read(|stored| Ask::ReadForReload { config, loaders, stored, reply });
    }

    fn packets(&self) -> Vec<(Hook, Reason, u64)> {
        let mut packets: Vec<(Hook, Reason, u64)> = Vec::new();
        for hook in Hook::KERNEL {
            // A table that is gone counts nothing.
            let counter =
                |reason| self.tables.as_ref()?.counter(hook, reason).ok().filter(|count| *count > 0);
            packets.extend(Reason::ALL.iter().filter_map(|reason| Some((hook, *reason, counter(*reason)?))));
        }
        packets.extend(self.engine.counters().map(|(reason, count)| (Hook::Daemon, reason, count)));
        packets
    }

    fn stats(&self) -> Stats {
        let (held, pools) = (self.engine.held(now()), self.engine.pools(now()));
        Stats {
            packets: self.packets(),
            held,
            pools,
            store_failures: self.store_failures,
            gathered: self.commits.gathered.commands.len(),
            gathered_full: self.commits.full,
        }
    }

    /// Reads what is stored elsewhere: with many leases that takes longer than a machine should wait.
    fn read_leases(&self, reply: oneshot::Sender<Result<Vec<Shown>, AskFailure>>) {
        self.read(|stored| Ask::Listed(stored, reply));
    }

    fn read(&self, answer: impl FnOnce(Result<Vec<Lease>, StoreError>) -> Ask + Send + 'static) {
        let (store, back, runtime) = (self.store.clone(), self.asks(), Handle::current());
        spawn_blocking(move || {
            let stored = runtime.block_on(store.leases());
            // The daemon is ending, if nobody listens.
            back.blocking_send(answer(stored)).ok();
        });
    }

    /// Another thread puts the list together.
    fn list(
        &self,
        stored: Result<Vec<Lease>, StoreError>,
        reply: oneshot::Sender<Result<Vec<Shown>, AskFailure>>,
    ) {
        let (snapshot, set_by) = (self.engine.snapshot(now()), self.set_by);
        // Nobody waits for it when the daemon ends.
        drop(spawn_blocking(move || {
            let shown = stored.map(|stored| {
                let mut leases = snapshot.with(&in_engine_time(stored, set_by));
                leases.iter_mut().for_each(|shown| show_in_wall_time(shown, set_by));
                leases
            });
            drop(reply.send(shown.map_err(AskFailure::from)));
        }));
    }

    async fn delete_leases(&mut self, which: Which) -> Result<Vec<Shown>, AskFailure> {
        let stored = self.stored().await?;
        let (mut leases, changes): (Vec<Shown>, Vec<Change>) =
            self.engine.to_delete(which, &stored, now())?.into_iter().unzip();
        self.change(&changes).await?;
        for shown in &mut leases {
            show_in_wall_time(shown, self.set_by);
            let step = Step::LeaseDeleted { address: shown.address, hold: shown.state.hold() };
            self.operated(step, Some(shown.mac));
        }
        Ok(leases)
    }

    async fn import_leases(&mut self, entries: &[Entry], dry_run: bool) -> Result<Vec<Outcome>, AskFailure> {
        let entries: Vec<Entry> = entries.iter().map(|entry| entry.clone().later_by(-self.set_by)).collect();
        let (outcomes, changes) = self.engine.to_import(&entries, now());
        if !dry_run && !changes.is_empty() {
            self.change(&changes).await?;
            self.operated(Step::LeasesImported(changes.len()), None);
        }
        Ok(outcomes)
    }

    fn operated(&self, step: Step, mac: Option<Mac>) {
        let event = BootEvent::new(now().boot, step).of(mac.map(Machine::from));
        self.events.stream().emit(BootEvent { by: By::Operator, ..event });
    }

    /// The store first: when it refuses, nothing has happened.
    async fn change(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.settle().await;
        self.commit(changes).await?;
        self.engine.change_leases(changes, now());
        self.act();
        Ok(())
    }

    /// What the store has, in the engine's time.
    async fn stored(&self) -> Result<Vec<Lease>, StoreError> {
        Ok(self.in_engine_time(self.store.leases().await?))
    }

    fn in_engine_time(&self, stored: Vec<Lease>) -> Vec<Lease> {
        in_engine_time(stored, self.set_by)
    }

    /// What failed is tried again: nobody may come by whose lease would show that it works.
    async fn trouble(&mut self) -> Option<String> {
        let waits = self.commits.trouble();
        if waits.is_some() {
            return waits;
        }
        if self.store_trouble.is_some() {
            self.store_trouble = self.store.try_to_write().await.err().map(|failure| failure.to_string());
        }
        self.store_trouble.clone().or_else(|| self.store.trouble())
    }
}

/// What the store has, when the wall clock was set by so many seconds since the start.
fn in_engine_time(stored: Vec<Lease>, set_by: i64) -> Vec<Lease> {
    stored.into_iter().map(|lease| lease.later_by(-set_by)).collect()
}

/// The other way round.
fn show_in_wall_time(shown: &mut Shown, set_by: i64) {
    shown.expires = shown.expires.map(|expires| expires.saturating_add_signed(set_by));
}
