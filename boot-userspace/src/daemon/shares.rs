//! How many log lines each machine has in a minute, so that one which goes on and on fills no disk and pushes nobody else
//! out of the log.

use std::hash::Hash;

use boot_engine::maps::HashMap;

/// How many machines of a minute are told apart; lines of more count for all together only.
const MOST_MACHINES: usize = 65_536;

/// The lines of the current minute by machine.
#[derive(Debug)]
pub(super) struct Shares<M> {
    most: u32,
    machines: HashMap<M, Share>,
}

#[derive(Debug, Default)]
struct Share {
    written: u32,
    more: u64,
}

impl<M: Hash + Eq> Shares<M> {
    /// Lets each machine have so many lines in a minute.
    pub(super) fn new(most: u32) -> Self {
        Self { most, machines: HashMap::default() }
    }

    /// Whether a line of this machine may be written.
    pub(super) fn admit(&mut self, machine: M) -> bool {
        if self.machines.len() >= MOST_MACHINES && !self.machines.contains_key(&machine) {
            return true;
        }
        let share = self.machines.entry(machine).or_default();
        if share.written < self.most {
            share.written += 1;
            return true;
        }
        share.more += 1;
        false
    }

    /// Begins a new minute. Gives the machines that had lines which were not written, with the number of those, the
    /// greatest first.
    pub(super) fn next_minute(&mut self) -> Vec<(M, u64)> {
        let machines = std::mem::take(&mut self.machines).into_iter();
        let mut over: Vec<(M, u64)> = machines
            .filter(|(_, share)| share.more > 0)
            .map(|(machine, share)| (machine, share.more))
            .collect();
        over.sort_by_key(|(_, more)| std::cmp::Reverse(*more));
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_on_has_its_share_and_a_number_and_others_have_theirs() {
        let mut shares = Shares::new(3);
        let admitted = |shares: &mut Shares<u32>, machine, times: u32| {
            (0..times).filter(|_| shares.admit(machine)).count()
        };
        assert_eq!(admitted(&mut shares, 1, 1000), 3);
        assert_eq!(admitted(&mut shares, 2, 5), 3);
        assert_eq!(admitted(&mut shares, 3, 2), 2);
        assert_eq!(shares.next_minute(), [(1, 997), (2, 2)]);
        assert_eq!(admitted(&mut shares, 1, 2), 2);
        assert_eq!(shares.next_minute(), []);
    }

    #[test]
    fn any_number_of_machines_fills_no_memory() {
        let mut shares = Shares::new(1);
        assert!((0..2 * MOST_MACHINES).all(|machine| shares.admit(machine)));
        assert_eq!(shares.machines.len(), MOST_MACHINES);
        assert!(!shares.admit(0) && shares.admit(2 * MOST_MACHINES));
    }
}
