//! Sockets: what touches the network on the engine's behalf.

mod frames;
pub mod image_cache;
pub mod neighbours;
pub mod packet;
pub mod probe;
pub mod ra;
pub mod record;
pub mod snoop;
pub mod sockets;
pub mod switches;
pub mod tftp;
pub mod udp;
