//! TFTP without sockets, files or a clock: packets and times go in, [`Action`]s come out.
//!
//! Implements RFC 1350 (octet, read only), 2347, 2348 (`blksize`), 2349 (`tsize`, `timeout`) and 7440
//! (`windowsize`), with every packet on the server's one port. A transfer is known by the client's address and
//! port and the server's address, so a packet from a port without a transfer is a stray and gets no answer:
//! there is no second port that ERROR 5 could speak of.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

mod outcome;
mod packet;
mod request;
mod transfer;

#[cfg(test)]
mod lossy_tests;
#[cfg(test)]
mod tests;

pub use outcome::{Outcome, Told};
pub use packet::{DATA_HEADER, data_header};

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

/// Names an [`Action::Open`] until [`Transfers::opened`] answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u64);

/// An open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// The number that whoever opened it knows it by.
    pub id: u64,
    /// Its size, which holds for the whole transfer.
    pub size: u64,
}

/// Why a file is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// There is no such file.
    NotFound,
    /// There is something, but it may not be served.
    Forbidden,
    /// It is there and could not be opened.
    Failed,
}

impl OpenError {
    fn answer(self) -> (u16, &'static str) {
        match self {
            Self::NotFound => (code::NOT_FOUND, "no such file"),
            Self::Forbidden => (code::ACCESS, "this may not be served"),
            Self::Failed => (code::UNDEFINED, "the file cannot be read"),
        }
    }
}

/// What has to be done for the transfers, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a file and call [`Transfers::opened`].
    Open {
        /// For the answer.
        token: Token,
        /// Who asks.
        peer: Peer,
        /// The name as asked, without trailing 0xFF.
        name: String,
    },
    /// Send a packet.
    Send {
        /// To and from whom.
        peer: Peer,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// Send a DATA packet with a piece of a file; if it cannot be read, call [`Transfers::unreadable`].
    Block {
        /// To and from whom.
        peer: Peer,
        /// The file.
        image: u64,
        /// Where the piece begins.
        offset: u64,
        /// Its length; 0 for the block that ends a file of full blocks.
        len: usize,
        /// The block number on the wire.
        block: u16,
    },
    /// The transfer no longer needs this file.
    Close {
        /// The file.
        image: u64,
    },
    /// How a transfer ended, for the log.
    Tell(Told),
}

/// All transfers of one interface.
pub struct Transfers {
    mtu: u32,
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
    /// Transfers over an interface with this MTU.
    #[must_use]
    pub fn new(mtu: u32) -> Self {
        Self {
            mtu,
            most: MOST_TRANSFERS,
            transfers: HashMap::new(),
            opening: HashMap::new(),
            due: BTreeSet::new(),
            actions: VecDeque::new(),
            tokens: 0,
            crowded_out: 0,
        }
    }

    /// A packet came from `client` to our address `local`. `now` is the time since boot.
    pub fn handle(&mut self, packet: &[u8], client: SocketAddrV4, local: Ipv4Addr, now: Duration) {
        let peer = Peer { client, local };
        if !peer.is_answerable() {
            return;
        }
        match request::parse(packet) {
            Packet::Read(request) => self.read_request(peer, request, now),
            Packet::Refused { name, code, why } => self.refuse(peer, name, code, why),
            Packet::Ack(block) => {
                let Some(transfer) = self.transfers.get_mut(&peer) else { return };
                let before = transfer.due;
                let step = transfer.acknowledge(block, now);
                self.carry_out(peer, before, step, now);
            }
            Packet::Error { code, message } => self.client_error(peer, code, message),
            Packet::Unknown if self.transfers.contains_key(&peer) => {}
            Packet::Unknown => self.refuse(peer, String::new(), code::ILLEGAL, "unknown opcode"),
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
                let agreed = packet::agree(&transfer.request, image.size, self.mtu);
                let before = transfer.due;
                let step = transfer.open(image, agreed, now);
                self.carry_out(peer, before, step, now);
            }
            Err(error) => {
                let (code, message) = error.answer();
                self.actions.push_back(Action::Send { peer, bytes: packet::error(code, message) });
                self.end(peer, |_| Outcome::Missing(error));
            }
        }
    }

    /// A block of this client's file could not be read, or the file has become shorter.
    pub fn unreadable(&mut self, peer: Peer) {
        if self.transfers.contains_key(&peer) {
            let bytes = packet::error(code::UNDEFINED, "the file cannot be read");
            self.actions.push_back(Action::Send { peer, bytes });
            self.end(peer, |_| Outcome::Unreadable);
        }
    }

    /// Runs the timers that are due.
    pub fn tick(&mut self, now: Duration) {
        while let Some((due, peer)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            let Some(transfer) = self.transfers.get_mut(&peer) else {
                self.due.remove(&(due, peer));
                continue;
            };
            let step = transfer.expire(now);
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
            let unproven = transfer.flight().is_none_or(transfer::Flight::is_unproven);
            let recent = now.saturating_sub(transfer.progressed) < DUPLICATE;
            if transfer.request == request && unproven {
                let before = transfer.due;
                let step = transfer.ask_again(now);
                return self.carry_out(peer, before, step, now);
            }
            if same_name && !unproven && recent {
                return;
            }
            self.end(peer, |_| Outcome::StartedOver);
        }
        if !self.has_room(now) {
            // No ERROR: "busy" ends a boot for good, silence makes the client ask again.
            self.crowded_out += 1;
            return;
        }
        self.tokens += 1;
        let token = Token(self.tokens);
        self.actions.push_back(Action::Open { token, peer, name: request.name.clone() });
        let transfer = Transfer::opening(request, token, now);
        self.due.insert((transfer.due, peer));
        self.opening.insert(token, peer);
        self.transfers.insert(peer, transfer);
    }

    /// Makes room by ending the transfer that stood still longest, if there are too many.
    fn has_room(&mut self, now: Duration) -> bool {
        if self.transfers.len() < self.most {
            return true;
        }
        let oldest = self.transfers.iter().min_by_key(|(_, transfer)| transfer.progressed);
        match oldest.map(|(peer, transfer)| (*peer, transfer.progressed)) {
            Some((peer, progressed)) if now.saturating_sub(progressed) >= IDLE => {
                self.crowded_out += 1;
                self.end(peer, |_| Outcome::CrowdedOut);
                true
            }
            _ => false,
        }
    }

    /// RFC 1350 section 4: an ERROR ends the transfer and is never answered.
    fn client_error(&mut self, peer: Peer, code: u16, message: String) {
        self.end(peer, |transfer| {
            let negotiating = transfer.flight().is_some_and(|flight| flight.negotiating);
            if negotiating && matches!(code, code::UNDEFINED | code::OPTIONS) {
                Outcome::Probed
            } else {
                let bytes = transfer.flight().map_or(0, transfer::Flight::acked_bytes);
                Outcome::Aborted { code, message, bytes }
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
            (Step::Oack, Phase::Open(flight)) => {
                let bytes = flight.oack.clone().unwrap_or_default();
                self.actions.push_back(Action::Send { peer, bytes });
            }
            (Step::Blocks(blocks), Phase::Open(flight)) => {
                for block in blocks {
                    let (offset, len) = flight.extent(block);
                    let block = block as u16;
                    self.actions.push_back(Action::Block {
                        peer,
                        image: flight.image.id,
                        offset,
                        len,
                        block,
                    });
                }
            }
            (Step::Finished, _) => self.end(peer, |transfer| Outcome::finished(transfer, now, true)),
            (Step::GiveUp, _) => self.end(peer, |transfer| Outcome::given_up(transfer, now)),
            _ => {}
        }
    }

    /// Forgets a transfer and says how it ended.
    fn end(&mut self, peer: Peer, outcome: impl FnOnce(&Transfer) -> Outcome) {
        let Some(transfer) = self.transfers.remove(&peer) else { return };
        self.due.remove(&(transfer.due, peer));
        let outcome = outcome(&transfer);
        match transfer.phase {
            Phase::Opening(token) => drop(self.opening.remove(&token)),
            Phase::Open(flight) => self.actions.push_back(Action::Close { image: flight.image.id }),
        }
        self.actions.push_back(Action::Tell(Told { peer, name: transfer.request.name, outcome }));
    }
}
