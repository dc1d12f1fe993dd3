//! Who holds a connection, and who gives one up for a new one.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// An answer of which no byte has left for so long has to make room for a new connection.
const STALLED: Duration = Duration::from_secs(10);
/// From so many connections on, memory is given back when most of them have ended.
const MANY: usize = 128;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// At once.
    pub(super) total: usize,
    /// Of one source.
    pub(super) per_source: usize,
}

/// All connections of a listener.
#[derive(Debug)]
pub(super) struct Crowd {
    limits: Limits,
    places: Vec<Option<Holder>>,
    held: usize,
    /// The most that were held since memory was given back.
    peak: usize,
    entered: u64,
}

#[derive(Debug)]
struct Holder {
    number: u64,
    source: IpAddr,
    /// Since when it waits for a request; while one is answered: when a byte left last.
    since: Instant,
    /// How many requests are being answered: the next one may be read while the last one's answer is leaving.
    answering: u32,
    leave: Arc<Notify>,
}

/// A connection's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    place: usize,
    number: u64,
}

/// What becomes of a new connection.
#[derive(Debug)]
pub(super) enum Entry {
    /// It is in.
    Entered {
        /// Its place.
        ticket: Ticket,
        /// Says when it has to make room.
        leave: Arc<Notify>,
        /// Another one has to go for it: of the same source, or of any.
        instead_of: Option<Full>,
    },
    /// There is no room, and nobody is idle.
    Refused(Full),
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Source,
    Total,
}

/// Whoever has one IPv6 address has the other 2^64 of its network, too.
pub(super) fn source(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

impl Crowd {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, places: Vec::new(), held: 0, peak: 0, entered: 0 }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// How many connections there are.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes a new connection in. Where a limit is reached, the longest idle one makes room: those that wait for a
    /// request first, then answers that nobody takes. `is_trusted`: its source stands for many, so the limit of one
    /// does not apply.
    pub(super) fn enter(&mut self, source: IpAddr, is_trusted: bool, now: Instant) -> Entry {
        let holders =
            || self.places.iter().enumerate().filter_map(|(place, held)| Some((place, held.as_ref()?)));
        let of_source = || holders().filter(|(_, holder)| holder.source == source);
        let full = if !is_trusted && of_source().count() >= self.limits.per_source {
            Some(Full::Source)
        } else {
            (self.held >= self.limits.total).then_some(Full::Total)
        };
        let idlest = match full {
            None => None,
            Some(Full::Source) => idlest(of_source(), now),
            Some(Full::Total) => idlest(holders(), now),
        };
        match (full, idlest) {
            (Some(full), None) => return Entry::Refused(full),
            (_, Some(place)) => {
                if let Some(holder) = self.places.get_mut(place).and_then(Option::take) {
                    holder.leave.notify_one();
                    self.held -= 1;
                }
            }
            (None, None) => {}
        }
        self.entered += 1;
        let leave = Arc::new(Notify::new());
        let number = self.entered;
        let holder = Holder { number, source, since: now, answering: 0, leave: Arc::clone(&leave) };
        let place = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        match self.places.get_mut(place) {
            Some(free) => *free = Some(holder),
            None => self.places.push(Some(holder)),
        }
        self.held += 1;
        self.peak = self.peak.max(self.held);
        Entry::Entered { ticket: Ticket { place, number }, leave, instead_of: full }
    }

    /// A connection has ended. True when so many have that their memory should be given back.
    pub(super) fn leave(&mut self, ticket: Ticket) -> bool {
        let place = self.places.get_mut(ticket.place);
        let Some(place) =
            place.filter(|place| place.as_ref().is_some_and(|held| held.number == ticket.number))
        else {
            return false;
        };
        *place = None;
        self.held -= 1;
        let most_have_left = self.peak >= MANY && self.held <= self.peak / 4;
        if most_have_left {
            self.peak = self.held;
        }
        most_have_left
    }

    /// A request has come, or its answer has been handed over.
    pub(super) fn set_answering(&mut self, ticket: Ticket, answering: bool, now: Instant) {
        if let Some(holder) = self.holder(ticket) {
            holder.answering =
                if answering { holder.answering + 1 } else { holder.answering.saturating_sub(1) };
            holder.since = now;
        }
    }

    /// A byte has left.
    pub(super) fn touch(&mut self, ticket: Ticket, now: Instant) {
        if let Some(holder) = self.holder(ticket) {
            holder.since = now;
        }
    }

    /// See [`Holder::since`]; none of a connection that has to leave.
    pub(super) fn since(&mut self, ticket: Ticket) -> Option<Instant> {
        Some(self.holder(ticket)?.since)
    }

    fn holder(&mut self, ticket: Ticket) -> Option<&mut Holder> {
        self.places.get_mut(ticket.place)?.as_mut().filter(|holder| holder.number == ticket.number)
    }
}

/// Where the connection is that can be spared first.
fn idlest<'a>(holders: impl Iterator<Item = (usize, &'a Holder)>, now: Instant) -> Option<usize> {
    let idle = |holder: &Holder| holder.answering == 0 || now.duration_since(holder.since) >= STALLED;
    let idle = holders.filter(|(_, holder)| idle(holder));
    idle.min_by_key(|(_, holder)| (holder.answering > 0, holder.since)).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { total: 6, per_source: 3 };
    const ATTACKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

    fn other(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 1, number])
    }

    /// A crowd whose clock moves by a second with each step.
    struct Rig {
        crowd: Crowd,
        now: Instant,
    }

    impl Rig {
        fn new() -> Self {
            Self { crowd: Crowd::new(LIMITS), now: Instant::now() }
        }

        fn enter(&mut self, source: IpAddr) -> Result<(Ticket, Option<Full>), Full> {
            self.now += Duration::from_secs(1);
            match self.crowd.enter(source, false, self.now) {
                Entry::Entered { ticket, instead_of, .. } => Ok((ticket, instead_of)),
                Entry::Refused(full) => Err(full),
            }
        }

        fn is_in(&mut self, ticket: Ticket) -> bool {
            self.crowd.since(ticket).is_some()
        }
    }

    #[test]
    fn a_source_at_its_limit_gives_up_its_own_longest_idle_connection() {
        let mut rig = Rig::new();
        let (oldest, _) = rig.enter(other(1)).unwrap();
        let [(first, _), (second, _), _] = [0; 3].map(|_| rig.enter(ATTACKER).unwrap());
        rig.crowd.set_answering(first, true, rig.now);
        let (_, instead_of) = rig.enter(ATTACKER).unwrap();
        assert_eq!(instead_of, Some(Full::Source));
        assert!(rig.is_in(first) && !rig.is_in(second) && rig.is_in(oldest));
        assert_eq!(rig.crowd.held(), 4);
        // Its end, which comes later, takes nobody else's place.
        let (next, _) = rig.enter(other(2)).unwrap();
        rig.crowd.leave(second);
        assert!(rig.is_in(next) && rig.crowd.held() == 5);
    }

    #[test]
    fn who_is_answered_keeps_his_connection_unless_he_takes_nothing() {
        let mut rig = Rig::new();
        let busy = [0; 3].map(|_| rig.enter(ATTACKER).unwrap().0);
        for ticket in busy {
            rig.crowd.set_answering(ticket, true, rig.now);
        }
        assert_eq!(rig.enter(ATTACKER).unwrap_err(), Full::Source);
        rig.now += STALLED;
        let [taken, stalled, _] = busy;
        rig.crowd.touch(taken, rig.now);
        assert_eq!(rig.enter(ATTACKER).unwrap().1, Some(Full::Source));
        assert!(rig.is_in(taken) && !rig.is_in(stalled));
    }

    #[test]
    fn when_all_are_in_use_the_longest_idle_of_all_makes_room() {
        let mut rig = Rig::new();
        let all = [1, 2, 3, 4, 5, 6].map(|number| rig.enter(other(number)).unwrap().0);
        let [busy, idle, ..] = all;
        rig.crowd.set_answering(busy, true, rig.now);
        assert_eq!(rig.enter(other(7)).unwrap().1, Some(Full::Total));
        assert!(rig.is_in(busy) && !rig.is_in(idle));
        let mut rig = Rig::new();
        for number in 1..=6 {
            let (ticket, _) = rig.enter(other(number)).unwrap();
            rig.crowd.set_answering(ticket, true, rig.now);
        }
        assert_eq!(rig.enter(other(7)).unwrap_err(), Full::Total);
    }

    #[test]
    fn the_limit_of_one_source_is_not_that_of_a_trusted_one() {
        let mut rig = Rig::new();
        for _ in 0..LIMITS.total {
            let entry = rig.crowd.enter(ATTACKER, true, rig.now);
            assert!(matches!(entry, Entry::Entered { instead_of: None, .. }));
        }
    }

    #[test]
    fn memory_is_given_back_when_most_have_left() {
        let mut crowd = Crowd::new(Limits { total: 1000, per_source: 1000 });
        let now = Instant::now();
        let tickets: Vec<Ticket> = (0..200)
            .filter_map(|_| match crowd.enter(ATTACKER, false, now) {
                Entry::Entered { ticket, .. } => Some(ticket),
                Entry::Refused(_) => None,
            })
            .collect();
        let given_back = tickets.iter().filter(|ticket| crowd.leave(**ticket)).count();
        assert_eq!((tickets.len(), given_back, crowd.held()), (200, 1, 0));
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let [one, same, mapped] = ["2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "::ffff:10.0.0.9"]
            .map(|address| source(address.parse().unwrap()));
        assert_eq!((one, mapped), (same, ATTACKER));
        assert_ne!(source("2001:db8:0:2::1".parse().unwrap()), one);
    }
}
