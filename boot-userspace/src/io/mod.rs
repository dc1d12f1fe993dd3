//! Sockets, clocks and the event loop: everything that touches the outside on the engine's behalf.

pub mod clock;
pub mod daemon;
pub mod library;
pub mod link;
pub mod packet;
pub mod probe;
pub mod ra;
pub mod tftp;
pub mod udp;
