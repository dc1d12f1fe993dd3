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
mod tests {
    use super::*;

    fn machine(number: u32) -> Mac {
        let [a, b, c, d] = number.to_be_bytes();
        Mac([2, 0, a, b, c, d])
    }

    #[test]
    fn a_second_has_so_many_lines_and_then_a_number() {
        let mut budget = AnswerBudget::default();
        assert!((0..MOST).all(|number| budget.admit_answer(true, machine(number), 7)));
        let more = [true, false, false];
        assert!(more.into_iter().all(|is_offer| !budget.admit_answer(is_offer, machine(1), 7)));
        assert_eq!((budget.offers, budget.others), (1, 2));
        budget.next_second();
        assert!(budget.admit_answer(false, machine(1), 7));
        assert_eq!((budget.written, budget.offers, budget.others), (1, 0, 0));
    }

    /// What 78,600 answers a second to one machine leave in the log, and to any number of machines.
    #[test]
    fn a_flood_of_one_machine_is_a_line_a_minute_and_pushes_nobody_out() {
        let mut budget = AnswerBudget::default();
        let mut written = 0;
        let mut named = Vec::new();
        for second in 0..2 * MINUTE {
            written += (0..78_600).filter(|_| budget.admit_answer(false, machine(1), 7)).count();
            assert!(
                budget.admit_answer(true, machine(1000 + second), 7),
                "another machine in second {second}"
            );
            named.extend(budget.next_second());
        }
        let more = 60 * 78_600 - u64::from(MOST_OF_ONE);
        let flood = Flood { mac: machine(1), link: 7, answers: more + u64::from(MOST_OF_ONE) };
        assert_eq!(named.len(), 2);
        assert!(named.iter().all(|other| *other == flood), "{named:?}");
        assert_eq!(written, 2 * MOST_OF_ONE as usize);
    }

    #[test]
    fn a_flood_in_the_name_of_many_machines_is_short_in_the_long_run() {
        let mut budget = AnswerBudget::default();
        let day = (0..3600).map(|second| {
            let written = (0..20_000)
                .filter(|number| budget.admit_answer(true, machine(second * 20_000 + number), 7))
                .count();
            budget.next_second();
            written as u64
        });
        let written: u64 = day.sum();
        assert!(written <= u64::from(MOST_AT_ONCE + 3600 * MOST_GOING_ON), "{written} lines in an hour");
    }
}
