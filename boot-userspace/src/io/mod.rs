//! Sockets, clocks and the event loop: everything that touches the outside on the engine's behalf.

pub mod clock;
pub mod daemon;
pub mod descriptors;
mod frames;
pub mod library;
pub mod link;
pub mod memory;
pub mod neighbours;
pub mod overhear;
pub mod packet;
pub mod probe;
pub mod ra;
mod socket;
pub mod sockets;
pub mod tftp;
pub mod udp;
pub mod unheard;
pub mod vlan;
