//! At which switch ports cards are, as relays say.

use std::collections::{HashMap, VecDeque};

use boot_common::Mac;

use super::addresses::MOST_UNKNOWN;
use super::recognition::SECOND_RELAY;
use crate::config::{PortSeen, RelayPort};

/// Nobody moves a machine to and fro within so many seconds.
const TO_AND_FRO: u64 = 600;

/// The ports of the cards that were seen last: the oldest ones leave.
#[derive(Debug, Default)]
pub(super) struct SeenPorts {
    by_mac: HashMap<Mac, Seen>,
    /// In the order in which they were seen first.
    order: VecDeque<Mac>,
}

/// Where a card is. Times are Unix seconds.
#[derive(Debug)]
struct Seen {
    port: RelayPort,
    /// When it was last seen there.
    at: u64,
    /// Where it was before, until when, and whether it was quiet for a while then. A second relay that hears the same message is
    /// never late.
    before: Option<(RelayPort, u64, bool)>,
}

impl SeenPorts {
    pub(super) fn get(&self, mac: Mac) -> Option<&RelayPort> {
        self.by_mac.get(&mac).map(|seen| &seen.port)
    }

    /// Whether a card was seen at a port in this second.
    pub(super) fn is_old(&self, mac: Mac, port: PortSeen<'_>, now: u64) -> bool {
        self.by_mac.get(&mac).is_some_and(|seen| seen.port.seen() == port && seen.at == now)
    }

    /// Takes down where a card is. Gives the port where it was until now, if it is back where it was before that: it cannot be
    /// at both.
    pub(super) fn put(&mut self, mac: Mac, (circuit, remote): PortSeen<'_>, now: u64) -> Option<RelayPort> {
        let port = RelayPort { circuit_id: circuit.to_vec(), remote_id: remote.map(<[u8]>::to_vec) };
        let Some(seen) = self.by_mac.get_mut(&mac) else {
            self.by_mac.insert(mac, Seen { port, at: now, before: None });
            self.order.push_back(mac);
            if self.order.len() > MOST_UNKNOWN
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_mac.remove(&oldest);
            }
            return None;
        };
        if seen.port == port {
            seen.at = now;
            return None;
        }
        let is_late = now >= seen.at + SECOND_RELAY;
        let is_back = seen.before.as_ref().is_some_and(|(before, left, was_late)| {
            *before == port && *was_late && is_late && now < left + TO_AND_FRO
        });
        let left = std::mem::replace(&mut seen.port, port);
        seen.before = Some((left.clone(), seen.at, is_late));
        seen.at = now;
        is_back.then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2; 6]);

    fn told(steps: &[(&[u8], u64)]) -> Vec<bool> {
        let mut seen = SeenPorts::default();
        steps.iter().map(|(port, at)| seen.put(MAC, (port, None), *at).is_some()).collect()
    }

    #[test]
    fn a_card_that_is_at_two_ports_in_turn_is_two_machines() {
        assert_eq!(told(&[(b"a", 0), (b"b", 10), (b"a", 20), (b"b", 30)]), [false, false, true, true]);
        assert_eq!(told(&[(b"a", 0), (b"b", 10), (b"b", 20), (b"c", 30)]), [false; 4], "it was moved twice");
        assert_eq!(told(&[(b"a", 0), (b"b", 10), (b"a", 2000)]), [false; 3], "it was moved back");
    }

    #[test]
    fn a_second_relay_that_hears_the_same_messages_is_none() {
        let both: Vec<(&[u8], u64)> =
            [0, 4, 12, 28].into_iter().flat_map(|at| [(&b"a"[..], at), (&b"b"[..], at)]).collect();
        assert_eq!(told(&both), [false; 8]);
    }
}
