//! What comes into the engine, and what it wants done.

use std::net::{Ipv4Addr, SocketAddrV4};

use boot_common::Mac;
use boot_common::respond::Answered;
use boot_common::tables::{Answer, AnswerKey, Host, HostKey};

use crate::events::{Refusal, Said};
use crate::leases::record::Change;
pub use crate::now::Now;

/// A UDP payload that reached the daemon.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'p> {
    /// The interface it came in on.
    pub ifindex: u32,
    /// Our port, 67 or 4011.
    pub port: u16,
    /// Who sent it.
    pub from: SocketAddrV4,
    /// The IP header's destination.
    pub to: Ipv4Addr,
    /// The DHCP message.
    pub payload: &'p [u8],
}

/// How an answer leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// As the Ethernet frame it is: the client has no address yet and cannot answer ARP.
    Frame,
    /// Through the socket of that port, with routing and ARP.
    Socket {
        /// The receiver.
        to: SocketAddrV4,
        /// Our address, as the client was told.
        source: Ipv4Addr,
        /// Our port, 67 or 4011.
        port: u16,
    },
}

/// What an answer tells which machine.
#[derive(Clone, Debug)]
pub struct Told {
    /// The machine.
    pub mac: Mac,
    /// The answer.
    pub answered: Answered,
    /// What its request said.
    pub said: Said,
    /// Why its request is refused, in a NAK.
    pub refused: Option<Refusal>,
}

/// What the daemon is to do, in this order.
#[derive(Clone, Debug)]
pub enum Command {
    /// Store it. Unless this succeeded, the engine hears of it by [`take_back`](crate::Engine::take_back), nothing
    /// is sent to the machine, and the kernel is told what the engine has then.
    Persist(Change),
    /// Tell the kernel of a machine.
    PutHost(HostKey, Host),
    /// Take a machine from the kernel.
    DeleteHost(HostKey),
    /// Tell the kernel of a prepared answer.
    PutAnswer(AnswerKey, Box<Answer>),
    /// Take a prepared answer from the kernel.
    DeleteAnswer(AnswerKey),
    /// Ask the network whether somebody has this address, and tell the engine by
    /// [`probed`](crate::Engine::probed).
    Probe {
        /// The interface the machine was heard on.
        ifindex: u32,
        /// The address that it is to be offered.
        address: Ipv4Addr,
        /// The machine.
        mac: Mac,
        /// Directly on the interface (ARP), or behind a relay (ICMP).
        on_link: bool,
        /// Whether it matters that the machine itself has the address: it has said that it does not use it.
        own_answer_counts: bool,
    },
    /// Send an answer: a whole Ethernet frame. Then tell the engine, by [`sent`](crate::Engine::sent) or
    /// [`not_sent`](crate::Engine::not_sent): only then it is logged and counted.
    Send {
        /// Out of this interface.
        ifindex: u32,
        /// Headers and all.
        frame: Vec<u8>,
        /// How.
        via: Via,
        /// What it says.
        told: Told,
    },
}
