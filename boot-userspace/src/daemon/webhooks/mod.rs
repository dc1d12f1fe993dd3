//! Webhooks: events of the configuration's choice, delivered by HTTP from a thread of their own.
//!
//! A delivery is on disk before it is tried, and is there until it has arrived or has been given up. So one that had just
//! arrived when xpxe was killed arrives once more, with the same number.

mod book;
mod journal;
mod send;
mod whose;

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::log::captured;
use super::request::{
    DeadLetter, HookView, Webhooks, WebhooksAsk, WebhooksEnds, WebhooksError, WhichLetters,
};
use crate::host::clock;
use crate::http::admin::rfc3339;
use boot_engine::config::{Config, Webhook};
use boot_engine::events::{BootEvent, Kind};
use boot_engine::machines::Machines;

use book::{Book, Ended};
use journal::{Delivery, Journal};
use send::{LazyClient, Receiver};
use whose::{is_about, is_of_stranger, lane};

pub(in crate::daemon) use send::{check_url, wrong_files};

/// How many events are taken at once.
const MOST_TAKEN: usize = 256;
/// How often the log says the same of one webhook.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// A webhook of the configuration.
struct Hook {
    settings: Webhook,
    receiver: Receiver,
    book: Book,
    /// When the log had its trouble last.
    told: Option<Duration>,
}

struct Keeper {
    hooks: BTreeMap<String, Hook>,
    journal: Journal,
    machines: Machines,
    way: Webhooks,
    /// The number of the last delivery.
    last_id: u64,
    disk_told: Option<Duration>,
    jitter: RandomState,
}

/// A try that has ended: webhook, lane, number, and how.
type Tried = (String, String, u64, Result<(), String>);

/// Starts the thread that delivers.
///
/// # Errors
/// There is no thread.
pub(super) fn start(
    config: watch::Receiver<Arc<Config>>,
    machines: Machines,
    way: Webhooks,
    ends: WebhooksEnds,
) -> io::Result<()> {
    // Before the thread is ready, so that nothing is lost that happens meanwhile.
    way.want(kinds(&config.borrow()));
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let run = move || {
        let (journal, earlier) = Journal::open(&config.borrow().state_dir);
        let keeper = Keeper {
            hooks: BTreeMap::new(),
            journal,
            machines,
            way,
            last_id: 0,
            disk_told: None,
            jitter: RandomState::new(),
        };
        runtime.block_on(keeper.run(config, earlier, ends));
    };
    thread::Builder::new().name("xpxe-webhooks".to_owned()).spawn(run).map(drop)
}

impl Keeper {
    async fn run(
        mut self,
        mut config: watch::Receiver<Arc<Config>>,
        earlier: io::Result<Vec<Delivery>>,
        mut ends: WebhooksEnds,
    ) {
        let now = config.borrow_and_update().clone();
        self.follow(&now);
        match earlier {
            Ok(earlier) => self.take_over(earlier),
            Err(error) => error!(
                "{} cannot be read: {error}; the deliveries of webhooks that an earlier xpxe has left there are not made: \
                 correct the file and restart xpxe, or remove it",
                self.journal.path().display()
            ),
        }
        let mut tries = JoinSet::new();
        let mut events = Vec::new();
        loop {
            self.start_due(&mut tries);
            tokio::select! {
                taken = ends.events.recv_many(&mut events, MOST_TAKEN) => {
                    if taken == 0 {
                        return;
                    }
                    self.deliver(events.drain(..));
                }
                ask = ends.asks.recv() => match ask {
                    Some(ask) => self.answer(ask),
                    None => return,
                },
                Some(tried) = tries.join_next() => {
                    if let Ok(tried) = tried {
                        self.tried(tried);
                    }
                }
                Ok(()) = config.changed() => {
                    let new = config.borrow_and_update().clone();
                    self.follow(&new);
                }
                () = self.until_due() => {}
            }
            self.keep_short();
        }
    }

    /// Has the webhooks of this configuration, and no others.
    fn follow(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.hooks);
        let mut clients = HashMap::<_, LazyClient>::new();
        let mut receiver = |settings: &Webhook| {
            let client = clients.entry(Receiver::trusts(settings)).or_default().clone();
            Receiver::new(settings.clone(), client)
        };
        for settings in &config.webhooks {
            let place = settings.url.place();
            let hook = match before.remove(&settings.name) {
                Some(hook) if hook.settings == *settings => hook,
                Some(mut hook) => {
                    hook.book.change(place, settings.tries);
                    Hook { settings: settings.clone(), receiver: receiver(settings), ..hook }
                }
                None => Hook {
                    book: Book::new(&settings.name, place, settings.tries),
                    receiver: receiver(settings),
                    settings: settings.clone(),
                    told: None,
                },
            };
            self.hooks.insert(settings.name.clone(), hook);
        }
        for (name, hook) in before {
            let ids: Vec<u64> = hook.book.all().map(|delivery| delivery.id).collect();
            if !ids.is_empty() {
                warn!(
                    "webhook {name} is not in the configuration any more: its {} deliveries were dropped",
                    ids.len()
                );
            }
            let written = self.journal.forget(ids);
            self.tell_disk(written);
        }
        self.way.want(kinds(config));
    }

    /// Goes on with what an earlier daemon has left.
    fn take_over(&mut self, earlier: Vec<Delivery>) {
        let now = clock::boot();
        let (mut over, mut waiting) = (Vec::new(), 0);
        for delivery in earlier {
            self.last_id = self.last_id.max(delivery.id);
            let id = delivery.id;
            match self.hooks.get_mut(&delivery.webhook) {
                None => over.push(id),
                Some(hook) if delivery.dead.is_some() => over.extend(hook.book.bury(delivery)),
                Some(hook) => match hook.book.add(delivery, now) {
                    true => waiting += 1,
                    false => over.push(id),
                },
            }
        }
        if waiting > 0 {
            info!("{waiting} deliveries of webhooks that an earlier xpxe has left are made now");
        }
        if !over.is_empty() {
            let count = over.len();
            warn!(
                "{count} deliveries that an earlier xpxe has left were dropped: their webhook is not in the configuration any more, or has no room for them"
            );
        }
        let written = self.journal.forget(over);
        self.tell_disk(written);
    }

    /// Makes deliveries of events.
    fn deliver(&mut self, events: impl Iterator<Item = BootEvent>) {
        let now = clock::now();
        let mut new = Vec::new();
        for event in events {
            let kind = event.step.kind();
            let wanted: Vec<String> = self
                .hooks
                .values()
                .filter(|hook| {
                    hook.settings.events.contains(&kind) && is_about(&self.machines, &hook.settings, &event)
                })
                .map(|hook| hook.settings.name.clone())
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let at = now.wall.saturating_sub(now.boot.saturating_sub(event.at)).as_secs();
            let lane = lane(&event);
            let is_of_stranger = is_of_stranger(&self.machines, &event);
            let name = event.name().map(str::to_owned).or_else(|| lane.clone());
            let line = captured::line(&event);
            for webhook in wanted {
                let id = self.next_id();
                let body = json!({
                    "id": id, "webhook": webhook, "type": kind.name(), "timestamp": rfc3339(at), "data": line,
                });
                let delivery = Delivery {
                    id,
                    lane: lane.clone().unwrap_or_default(),
                    is_of_stranger,
                    kind: kind.name().to_owned(),
                    machine: name.clone(),
                    at,
                    body: body.to_string(),
                    dead: None,
                    webhook,
                };
                let Some(hook) = self.hooks.get_mut(&delivery.webhook) else { continue };
                if hook.book.add(delivery.clone(), now.boot) {
                    new.push(delivery);
                } else if is_time(&mut hook.told) {
                    let HookView { name, lost, .. } = &hook.book.counts;
                    let whose = match is_of_stranger {
                        true => " of machines that may not be there",
                        false => "",
                    };
                    warn!(
                        "webhook {name} has so many deliveries{whose} waiting that {lost} events are lost to it: look why its receiver does not take them (xpxe webhooks list), and who makes so many (xpxe events --follow)"
                    );
                }
            }
        }
        let written = self.journal.put(&new);
        self.tell_disk(written);
    }

    /// Numbers grow, also over a restart that finds no deliveries.
    fn next_id(&mut self) -> u64 {
        let by_clock = u64::try_from(clock::wall().as_micros()).unwrap_or(0);
        self.last_id = by_clock.max(self.last_id + 1);
        self.last_id
    }

    fn start_due(&mut self, tries: &mut JoinSet<Tried>) {
        let now = clock::boot();
        for hook in self.hooks.values_mut() {
            while let Some(delivery) = hook.book.take_due(now) {
                let receiver = hook.receiver.clone();
                tries.spawn(async move {
                    let Delivery { webhook, lane, id, .. } = delivery.clone();
                    (webhook, lane, id, receiver.send(delivery).await)
                });
            }
        }
    }

    async fn until_due(&self) {
        match self.hooks.values().filter_map(|hook| hook.book.next_due()).min() {
            Some(due) => sleep(due.saturating_sub(clock::boot())).await,
            None => pending().await,
        }
    }

    fn tried(&mut self, (webhook, lane, id, result): Tried) {
        let Some(hook) = self.hooks.get_mut(&webhook) else { return };
        let jitter = self.jitter.hash_one((id, clock::boot())) as f64 / u64::MAX as f64;
        let why = result.as_ref().err().cloned().unwrap_or_default();
        let was_in_trouble = hook.book.counts.trouble.is_some();
        let ended = hook.book.ended((&lane, id), result, clock::boot(), (clock::wall().as_secs(), jitter));
        let place = hook.settings.url.place();
        let written = match &ended {
            Ended::Forgotten => return,
            Ended::Delivered => {
                if was_in_trouble {
                    hook.told = None;
                    info!("webhook {webhook}: {place} takes deliveries again");
                }
                self.journal.forget([id])
            }
            Ended::Again(pause) => {
                if is_time(&mut hook.told) {
                    warn!(
                        "webhook {webhook}: {place} did not take a delivery: {why}; it is tried again in {:.0} s",
                        pause.as_secs_f64()
                    );
                }
                Ok(())
            }
            Ended::Dead(dead, oldest) => {
                if is_time(&mut hook.told) {
                    let tries = hook.settings.tries;
                    warn!(
                        "webhook {webhook}: {place} has not taken a delivery in {tries} tries, the last time: {why}; it is a dead letter now: correct the cause, then run xpxe webhooks retry {webhook}"
                    );
                }
                let put = self.journal.put([&**dead]);
                put.and(self.journal.forget(*oldest))
            }
        };
        self.tell_disk(written);
    }

    fn answer(&mut self, ask: WebhooksAsk) {
        // Who has hung up wants no answer.
        match ask {
            WebhooksAsk::List(reply) => {
                drop(reply.send(self.hooks.values().map(|hook| hook.book.counts.clone()).collect()));
            }
            WebhooksAsk::Dead(reply) => {
                let mut dead: Vec<_> =
                    self.hooks.values().flat_map(|hook| hook.book.dead()).map(letter).collect();
                dead.sort_by_key(|letter| (letter.died, letter.id));
                drop(reply.send(dead));
            }
            WebhooksAsk::Retry(which, reply) => {
                let taken = self.exhume(&which);
                drop(reply.send(taken.map(|taken| self.retry(taken))));
            }
            WebhooksAsk::Drop(which, reply) => {
                let taken = self.exhume(&which).map(|taken| {
                    let written = self.journal.forget(taken.iter().map(|delivery| delivery.id));
                    self.tell_disk(written);
                    taken.len()
                });
                drop(reply.send(taken));
            }
        }
    }

    fn exhume(&mut self, which: &WhichLetters) -> Result<Vec<Delivery>, WebhooksError> {
        let id = match which {
            WhichLetters::One(id) => Some(*id),
            WhichLetters::Of(name) if !self.hooks.contains_key(name) => {
                return Err(WebhooksError::NoWebhook(name.clone()));
            }
            WhichLetters::All | WhichLetters::Of(_) => None,
        };
        let is_meant = |name: &str| !matches!(which, WhichLetters::Of(other) if other != name);
        let hooks = self.hooks.values_mut().filter(|hook| is_meant(&hook.settings.name));
        let taken: Vec<Delivery> = hooks.flat_map(|hook| hook.book.exhume(id)).collect();
        if id.is_some() && taken.is_empty() {
            return Err(WebhooksError::Unknown);
        }
        Ok(taken)
    }

    /// Has dead letters delivered after all; those for which there is no room stay dead. Gives how many.
    fn retry(&mut self, taken: Vec<Delivery>) -> usize {
        let now = clock::boot();
        let mut again = Vec::new();
        for dead in taken {
            let Some(hook) = self.hooks.get_mut(&dead.webhook) else { continue };
            let delivery = Delivery { dead: None, ..dead.clone() };
            if hook.book.has_room(&delivery) && hook.book.add(delivery.clone(), now) {
                again.push(delivery);
            } else {
                hook.book.bury(dead);
            }
        }
        let written = self.journal.put(&again);
        self.tell_disk(written);
        again.len()
    }

    fn keep_short(&mut self) {
        let live = |hook: &Hook| hook.book.counts.waiting + hook.book.counts.dead;
        let live = usize::try_from(self.hooks.values().map(live).sum::<u64>()).unwrap_or(usize::MAX);
        if self.journal.is_long(live) {
            let mut all: Vec<&Delivery> = self.hooks.values().flat_map(|hook| hook.book.all()).collect();
            all.sort_by_key(|delivery| delivery.id);
            let written = self.journal.rewrite(all.into_iter());
            self.tell_disk(written);
        }
    }

    fn tell_disk(&mut self, written: io::Result<()>) {
        let Err(error) = written else { return };
        if is_time(&mut self.disk_told) {
            let path: &Path = self.journal.path();
            warn!(
                "deliveries of webhooks cannot be written to {}: {error}; they are made nevertheless, and lost if xpxe ends before",
                path.display()
            );
        }
    }
}

/// The kinds of events that webhooks want.
fn kinds(config: &Config) -> impl Iterator<Item = Kind> + '_ {
    config.webhooks.iter().flat_map(|webhook| webhook.events.iter().copied())
}

fn letter(delivery: &Delivery) -> DeadLetter {
    let Delivery { id, webhook, kind, machine, at, dead, .. } = delivery.clone();
    let (died, tries, why) = dead.map_or((0, 0, String::new()), |dead| (dead.at, dead.tries, dead.why));
    DeadLetter { id, webhook, kind, machine, at, died, tries, why }
}

/// Whether the log may have it again.
fn is_time(told: &mut Option<Duration>) -> bool {
    let now = clock::boot();
    let is_time = told.is_none_or(|at| now >= at + TOLD_EVERY);
    if is_time {
        *told = Some(now);
    }
    is_time
}
