//! MACs that no machine is configured with, and the machines that they were recognised as by another identity.

use std::collections::BTreeSet;

use boot_common::Mac;

use super::index::{Found, MachineId};
use crate::maps::HashMap;

/// For how many seconds another switch port says nothing about a machine that was just seen at its own: a second relay may
/// have heard the same message. Nobody is moved as quickly.
pub const SECOND_RELAY: u64 = 5;

/// A MAC that was recognised.
#[derive(Clone, Copy, Debug)]
struct Recognised {
    found: Found,
    /// The Unix second in which it last showed this identity.
    seen: u64,
    /// The Unix second in which it has shown a port since that is no machine's: of its own switch, or only of a second
    /// relay.
    elsewhere: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Recognitions {
    by_mac: HashMap<Mac, Recognised>,
    /// The same by machine.
    cards: BTreeSet<(MachineId, Mac)>,
}

impl Recognitions {
    pub(super) fn get(&self, mac: Mac) -> Option<Found> {
        self.by_mac.get(&mac).map(|recognised| recognised.found)
    }

    pub(super) fn len(&self) -> usize {
        self.by_mac.len()
    }

    pub(super) fn macs(&self) -> impl Iterator<Item = Mac> {
        self.by_mac.keys().copied()
    }

    /// The MACs that were recognised as a machine.
    pub(super) fn of(&self, id: MachineId) -> impl Iterator<Item = Mac> {
        self.cards.range((id, Mac([0; 6]))..=(id, Mac([0xff; 6]))).map(|(_, mac)| *mac)
    }

    /// Whether it says nothing new that a MAC was found as this: it was never recognised, or is known by its board.
    pub(super) fn is_old(&self, mac: Mac, shown: Option<Found>) -> bool {
        match self.get(mac) {
            None => shown.is_none(),
            Some(before) => !before.by_port && shown.is_none_or(|shown| shown.by_port || shown == before),
        }
    }

    /// Takes down what a MAC was found as, which is `shown`, beside a switch port perhaps. It stays what it is until it is
    /// seen at another switch port. True when it is another machine now, or none any more. `now` is in Unix seconds.
    pub(super) fn show(&mut self, mac: Mac, shown: Option<Found>, has_port: bool, now: u64) -> bool {
        let before = self.by_mac.get(&mac).copied();
        let found = match before {
            // The board says more than the port, and operating systems do not show it.
            Some(Recognised { found, seen, elsewhere })
                if !found.by_port
                    || !has_port
                    || now < seen + SECOND_RELAY
                    // What a relay says that is not its own comes beside what its own one says.
                    || (shown.is_none() && elsewhere.is_none_or(|first| now < first + SECOND_RELAY)) =>
            {
                shown.filter(|shown| !shown.by_port).or(Some(found))
            }
            _ => shown,
        };
        match found {
            Some(found) => {
                let mut recognised = Recognised { found, seen: now, elsewhere: None };
                if let Some(kept) = before.filter(|before| before.found == found && shown != Some(found)) {
                    let is_elsewhere = shown.is_none() && has_port;
                    recognised.seen = kept.seen;
                    recognised.elsewhere = kept.elsewhere.or(is_elsewhere.then_some(now));
                }
                self.put(mac, recognised);
            }
            None => drop(self.forget(mac)),
        }
        before.map(|before| before.found.id) != found.map(|found| found.id)
    }

    /// Takes down what a MAC was found as before a restart, unless it is known better.
    pub(super) fn remember(&mut self, mac: Mac, found: Found) {
        if !self.by_mac.contains_key(&mac) {
            self.put(mac, Recognised { found, seen: 0, elsewhere: None });
        }
    }

    /// True if it was recognised.
    pub(super) fn forget(&mut self, mac: Mac) -> bool {
        let before = self.by_mac.remove(&mac);
        before.is_some_and(|before| self.cards.remove(&(before.found.id, mac)))
    }

    fn put(&mut self, mac: Mac, recognised: Recognised) {
        let id = recognised.found.id;
        match self.by_mac.insert(mac, recognised) {
            Some(before) if before.found.id == id => {}
            Some(before) => {
                self.cards.remove(&(before.found.id, mac));
                self.cards.insert((id, mac));
            }
            None => drop(self.cards.insert((id, mac))),
        }
    }
}
