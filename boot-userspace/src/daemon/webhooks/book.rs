//! Which delivery is tried when. Without IO and without a clock: `now` is the boot clock.
//!
//! The deliveries of one machine to one webhook are a lane. In a lane one is under way at a time, and the next one follows
//! when it has arrived or was given up: a receiver gets what happened to a machine in the order in which it happened. Lanes do
//! not wait for each other, and neither do webhooks.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::journal::{Death, Delivery};
use crate::daemon::request::HookView;

/// How many deliveries wait for one webhook at most.
const MOST_WAITING: usize = 10_000;
/// How many of those are of one machine at most, how many of all machines together that may be made up, and how many of
/// one kind of event: who reports without end, or in the names of many, does not take the places of all others.
const MOST_OF_MACHINE: usize = 1000;
const MOST_OF_STRANGERS: usize = 1000;
const MOST_OF_KIND: usize = MOST_WAITING / 2;
/// How many dead letters one webhook has at most; the oldest makes room, of machines that may be made up if there are any.
pub(super) const MOST_DEAD: usize = 1000;
/// How many deliveries to one webhook are under way at once.
const AT_ONCE: usize = 8;
/// The pause after the first failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The deliveries to one webhook.
pub(super) struct Book {
    lanes: HashMap<String, VecDeque<Waiting>>,
    /// How many deliveries of each kind of event wait.
    kinds: HashMap<String, usize>,
    /// How many deliveries of machines that may be made up wait.
    of_strangers: usize,
    /// The first of each lane that is not under way, by when it is due.
    ready: BTreeSet<(Duration, u64, String)>,
    under_way: usize,
    dead: VecDeque<Delivery>,
    /// How often a delivery is tried.
    tries: u32,
    /// What is counted.
    pub(super) counts: HookView,
}

struct Waiting {
    delivery: Delivery,
    /// How often it was tried.
    tries: u32,
}

/// What became of a delivery after a try.
#[derive(Debug, PartialEq)]
pub(super) enum Ended {
    /// It has arrived.
    Delivered,
    /// It is tried again after this pause.
    Again(Duration),
    /// It is a dead letter; the oldest one had to go for it, if it had to.
    Dead(Box<Delivery>, Option<u64>),
    /// Nobody waits for it any more.
    Forgotten,
}

impl Book {
    pub(super) fn new(name: &str, place: String, tries: u32) -> Self {
        let counts = HookView { name: name.to_owned(), place, ..HookView::default() };
        Self {
            lanes: HashMap::new(),
            kinds: HashMap::new(),
            of_strangers: 0,
            ready: BTreeSet::new(),
            under_way: 0,
            dead: VecDeque::new(),
            tries,
            counts,
        }
    }

    /// Follows another configuration.
    pub(super) fn change(&mut self, place: String, tries: u32) {
        self.counts.place = place;
        self.tries = tries;
    }

    /// Whether there is room for a delivery.
    pub(super) fn has_room(&self, delivery: &Delivery) -> bool {
        let of_machine = self.lanes.get(&delivery.lane).map_or(0, VecDeque::len);
        let of_kind = self.kinds.get(&delivery.kind).copied().unwrap_or(0);
        self.counts.waiting < MOST_WAITING as u64
            && of_machine < MOST_OF_MACHINE
            && of_kind < MOST_OF_KIND
            && (!delivery.is_of_stranger || self.of_strangers < MOST_OF_STRANGERS)
    }

    /// Adds a delivery; false if there is no room.
    pub(super) fn add(&mut self, delivery: Delivery, now: Duration) -> bool {
        if !self.has_room(&delivery) {
            self.counts.lost += 1;
            return false;
        }
        self.counts.waiting += 1;
        self.of_strangers += usize::from(delivery.is_of_stranger);
        *self.kinds.entry(delivery.kind.clone()).or_default() += 1;
        let lane = self.lanes.entry(delivery.lane.clone()).or_default();
        if lane.is_empty() {
            self.ready.insert((now, delivery.id, delivery.lane.clone()));
        }
        lane.push_back(Waiting { delivery, tries: 0 });
        true
    }

    /// Adds a dead letter of an earlier daemon. Gives the one that had to go for it.
    pub(super) fn bury(&mut self, delivery: Delivery) -> Option<u64> {
        self.dead.push_back(delivery);
        let goes = self.dead.iter().position(|dead| dead.is_of_stranger).unwrap_or(0);
        let oldest = (self.dead.len() > MOST_DEAD).then(|| self.dead.remove(goes)).flatten();
        self.counts.lost += u64::from(oldest.is_some());
        self.counts.dead = self.dead.len() as u64;
        oldest.map(|oldest| oldest.id)
    }

    /// The next delivery that is due, which is under way from now on.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<Delivery> {
        if self.under_way >= AT_ONCE || self.ready.first()?.0 > now {
            return None;
        }
        let (_, _, lane) = self.ready.pop_first()?;
        self.under_way += 1;
        Some(self.lanes.get(&lane)?.front()?.delivery.clone())
    }

    /// When the next delivery is due, if one can be tried.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.ready.first().filter(|_| self.under_way < AT_ONCE).map(|(due, _, _)| *due)
    }

    /// Takes how a try has ended. `jitter` is from 0 to 1, `wall` in Unix seconds.
    pub(super) fn ended(
        &mut self,
        (lane_name, id): (&str, u64),
        result: Result<(), String>,
        now: Duration,
        (wall, jitter): (u64, f64),
    ) -> Ended {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(lane) = self.lanes.get_mut(lane_name) else { return Ended::Forgotten };
        let Some(first) = lane.front_mut().filter(|first| first.delivery.id == id) else {
            return Ended::Forgotten;
        };
        first.tries += 1;
        let tries = first.tries;
        self.counts.trouble = result.as_ref().err().cloned();
        let why = match result {
            Ok(()) => None,
            Err(_) if tries < self.tries => {
                self.counts.failed_tries += 1;
                let pause = pause(tries, jitter);
                self.ready.insert((now + pause, id, lane_name.to_owned()));
                return Ended::Again(pause);
            }
            Err(why) => Some(why),
        };
        let over = lane.pop_front();
        self.counts.waiting = self.counts.waiting.saturating_sub(1);
        if let Some(Waiting { delivery, .. }) = &over {
            self.of_strangers = self.of_strangers.saturating_sub(usize::from(delivery.is_of_stranger));
            if let Some(of_kind) = self.kinds.get_mut(&delivery.kind) {
                *of_kind = of_kind.saturating_sub(1);
            }
        }
        match lane.front() {
            Some(next) => drop(self.ready.insert((now, next.delivery.id, lane_name.to_owned()))),
            None => drop(self.lanes.remove(lane_name)),
        }
        let Some((why, over)) = why.zip(over) else {
            self.counts.delivered += 1;
            return Ended::Delivered;
        };
        self.counts.failed_tries += 1;
        self.counts.died += 1;
        let dead = Delivery { dead: Some(Death { at: wall, tries, why }), ..over.delivery };
        let oldest = self.bury(dead.clone());
        Ended::Dead(Box::new(dead), oldest)
    }

    /// The dead letters, the oldest first.
    pub(super) fn dead(&self) -> impl Iterator<Item = &Delivery> {
        self.dead.iter()
    }

    /// Takes dead letters out: one, or all.
    pub(super) fn exhume(&mut self, id: Option<u64>) -> Vec<Delivery> {
        let is_meant = |delivery: &Delivery| id.is_none_or(|id| delivery.id == id);
        let (taken, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.dead).into_iter().partition(is_meant);
        self.dead = left.into();
        self.counts.dead = self.dead.len() as u64;
        taken
    }

    /// Everything that is not over: what waits, then the dead letters.
    pub(super) fn all(&self) -> impl Iterator<Item = &Delivery> {
        let waiting = self.lanes.values().flatten().map(|waiting| &waiting.delivery);
        waiting.chain(&self.dead)
    }
}

/// The pause after so many failures: half of it is fixed, half is by chance, so that what failed at once is not tried at once.
fn pause(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn delivery(id: u64, lane: &str) -> Delivery {
        Delivery { id, lane: lane.to_owned(), ..Delivery::default() }
    }

    fn fail(book: &mut Book, lane: &str, id: u64, now: Duration) -> Ended {
        book.ended((lane, id), Err("500".to_owned()), now, (7, 1.0))
    }

    fn due(book: &mut Book, now: Duration) -> Vec<u64> {
        std::iter::from_fn(|| book.take_due(now)).map(|delivery| delivery.id).collect()
    }

    #[test]
    fn what_happened_to_a_machine_arrives_in_its_order_and_machines_do_not_wait_for_each_other() {
        let mut book = Book::new("chat", String::new(), 2);
        for (id, lane) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
            assert!(book.add(delivery(id, lane), Duration::ZERO));
        }
        assert_eq!(due(&mut book, Duration::ZERO), [1, 3]);
        assert_eq!(fail(&mut book, "a", 1, SECOND), Ended::Again(SECOND));
        assert!(due(&mut book, SECOND).is_empty(), "the others of a wait for its first one");
        assert_eq!(book.ended(("b", 3), Ok(()), SECOND, (7, 0.0)), Ended::Delivered);
        assert_eq!(book.next_due(), Some(2 * SECOND));
        assert_eq!(due(&mut book, 2 * SECOND), [1]);
        let Ended::Dead(dead, None) = fail(&mut book, "a", 1, 3 * SECOND) else {
            panic!("it was the last try")
        };
        assert_eq!(dead.dead, Some(Death { at: 7, tries: 2, why: "500".to_owned() }));
        assert_eq!(due(&mut book, 3 * SECOND), [2], "then the next one");
        assert_eq!(book.ended(("a", 2), Ok(()), 3 * SECOND, (7, 0.0)), Ended::Delivered);
        assert_eq!(due(&mut book, 3 * SECOND), [4]);
        let HookView { waiting, dead, delivered, failed_tries, died, lost, .. } = book.counts.clone();
        assert_eq!((waiting, dead, delivered, failed_tries, died, lost), (1, 1, 2, 2, 1, 0));
        // A dead letter goes behind what waits.
        let [again] = &book.exhume(Some(1))[..] else { panic!("one") };
        assert!(book.add(again.clone(), 4 * SECOND) && book.counts.dead == 0);
        assert_eq!(book.ended(("a", 4), Ok(()), 4 * SECOND, (7, 0.0)), Ended::Delivered);
        assert_eq!(due(&mut book, 4 * SECOND), [1]);
        assert_eq!(book.ended(("a", 99), Ok(()), 4 * SECOND, (7, 0.0)), Ended::Forgotten);
    }

    #[test]
    fn a_dead_receiver_costs_so_much_and_no_more() {
        let mut book = Book::new("chat", String::new(), 1);
        for id in 0..MOST_WAITING as u64 + 5 {
            let kind = (id % 4).to_string();
            book.add(Delivery { kind, ..delivery(id, &id.to_string()) }, Duration::ZERO);
        }
        assert_eq!((book.counts.waiting, book.counts.lost), (MOST_WAITING as u64, 5));
        let mut forgotten = 0;
        loop {
            let under_way = due(&mut book, Duration::ZERO);
            assert!(under_way.len() <= AT_ONCE);
            if under_way.is_empty() {
                break;
            }
            assert_eq!(book.next_due(), None, "no more at once");
            for id in under_way {
                let Ended::Dead(_, oldest) = fail(&mut book, &id.to_string(), id, SECOND) else {
                    panic!("dead")
                };
                forgotten += usize::from(oldest.is_some());
            }
        }
        assert_eq!((book.counts.dead, forgotten), (MOST_DEAD as u64, MOST_WAITING - MOST_DEAD));
        assert!(book.lanes.is_empty() && book.ready.is_empty());
    }

    #[test]
    fn neither_a_machine_nor_a_kind_of_event_takes_all_places() {
        let mut book = Book::new("chat", String::new(), 1);
        let of_kind =
            |id: u64, lane: &str, kind: &str| Delivery { kind: kind.to_owned(), ..delivery(id, lane) };
        let most = MOST_OF_MACHINE as u64;
        for id in 0..most + 5 {
            assert_eq!(book.add(of_kind(id, "a", "phone-home"), Duration::ZERO), id < most, "{id}");
        }
        // A stranger phones home in the names of many.
        for id in 2 * most..=MOST_WAITING as u64 {
            book.add(of_kind(id, &id.to_string(), "phone-home"), Duration::ZERO);
        }
        assert_eq!(book.counts.waiting, MOST_OF_KIND as u64);
        assert_eq!(book.counts.lost, 5 + (MOST_WAITING - MOST_OF_MACHINE + 1 - MOST_OF_KIND) as u64);
        assert!(book.add(of_kind(20_000, "b", "state"), Duration::ZERO), "there is room for other kinds");
        let refused = of_kind(20_001, "b", "phone-home");
        assert!(!book.has_room(&refused));
        // What is over makes room.
        assert_eq!(book.take_due(Duration::ZERO).map(|first| first.id), Some(0));
        assert_eq!(book.ended(("a", 0), Ok(()), SECOND, (7, 0.0)), Ended::Delivered);
        assert!(book.add(refused, SECOND));
        assert!(!book.has_room(&of_kind(20_002, "c", "phone-home")));
    }

    #[test]
    fn strangers_leave_room_for_machines_that_somebody_has_accepted() {
        let mut book = Book::new("chat", String::new(), 1);
        let of_stranger = |id: u64| {
            let kind = "phone-home".to_owned();
            Delivery { is_of_stranger: true, kind, ..delivery(id, &(id % 10).to_string()) }
        };
        let own = |id: u64, lane: &str| Delivery { kind: "phone-home".to_owned(), ..delivery(id, lane) };
        let most = MOST_OF_STRANGERS as u64;
        for id in 0..most + 7 {
            assert_eq!(book.add(of_stranger(id), Duration::ZERO), id < most, "{id}");
        }
        assert_eq!(book.counts.lost, 7);
        for id in 0..(MOST_OF_KIND - MOST_OF_STRANGERS) as u64 {
            assert!(book.add(own(10_000 + id, &format!("own{}", id % 10)), Duration::ZERO), "{id}");
        }
        assert!(!book.has_room(&of_stranger(20_000)));
        // What is over makes room.
        assert_eq!(book.take_due(Duration::ZERO).map(|first| first.id), Some(0));
        assert_eq!(book.ended(("0", 0), Ok(()), SECOND, (7, 0.0)), Ended::Delivered);
        assert!(book.add(of_stranger(20_000), SECOND));
        assert!(!book.has_room(&of_stranger(20_001)));
        // Nor do their dead letters drive out others.
        assert_eq!(book.bury(own(30_000, "own")), None);
        for id in 0..most - 1 {
            assert_eq!(book.bury(of_stranger(id)), None);
        }
        assert_eq!((book.bury(own(30_001, "own")), book.bury(of_stranger(most))), (Some(0), Some(1)));
        assert_eq!(book.dead().filter(|dead| !dead.is_of_stranger).count(), 2);
    }

    #[test]
    fn pauses_double_up_to_five_minutes_and_are_not_the_same_for_all() {
        assert_eq!((pause(1, 1.0), pause(1, 0.0)), (SECOND, SECOND / 2));
        assert_eq!((pause(5, 1.0), pause(9, 1.0), pause(20, 1.0)), (16 * SECOND, 256 * SECOND, 300 * SECOND));
        let all: Duration = (1..12).map(|failures| pause(failures, 0.5)).sum();
        assert!((600..1200).contains(&all.as_secs()), "a quarter of an hour: {all:?}");
    }
}
