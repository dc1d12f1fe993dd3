//! The tables that both halves share: keys, values, names, and their version.
//!
//! The structs have no padding and no pointers (`IntoBytes` proves the former), numbers are in the host's
//! byte order, addresses are bytes in network order.

use core::hash::{Hash, Hasher};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::tftp::tables::Transfers;
use crate::wire::SNAME_AND_FILE;
use crate::{Mac, Reason};

/// Changes with every change to a struct in this file, to [`Reason`] or to [`Class`](crate::class::Class)'s
/// numbers. A daemon does not adopt tables pinned by another version.
pub const ABI_VERSION: u32 = 10;

/// The tables' names in the kernel and in the pin directory.
pub mod name {
    /// ifindex → [`LinkEntry`](super::LinkEntry)
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

/// The most machines in the kernel's table.
pub const MAX_HOSTS: u32 = 1 << 20;
/// The most prepared answers.
pub const MAX_ANSWERS: u32 = 1 << 16;
/// The most interfaces.
pub const MAX_LINKS: u32 = 64;
/// Bytes of the event ring: room for some 100,000 records, the first boots of 50,000 machines while no daemon reads them.
pub const EVENT_RING: u32 = 1 << 22;

/// xpxe's role on an interface.
pub mod role {
    /// Off: no DHCP.
    pub const OFF: u8 = 0;
    /// Server: gives addresses and boot files.
    pub const SERVER: u8 = 1;
    /// Proxy: gives boot files beside another DHCP server.
    pub const PROXY: u8 = 2;
}

/// An interface that xpxe serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LinkEntry {
    /// Its own Ethernet address.
    pub mac: Mac,
    /// One of [`role`].
    pub role: u8,
    /// 1 when the daemon answers machines without an entry, although the interface has a set for them: because they are
    /// to be ignored, for example.
    pub unknown_ask: u8,
    /// The server's address there: source of answers and server identifier.
    pub address: [u8; 4],
    /// The answer set of machines without an entry, for proxy answers and on port 4011.
    pub proxy_set: u32,
}

/// A machine's key.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HostKey {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Always 0.
    pub reserved: [u8; 2],
}

/// As one number, which hashers take at once.
impl Hash for HostKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.mac.hash(state);
    }
}

impl From<Mac> for HostKey {
    #[inline(always)]
    fn from(mac: Mac) -> Self {
        Self { mac, reserved: [0; 2] }
    }
}

/// The answer set of machines that get no answer: their requests end here.
pub const IGNORED_SET: u32 = u32::MAX;

/// The address is reserved for this MAC.
pub const ALWAYS: u64 = u64::MAX;
/// The address is reserved for a machine that was recognised by something else than this MAC: another card of it may come for
/// the address.
pub const SHARED: u64 = u64::MAX - 1;

/// Room for a machine's own options, such as its host name.
pub const HOST_OPTIONS: usize = 80;

/// A known machine: its address, and its differences from other machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Host {
    /// Boot-clock nanoseconds up to which the lease is stored.
    pub durable_until: u64,
    /// Boot-clock nanoseconds up to which no other machine gets the address; the kernel does not offer it if the REQUEST
    /// might come later. [`ALWAYS`] or [`SHARED`] for a reserved address.
    pub bound_until: u64,
    /// The machine's answer set, or [`IGNORED_SET`].
    pub answer_set: u32,
    /// The machine's address; 0.0.0.0 for a machine that gets boot files from a proxy.
    pub address: [u8; 4],
    /// The mask of that address's subnet: the daemon answers the machine in other subnets. All ones for a proxy's machine.
    pub mask: [u8; 4],
    /// Bytes of `options` in use, an even number.
    pub options_length: u8,
    /// 1 when the switch port in a request (option 82) identifies the machine, whatever machine the MAC was before: the
    /// daemon answers such a request.
    pub port_decides: u8,
    /// Folded sum over `options`.
    pub options_sum: u16,
    /// Whole options, padded with PAD to an even length, for clients that
    /// [get the name](crate::facts::Facts::gets_name).
    pub options: [u8; HOST_OPTIONS],
}

impl Host {
    /// Boot-clock nanoseconds up to which an ACK may promise the address: as long as the lease is stored, and what is reserved
    /// for this MAC without end, since the configuration promises it over every restart.
    #[inline(always)]
    #[must_use]
    pub fn promised_until(&self) -> u64 {
        if self.bound_until == ALWAYS { u64::MAX } else { self.durable_until }
    }
}

/// The key of a prepared answer.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AnswerKey {
    /// The answer set: the answers of one subnet (or one proxy interface) for machines without differences.
    pub set: u32,
    /// [`Facts::wanted`](crate::facts::Facts::wanted) of an operating system; 0 for firmware, which gets all options.
    pub wanted: u32,
    /// [`Class::key`](crate::class::Class::key) of [`Class::answered_as`](crate::class::Class::answered_as).
    pub class: u8,
    /// DHCP message type of the answer (option 53), or [`INFORM`](crate::decide::message::INFORM) and
    /// [`BOOT_ACK`](crate::decide::message::BOOT_ACK) for the ACKs without a lease.
    pub message: u8,
    /// Always 0.
    pub reserved: [u8; 2],
}

/// As two numbers, which hashers take at once.
impl Hash for AnswerKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.set) << 32 | u64::from(self.wanted));
        state.write_u16(u16::from_be_bytes([self.class, self.message]));
    }
}

/// Room for an answer's prepared options. With the per-client parts the frame stays within 1514 bytes.
pub const ANSWER_OPTIONS: usize = 768;

/// Offset of the server identifier's address in a body: the message type (53) and the identifier (54) come first.
pub const SERVER_ID_AT: usize = SNAME_AND_FILE + 4 + 3 + 2;

/// Bytes of an answer's body: `sname`, `file`, magic cookie, options.
pub const ANSWER_BODY: usize = SNAME_AND_FILE + 4 + ANSWER_OPTIONS;

/// A prepared answer: every part that does not depend on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Answer {
    /// Boot server (`siaddr`).
    pub siaddr: [u8; 4],
    /// The server identifier in `body`, and the source address of answers.
    pub server_id: [u8; 4],
    /// Seconds of the lease in `body`.
    pub lease: u32,
    /// Bytes of `body` in use: an even number, at least 196.
    pub body_length: u16,
    /// Folded sum over `body`.
    pub body_sum: u16,
    /// `sname`, `file`, magic cookie, options without END.
    pub body: [u8; ANSWER_BODY],
}

/// Settings and the daemon's heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Settings {
    /// [`ABI_VERSION`] of the daemon that wrote the tables.
    pub abi_version: u32,
    /// Process id of the daemon that wrote last.
    pub daemon_pid: u32,
    /// Boot-clock nanoseconds when the daemon last wrote here (every second).
    pub heartbeat: u64,
}

/// The hook of a packet.
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
    /// The hooks in the kernel.
    pub const KERNEL: [Self; 2] = [Self::Xdp, Self::Tc];

    /// Its name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tc => "tc",
            Self::Daemon => "daemon",
        }
    }

    /// The hook with an event's number.
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

/// The record of a packet that the kernel half answered, for the daemon.
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

/// The look-ups that an answer depends on: in the kernel's maps, the daemon's tables, or a test's.
pub trait Tables: Transfers {
    /// The interface on which a frame arrived.
    fn link(&self, ifindex: u32) -> Option<&LinkEntry>;
    /// A known machine.
    fn host(&self, key: &HostKey) -> Option<&Host>;
    /// A prepared answer.
    fn answer(&self, key: &AnswerKey) -> Option<&Answer>;
}
