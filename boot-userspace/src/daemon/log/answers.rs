//! How many answers have a line in the log: as many as somebody can read.

use boot_common::Mac;
use tracing::{info, warn};

use crate::daemon::shares::Shares;
use boot_engine::events::{Answer, BootEvent, Step};

/// How many answers get a line of their own within a second: two for each of 5,000 machines that are powered on at
/// once. The kernel half gives fifty times as many, and a line costs more than its answer.
const MOST: u32 = 10_000;
/// How many get one at once over more seconds than one, and how many more in each second after that: enough for thousands
/// of machines that boot and tens of thousands that renew their leases.
const MOST_AT_ONCE: u32 = 60_000;
const MOST_GOING_ON: u32 = 100;
/// How many answers to one machine get a line within a minute: a boot has a dozen.
pub(super) const MOST_OF_ONE: u32 = 60;
const MINUTE: u32 = 60;
/// How many machines with more than that are named in each minute.
const MOST_NAMED: usize = 20;

/// A machine and the number of its interface.
type Place = (Mac, u32);

/// Counts the answers with lines of the current second and minute.
#[derive(Debug)]
pub(in crate::daemon) struct AnswerBudget {
    written: u32,
    left: u32,
    /// Answers of the second that got no line: offers, and everything else.
    offers: u64,
    others: u64,
    shares: Shares<Place>,
    seconds: u32,
}

/// A machine that had more answers than lines in a minute.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Flood {
    pub(in crate::daemon) mac: Mac,
    /// The number of its interface.
    pub(in crate::daemon) link: u32,
    /// All of its answers.
    pub(in crate::daemon) answers: u64,
}

impl Default for AnswerBudget {
    fn default() -> Self {
        let shares = Shares::new(MOST_OF_ONE);
        Self { written: 0, left: MOST_AT_ONCE, offers: 0, others: 0, shares, seconds: 0 }
    }
}

impl AnswerBudget {
    /// Whether an event gets a line; what is no answer does.
    pub(in crate::daemon) fn admit(&mut self, event: &BootEvent) -> bool {
        let (Step::Answered(answered), Some(machine)) = (&event.step, &event.machine) else { return true };
        let link = event.link.as_ref().map_or(0, |link| link.index);
        self.admit_answer(answered.answer == Answer::Offer, machine.mac, link)
    }

    fn admit_answer(&mut self, is_offer: bool, mac: Mac, link: u32) -> bool {
        // In a storm no machine is looked up for a line that is not written.
        if self.written >= MOST || self.left == 0 {
            if is_offer {
                self.offers += 1;
            } else {
                self.others += 1;
            }
            return false;
        }
        if !self.shares.admit((mac, link)) {
            return false;
        }
        self.written += 1;
        self.left -= 1;
        true
    }

    /// Begins a new second, and says how many answers the last one had beyond those with lines. Gives the machines that
    /// had more answers than lines in the minute that ends with it, the greatest first.
    pub(in crate::daemon) fn next_second(&mut self) -> Vec<Flood> {
        let [written, offers, others] = [
            u64::from(std::mem::take(&mut self.written)),
            std::mem::take(&mut self.offers),
            std::mem::take(&mut self.others),
        ];
        self.left = MOST_AT_ONCE.min(self.left + MOST_GOING_ON);
        if offers + others > 0 {
            info!(
                step = "summary",
                offers,
                acks = others,
                "{} more answers within this second than the {written} that were logged: {offers} offers, {others} acknowledgements",
                offers + others
            );
        }
        self.seconds += 1;
        if self.seconds < MINUTE {
            return Vec::new();
        }
        self.seconds = 0;
        let flood = |((mac, link), more)| Flood { mac, link, answers: more + u64::from(MOST_OF_ONE) };
        self.shares.next_minute().into_iter().map(flood).collect()
    }
}

/// The floods that are named. Those beyond are counted in the log.
pub(in crate::daemon) fn named(mut floods: Vec<Flood>, tell: impl FnMut(Flood)) {
    let unnamed = floods.len().saturating_sub(MOST_NAMED);
    floods.truncate(MOST_NAMED);
    floods.into_iter().for_each(tell);
    if unnamed > 0 {
        warn!(step = "flood", unnamed, "and {unnamed} more machines asked as often");
    }
}

#[cfg(test)]
mod tests;
