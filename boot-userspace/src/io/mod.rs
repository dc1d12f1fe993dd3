//! Sockets and the event loop: everything that touches the outside on the engine's behalf.

pub mod daemon;
mod frames;
pub mod library;
pub mod neighbours;
pub mod overhear;
pub mod packet;
pub mod probe;
pub mod ra;
pub mod sockets;
pub mod tftp;
pub mod udp;
pub mod unheard;
