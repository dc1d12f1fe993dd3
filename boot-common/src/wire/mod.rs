//! The bytes on the wire, as typed windows.
//!
//! Every header is a struct of alignment 1 whose multi-byte fields are network-endian types, so a buffer
//! can be seen as headers without copying, converting or `unsafe`. A field getter never fails and never
//! checks anything: [`classify`](crate::classify) and [`facts`](crate::facts) decide what to believe.

mod bootp;
mod checksum;
mod ip;

pub use bootp::{BOOTP_FIXED, BootpFixed, Head, MAGIC, Request, SNAME_AND_FILE, op, option, port};
pub use checksum::Sum;
pub(crate) use ip::named;
pub use ip::{ETHERTYPE_IPV4, Eth, IP_UDP, Ipv4, Udp};

/// The longest frame that the hooks read: Ethernet header and an IP packet of 1500 bytes.
pub const MAX_FRAME: usize = 1514;

/// Bytes of a request buffer. A power of two, so that any offset can be masked to it.
pub const BUFFER: usize = 2048;

/// Ethernet, IPv4 without options, UDP.
pub const HEADERS: usize = 42;
