//! TFTP without sockets, files or a clock: packets and times go in, [`Action`]s come out.
//!
//! Implements RFC 1350 (octet, read only), 2347, 2348 (`blksize`), 2349 (`tsize`, `timeout`) and 7440
//! (`windowsize`), with every packet on the server's one port. A transfer is known by the client's address and
//! port and the server's address, so a packet from a port without a transfer is a stray and gets no answer:
//! there is no second port that ERROR 5 could speak of.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

mod action;
mod netascii;
mod outcome;
mod pace;
mod packet;
mod request;
mod slots;
mod stats;
mod transfer;

#[cfg(test)]
mod adopted_tests;
#[cfg(test)]
mod lossy_tests;
#[cfg(test)]
mod pace_tests;
#[cfg(test)]
mod tests;

pub use action::{Action, Image, OpenError, Place, Token};
pub use netascii::netascii;
pub use outcome::{Outcome, Told};
pub use packet::{DATA_HEADER, Limits, data_header};
pub use request::Mode;
pub use slots::{Flights, Slots};
pub use stats::TftpStats;

use boot_common::tftp::{Flight, TransferKey};

use request::{Packet, Request, code};
use transfer::{Phase, Step, Transfer};

/// More transfers than machines in any rack row, at about 300 bytes each.
const MOST_TRANSFERS: usize = 4096;
/// A transfer that stood still for so long makes room for a new one when there are too many.
const IDLE: Duration = Duration::from_secs(2);
/// A repeated request this soon after headway is a late duplicate; later it is a client that started over
/// (legacy ROMs ask from the same port after every reset).
const DUPLICATE: Duration = Duration::from_secs(1);

/// Both ends of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    /// The client's address and port.
    pub client: SocketAddrV4,
    /// The server's address that the client talks to.
    pub local: Ipv4Addr,
}

impl Peer {
    /// As the kernel half knows it.
    fn key(&self, ifindex: u32) -> TransferKey {
        let (client, local) = (self.client.ip().octets(), self.local.octets());
        TransferKey { client, local, ifindex, port: self.client.port(), reserved: 0 }
    }

    fn of(key: &TransferKey) -> Self {
        Self { client: SocketAddrV4::new(key.client.into(), key.port), local: key.local.into() }
    }

    /// RFC 1123 section 4.2.3.5: nothing that came to or would go to more than one station, or to ourselves.
    fn is_answerable(&self) -> bool {
        let station = |ip: Ipv4Addr| {
            !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.octets()[0] >= 240)
        };
        self.client.port() != 0
            && station(*self.client.ip())
            && station(self.local)
            && *self.client.ip() != self.local
    }
}

/// All transfers of one interface.
pub struct Transfers {
    limits: Limits,
    ifindex: u32,
    slots: Slots,
    most: usize,
    transfers: HashMap<Peer, Transfer>,
    opening: HashMap<Token, Peer>,
    /// When each transfer's timer is due.
    due: BTreeSet<(Duration, Peer)>,
    actions: VecDeque<Action>,
    tokens: u64,
    crowded_out: u64,
}

impl Transfers {
    /// Transfers over an interface.
    #[must_use]
    pub fn new(limits: Limits, ifindex: u32, slots: Slots) -> Self {
        Self {
            limits,
            ifindex,
            slots,
            most: MOST_TRANSFERS,
            transfers: HashMap::new(),
            opening: HashMap::new(),
            due: BTreeSet::new(),
            actions: VecDeque::new(),
            tokens: 0,
            crowded_out: 0,
        }
    }

    /// The interface was made again with this number. What is under way goes on; the kernel half, which knows transfers
    /// by the number, has no more part in it.
    pub fn rebind(&mut self, limits: Limits, ifindex: u32) {
        self.limits = limits;
        if ifindex == self.ifindex {
            return;
        }
        let in_kernel =
            |transfer: &Transfer| transfer.course().is_some_and(|course| course.image.place.is_some());
        let published = self.transfers.iter().filter(|(_, transfer)| in_kernel(transfer));
        let keys: Vec<TransferKey> = published.map(|(peer, _)| peer.key(self.ifindex)).collect();
        self.actions.extend(keys.into_iter().map(|key| Action::Withdraw { key }));
        self.ifindex = ifindex;
    }

    /// A packet came from `client` to our address `local`. `now` is the time since boot.
    pub fn handle(&mut self, packet: &[u8], client: SocketAddrV4, local: Ipv4Addr, now: Duration) {
        let peer = Peer { client, local };
        if !peer.is_answerable() {
            return;
        }
        match request::parse(packet) {
            Packet::Read(request) => self.read_request(peer, request, now),
            // Whoever sent it, the client waits for the next block: an ERROR would end that.
            Packet::Refused { .. } if self.is_under_way(peer) => {}
            Packet::Refused { name, code, why } => {
                self.end(peer, now, Outcome::given_up);
                self.refuse(peer, name, code, why);
            }
            Packet::Ack(block) => {
                let Some(transfer) = self.transfers.get_mut(&peer) else { return };
                let Some(flight) = transfer.course().and_then(|course| self.slots.flight(course.slot)) else {
                    return;
                };
                let before = transfer.due;
                let step = transfer.acknowledge(block, flight, now);
                self.carry_out(peer, before, step, now);
            }
            Packet::Error { code, message } => self.client_error(peer, code, message, now),
            Packet::NotAsked(_) if self.transfers.contains_key(&peer) => {}
            Packet::NotAsked(what) => self.refuse(peer, String::new(), code::ILLEGAL, what),
            Packet::Cut => {}
        }
    }

    /// The answer to [`Action::Open`].
    pub fn opened(&mut self, token: Token, result: Result<Image, OpenError>, now: Duration) {
        let peer = self.opening.remove(&token);
        let transfer = peer.and_then(|peer| Some((peer, self.transfers.get_mut(&peer)?)));
        let Some((peer, transfer)) = transfer else {
            if let Ok(image) = result {
                self.actions.push_back(Action::Close { image: image.id });
            }
            return;
        };
        match result {
            Ok(image) => {
                let agreed = packet::agree(&transfer.request, image.size, &self.limits);
                let free = self.slots.take(now).and_then(|slot| Some((slot, self.slots.flight(slot)?)));
                let Some((slot, flight)) = free else {
                    self.actions.push_back(Action::Close { image: image.id });
                    self.crowded_out += 1;
                    return self.end(peer, now, |_, _| Outcome::Missing(OpenError::Busy));
                };
                let (before, key) = (transfer.due, peer.key(self.ifindex));
                let step = transfer.open(image, agreed, &key, slot, flight, now);
                if image.place.is_some() {
                    self.actions.push_back(Action::Publish { key, slot });
                }
                self.carry_out(peer, before, step, now);
            }
            Err(error) => {
                if let Some((code, message)) = error.answer() {
                    self.actions.push_back(Action::Send { peer, bytes: packet::error(code, message) });
                }
                self.end(peer, now, |_, _| Outcome::Missing(error));
            }
        }
    }

    /// Goes on with a transfer that an earlier daemon began, where it stands.
    pub fn adopt(&mut self, key: &TransferKey, slot: u32, image: Image, now: Duration) {
        let Some(flight) = self.slots.flight(slot) else { return };
        let name = flight.name();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        let request = Request { name, mode: Mode::Octet, options: Vec::new() };
        let transfer = Transfer::adopted(request, image, slot, flight, now);
        let peer = Peer::of(key);
        self.due.insert((transfer.due, peer));
        self.transfers.insert(peer, transfer);
        if image.place.is_some() {
            self.actions.push_back(Action::Publish { key: *key, slot });
        }
    }

    /// A transfer that an earlier daemon began cannot go on: `why` is for the log, and for the client if `hears`, which
    /// somebody who has acknowledged nothing may not.
    pub fn lost(&mut self, key: &TransferKey, name: String, why: &str, hears: bool) {
        let peer = Peer::of(key);
        if hears {
            self.actions.push_back(Action::Send { peer, bytes: packet::error(code::UNDEFINED, why) });
        }
        let outcome = Outcome::Unreadable(why.to_owned());
        self.actions.push_back(Action::Tell(Told { peer, name, outcome }));
    }

    /// The transfer that waits for this answer has a port of its own, where a later daemon cannot go on.
    pub fn use_own_port(&mut self, token: Token) {
        if let Some(transfer) = self.opening.get(&token).and_then(|peer| self.transfers.get_mut(peer)) {
            transfer.has_own_port = true;
        }
    }

    /// A block of this client's file could not be read, or the file has become another: `why` is for the client and
    /// for the log.
    pub fn unreadable(&mut self, peer: Peer, why: &str, now: Duration) {
        if self.transfers.contains_key(&peer) {
            self.actions.push_back(Action::Send { peer, bytes: packet::error(code::UNDEFINED, why) });
            self.end(peer, now, |_, _| Outcome::Unreadable(why.to_owned()));
        }
    }

    /// Whether this client is sent this image.
    #[must_use]
    pub fn is_sent(&self, peer: Peer, image: u64) -> bool {
        let transfer = self.transfers.get(&peer);
        transfer.and_then(Transfer::course).is_some_and(|course| course.image.id == image)
    }

    /// Runs the timers that are due.
    pub fn tick(&mut self, now: Duration) {
        while let Some((due, peer)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            let Some(transfer) = self.transfers.get_mut(&peer) else {
                self.due.remove(&(due, peer));
                continue;
            };
            let flight = transfer.course().and_then(|course| self.slots.flight(course.slot));
            let step = transfer.expire(flight, now);
            self.carry_out(peer, due, step, now);
        }
    }

    /// When [`Transfers::tick`] has something to do.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Transfers under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.transfers.len()
    }

    /// True if nothing is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.transfers.is_empty()
    }

    /// Requests that were dropped, and idle transfers that were ended, because there were too many.
    #[must_use]
    pub fn crowded_out(&self) -> u64 {
        self.crowded_out
    }

    fn read_request(&mut self, peer: Peer, request: Request, now: Duration) {
        if let Some(transfer) = self.transfers.get_mut(&peer) {
            let same_name = transfer.request.name == request.name;
            let flight = transfer.course().and_then(|course| self.slots.flight(course.slot));
            let state = flight.map(Flight::state);
            let unproven =
                transfer.course().zip(state).is_none_or(|(course, state)| course.is_unproven(state));
            let is_over = transfer.course().zip(state).is_some_and(|(course, state)| course.is_over(state));
            let recent = now.saturating_sub(transfer.headway(flight)) < DUPLICATE;
            if transfer.request == request && unproven {
                let before = transfer.due;
                let step = transfer.ask_again(flight, now);
                return self.carry_out(peer, before, step, now);
            }
            if same_name && !unproven && recent {
                return;
            }
            // The kernel half may have taken its last acknowledgement when the timer has not seen that yet.
            self.end(peer, now, |transfer, flight| match is_over {
                true => Outcome::finished(transfer, flight, true),
                false => Outcome::StartedOver,
            });
        }
        if !self.has_room(now) {
            // No ERROR: "busy" ends a boot for good, silence makes the client ask again.
            self.crowded_out += 1;
            return;
        }
        self.tokens += 1;
        let token = Token(self.tokens);
        self.actions.push_back(Action::Open {
            token,
            peer,
            name: request.name.clone(),
            mode: request.mode,
            block_size: packet::block_size(&request, self.limits.mtu),
        });
        let transfer = Transfer::opening(request, token, now);
        self.due.insert((transfer.due, peer));
        self.opening.insert(token, peer);
        self.transfers.insert(peer, transfer);
    }

    /// A client waits for the rest of a file.
    fn is_under_way(&self, peer: Peer) -> bool {
        self.transfers.get(&peer).is_some_and(|transfer| {
            let course = transfer.course();
            let state = course.and_then(|course| self.slots.flight(course.slot)).map(Flight::state);
            course.zip(state).is_none_or(|(course, state)| !course.is_all_sent(state))
        })
    }

    /// Makes room by ending the transfer that stood still longest, if there are too many.
    fn has_room(&mut self, now: Duration) -> bool {
        if self.transfers.len() < self.most {
            return true;
        }
        let headway = |transfer: &Transfer| {
            transfer.headway(transfer.course().and_then(|course| self.slots.flight(course.slot)))
        };
        let transfers = self.transfers.iter().map(|(peer, transfer)| (*peer, headway(transfer)));
        match transfers.min_by_key(|(_, progressed)| *progressed) {
            Some((peer, progressed)) if now.saturating_sub(progressed) >= IDLE => {
                self.crowded_out += 1;
                self.end(peer, now, |_, _| Outcome::CrowdedOut);
                true
            }
            _ => false,
        }
    }

    /// RFC 1350 section 4: an ERROR ends the transfer and is never answered.
    fn client_error(&mut self, peer: Peer, code: u16, message: String, now: Duration) {
        self.end(peer, now, |transfer, flight| {
            let (Some(course), Some(flight)) = (transfer.course(), flight) else {
                return Outcome::Aborted { code, message, bytes: 0 };
            };
            let state = flight.state();
            if state.acked == 0 && matches!(code, code::UNDEFINED | code::OPTIONS) {
                Outcome::Probed
            } else {
                Outcome::Aborted { code, message, bytes: course.acked_bytes(state) }
            }
        });
    }

    fn refuse(&mut self, peer: Peer, name: String, code: u16, why: &'static str) {
        self.actions.push_back(Action::Send { peer, bytes: packet::error(code, why) });
        self.actions.push_back(Action::Tell(Told { peer, name, outcome: Outcome::Refused(why) }));
    }

    /// Queues what a step asks for and moves the transfer's timer from `before` to where it is now.
    fn carry_out(&mut self, peer: Peer, before: Duration, step: Step, now: Duration) {
        let Some(transfer) = self.transfers.get(&peer) else { return };
        if transfer.due != before {
            self.due.remove(&(before, peer));
            self.due.insert((transfer.due, peer));
        }
        match (step, &transfer.phase) {
            (Step::Oack, Phase::Open(course)) => {
                let bytes = course.oack.clone().unwrap_or_default();
                self.actions.push_back(Action::Send { peer, bytes });
            }
            (Step::Blocks(positions), Phase::Open(course)) => {
                for position in positions {
                    let (offset, len) = course.shape.extent(position);
                    let (image, block) = (course.image.id, (position - 1) as u16);
                    self.actions.push_back(Action::Block { peer, image, offset, len: len as usize, block });
                }
            }
            (Step::Finished, _) => {
                self.end(peer, now, |transfer, flight| Outcome::finished(transfer, flight, true));
            }
            (Step::GiveUp, _) => self.end(peer, now, Outcome::given_up),
            _ => {}
        }
    }

    /// Forgets a transfer and says how it ended.
    fn end(
        &mut self,
        peer: Peer,
        now: Duration,
        outcome: impl FnOnce(&Transfer, Option<&Flight>) -> Outcome,
    ) {
        let Some(transfer) = self.transfers.remove(&peer) else { return };
        self.due.remove(&(transfer.due, peer));
        let flight = transfer.course().and_then(|course| self.slots.flight(course.slot));
        let outcome = outcome(&transfer, flight);
        match transfer.phase {
            Phase::Opening(token) => drop(self.opening.remove(&token)),
            Phase::Open(course) => {
                if course.image.place.is_some() {
                    self.actions.push_back(Action::Withdraw { key: peer.key(self.ifindex) });
                }
                self.slots.give_back(course.slot, now);
                self.actions.push_back(Action::Close { image: course.image.id });
            }
        }
        self.actions.push_back(Action::Tell(Told { peer, name: transfer.request.name, outcome }));
    }
}
