//! The tables both halves share: keys, values, names, and the version of all that.
//!
//! The structs have no padding and no pointers (`IntoBytes` proves the former), numbers are in the host's
//! byte order, addresses are bytes in network order.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::tftp::tables::Transfers;
use crate::wire::SNAME_AND_FILE;
use crate::{Mac, Reason};

/// Changes with every change to a struct in this file, to [`Reason`] or to [`Class`](crate::class::Class)'s
/// numbers. Tables that were pinned by another version are not adopted.
pub const ABI_VERSION: u32 = 7;

/// The tables' names in the kernel and in the pin directory.
pub mod name {
    /// ifindex → [`Link`](super::Link)
    pub const LINKS: &str = "LINKS";
    /// [`HostKey`](super::HostKey) → [`Host`](super::Host)
    pub const HOSTS: &str = "HOSTS";
    /// [`AnswerKey`](super::AnswerKey) → [`Answer`](super::Answer)
    pub const ANSWERS: &str = "ANSWERS";
    /// [`counter`](super::counter) → packets, per CPU
    pub const COUNTERS: &str = "COUNTERS";
    /// Ring buffer of [`Event`](super::Event)
    pub const EVENTS: &str = "EVENTS";
    /// One [`Settings`](super::Settings)
    pub const SETTINGS: &str = "SETTINGS";
    /// [`TransferKey`](crate::tftp::TransferKey) → slot in [`FLIGHTS`]
    pub const TRANSFERS: &str = "TRANSFERS";
    /// Slots of [`Flight`](crate::tftp::Flight)
    pub const FLIGHTS: &str = "FLIGHTS";
    /// [`Chunk`](crate::tftp::Chunk)s of the files that are served
    pub const IMAGES: &str = "IMAGES";
    /// [`Sums`](crate::tftp::Sums) of their blocks
    pub const SUMS: &str = "SUMS";
    /// All of them.
    pub const ALL: [&str; 10] =
        [LINKS, HOSTS, ANSWERS, COUNTERS, EVENTS, SETTINGS, TRANSFERS, FLIGHTS, IMAGES, SUMS];
    /// The tables of TFTP, whose sizes follow the configuration.
    pub const TFTP: [&str; 4] = [TRANSFERS, FLIGHTS, IMAGES, SUMS];
}

/// How many machines the kernel can know.
pub const MAX_HOSTS: u32 = 1 << 20;
/// How many answers can be prepared.
pub const MAX_ANSWERS: u32 = 1 << 12;
/// How many interfaces can be served.
pub const MAX_LINKS: u32 = 64;
/// Bytes of the event ring.
pub const EVENT_RING: u32 = 1 << 18;

/// What role xpxe has on an interface.
pub mod role {
    /// Answers nothing.
    pub const OFF: u8 = 0;
    /// Gives addresses and boot files.
    pub const SERVER: u8 = 1;
    /// Gives boot files beside another DHCP server.
    pub const PROXY: u8 = 2;
}

/// An interface we serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Link {
    /// Its own Ethernet address.
    pub mac: Mac,
    /// One of [`role`].
    pub role: u8,
    /// 1 when a machine without an entry is the daemon's even where the interface's set would do: because it is to
    /// be ignored, for example.
    pub unknown_ask: u8,
    /// Our address there: source of answers and server identifier.
    pub address: [u8; 4],
    /// What machines without an entry get as proxy answers and on port 4011.
    pub proxy_set: u32,
}

/// A machine's key.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HostKey {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Always 0.
    pub reserved: [u8; 2],
}

impl From<Mac> for HostKey {
    #[inline(always)]
    fn from(mac: Mac) -> Self {
        Self { mac, reserved: [0; 2] }
    }
}

/// Room for options that are one machine's own, such as its host name.
pub const HOST_OPTIONS: usize = 80;

/// A known machine: the address bound to it and what else differs from its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Host {
    /// Boot-clock nanoseconds up to which the lease is stored; the kernel promises nothing beyond.
    pub durable_until: u64,
    /// Boot-clock nanoseconds up to which nobody else gets the address; the kernel does not offer it when a REQUEST
    /// might come later. The greatest number when it is reserved.
    pub bound_until: u64,
    /// Which answers it gets.
    pub answer_set: u32,
    /// The address bound to it; 0.0.0.0 for a machine that a proxy tells what to boot.
    pub address: [u8; 4],
    /// The mask of that address's subnet: a machine heard anywhere else is the daemon's. All ones for a proxy's.
    pub mask: [u8; 4],
    /// Bytes of `options` in use, an even number.
    pub options_length: u8,
    /// 1 when the switch port that a request shows (option 82) tells which machine it is, whatever the MAC was so far:
    /// such a request is the daemon's.
    pub port_decides: u8,
    /// Folded sum over them.
    pub options_sum: u16,
    /// Whole options, padded with PAD to an even length, for clients that
    /// [get the name](crate::facts::Facts::gets_name).
    pub options: [u8; HOST_OPTIONS],
}

/// Which prepared answer.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AnswerKey {
    /// A set is what one subnet (or one proxy interface) gives out to machines without differences.
    pub set: u32,
    /// [`Facts::wanted`](crate::facts::Facts::wanted) of an operating system; 0 for firmware, which gets everything.
    pub wanted: u32,
    /// [`Class::key`](crate::class::Class::key) of [`Class::answered_as`](crate::class::Class::answered_as).
    pub class: u8,
    /// DHCP message type of the answer (option 53), or [`INFORM`](crate::decide::message::INFORM) and
    /// [`BOOT_ACK`](crate::decide::message::BOOT_ACK) for the ACKs without a lease.
    pub message: u8,
    /// Always 0.
    pub reserved: [u8; 2],
}

/// Room for an answer's prepared options. With the per-client parts the frame stays within 1514 bytes.
pub const ANSWER_OPTIONS: usize = 768;

/// Where the server identifier's address stands in a body: the message type (53) and it (54) come first.
pub const SERVER_ID_AT: usize = SNAME_AND_FILE + 4 + 3 + 2;

/// Bytes of an answer's body: `sname`, `file`, magic cookie, options.
pub const ANSWER_BODY: usize = SNAME_AND_FILE + 4 + ANSWER_OPTIONS;

/// A prepared answer: everything in it that does not depend on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Answer {
    /// Boot server (`siaddr`).
    pub siaddr: [u8; 4],
    /// The server identifier in `body`, and where answers come from.
    pub server_id: [u8; 4],
    /// Seconds of the lease in `body`.
    pub lease: u32,
    /// Bytes of `body` in use: an even number, at least 196.
    pub body_length: u16,
    /// Folded sum over them.
    pub body_sum: u16,
    /// `sname`, `file`, magic cookie, options without END.
    pub body: [u8; ANSWER_BODY],
}

/// Settings and the daemon's sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Settings {
    /// [`ABI_VERSION`] of who wrote the tables.
    pub abi_version: u32,
    /// Process id of the daemon that wrote last.
    pub daemon_pid: u32,
    /// Boot-clock nanoseconds when the daemon last wrote here (every second).
    pub heartbeat: u64,
}

/// Which hook a packet met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Hook {
    /// Before the stack, on the driver's buffer.
    Xdp = 0,
    /// At the entry of the stack, on an skb.
    Tc = 1,
    /// In the daemon: not a hook, but counted the same way.
    Daemon = 2,
}

impl Hook {
    /// The hooks the kernel counts.
    pub const KERNEL: [Self; 2] = [Self::Xdp, Self::Tc];

    /// The word in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tc => "tc",
            Self::Daemon => "daemon",
        }
    }

    /// The hook an event's number stands for.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Xdp,
            1 => Self::Tc,
            _ => Self::Daemon,
        }
    }
}

/// The counters' length: every reason at every hook in the kernel.
pub const COUNTERS_LENGTH: u32 = 2 * Reason::COUNT as u32;

/// Index of a reason's counter at a hook.
#[inline(always)]
#[must_use]
pub fn counter(hook: Hook, reason: Reason) -> u32 {
    hook as u32 * Reason::COUNT as u32 + reason.index()
}

/// What the kernel half tells the daemon about a packet it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// Boot-clock nanoseconds.
    pub at: u64,
    /// Interface.
    pub ifindex: u32,
    /// Transaction.
    pub xid: u32,
    /// Address given.
    pub address: [u8; 4],
    /// [`Reason::index`].
    pub reason: u32,
    /// The machine.
    pub mac: Mac,
    /// [`Hook`]'s number.
    pub hook: u8,
    /// [`Class::key`](crate::class::Class::key).
    pub class: u8,
}

/// The look-ups an answer depends on: the kernel's maps, the daemon's, or a test's.
pub trait Tables: Transfers {
    /// The interface a frame came in on.
    fn link(&self, ifindex: u32) -> Option<&Link>;
    /// A known machine.
    fn host(&self, key: &HostKey) -> Option<&Host>;
    /// A prepared answer.
    fn answer(&self, key: &AnswerKey) -> Option<&Answer>;
}
