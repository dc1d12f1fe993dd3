//! An iPXE that lacks what the scripts need, by its own list of features, gets the full one by TFTP, which then asks
//! anew and gets its script. If what it was sent lacks the same, that would never end: so it is counted.

use std::collections::HashMap;
use std::time::Duration;

use boot_common::Mac;
use boot_common::class::{Class, Stage};
use boot_common::decide::message;
use boot_common::facts::{Facts, feature};
use boot_common::wire::port;

use crate::Engine;
use crate::command::{Incoming, Now};
use crate::events::complaint::Complaint;
use crate::events::{LoaderProblem, Step};

/// So often a machine is sent the full iPXE. Twice, because somebody may have pressed its reset button.
const MOST_ROUNDS: u32 = 2;
/// Whoever comes back later has been powered on anew: a loop has a round every few seconds.
const WINDOW: Duration = Duration::from_secs(120);
/// So many machines are watched at once; others get the full iPXE as often as they ask.
const MOST_MACHINES: usize = 4096;

/// Machines that were sent the full iPXE a short time ago.
#[derive(Debug, Default)]
pub(crate) struct Reduced {
    by_mac: HashMap<Mac, Rounds>,
}

/// How often, and since when. Transaction numbers tell no rounds apart: iPXE begins each with the same random numbers where
/// the machine has no source of them.
#[derive(Clone, Copy, Debug)]
struct Rounds {
    count: u32,
    /// The machine has looked for servers since the last one.
    discovers: bool,
    /// When that was, by the boot clock.
    at: Duration,
}

impl Reduced {
    /// Whether the machine was sent the full iPXE as often as makes sense. A DISCOVER begins a round and a REQUEST ends it;
    /// other messages are part of none.
    fn loops(&mut self, mac: Mac, message: u8, now: Duration) -> bool {
        let is_over = |rounds: &Rounds| now.saturating_sub(rounds.at) > WINDOW;
        if self.by_mac.len() >= MOST_MACHINES && !self.by_mac.contains_key(&mac) {
            self.by_mac.retain(|_, rounds| !is_over(rounds));
        }
        let has_room = self.by_mac.len() < MOST_MACHINES;
        match (self.by_mac.get_mut(&mac), message) {
            (Some(rounds), _) if !is_over(rounds) => {
                if message == message::DISCOVER {
                    rounds.discovers = true;
                    if rounds.count >= MOST_ROUNDS {
                        // Given up is given up from the DISCOVER on: the answer to it must not pass for a full iPXE's.
                        *rounds = Rounds { count: MOST_ROUNDS + 1, discovers: true, at: now };
                    }
                } else if message == message::REQUEST && rounds.discovers {
                    *rounds = Rounds { count: rounds.count.saturating_add(1), discovers: false, at: now };
                }
                rounds.count > MOST_ROUNDS
            }
            (over, message::REQUEST) => {
                if over.is_some() || has_room {
                    self.by_mac.insert(mac, Rounds { count: 1, discovers: false, at: now });
                }
                false
            }
            _ => false,
        }
    }

    /// A machine has shown an iPXE that lacks nothing. One that was given up stays so: it is what we took for full.
    fn is_full(&mut self, mac: Mac) {
        if self.by_mac.get(&mac).is_some_and(|rounds| rounds.count <= MOST_ROUNDS) {
            self.by_mac.remove(&mac);
        }
    }
}

impl Engine {
    /// Whoever is answered as iPXE has one that lacks nothing.
    pub(crate) fn note_ipxe(&mut self, mac: Mac, class: Class) {
        if class.stage == Stage::Ipxe {
            self.reduced.is_full(mac);
        }
    }

    /// Takes an iPXE for a full one after all if that is the only way out.
    pub(super) fn break_loop(&mut self, mac: Mac, facts: &mut Facts, incoming: &Incoming<'_>, now: Now) {
        if facts.is_ipxe == 0 || !facts.is_reduced() {
            return;
        }
        // What is asked of the boot server is part of the round before it.
        let message = if incoming.port == port::DHCP_SERVER { facts.message } else { 0 };
        if !self.reduced.loops(mac, message, now.boot) {
            return;
        }
        let (firmware, lacks_http) = (facts.firmware(), facts.features & feature::HTTP == 0);
        facts.features = 0;
        if self.reports.is_first(Complaint::Reduced(firmware, lacks_http), now) {
            let problem = LoaderProblem::Reduced { firmware, lacks_http };
            self.happened_to(mac, incoming.ifindex, Step::Loader(problem), now);
        }
    }
}

#[cfg(test)]
mod tests;
