//! xpxe's agent: what runs on a machine between its firmware and its own system.
//!
//! It is the only process of an initrd that `xpxe agent build` makes. It takes an inventory, then asks the server that it was
//! booted from what to do: to wipe disks, to write an image, to wait, or to end. It can do nothing else, and talks to nobody
//! else. All of it is told on the console.

mod command_line;
mod console;
mod dhcp;
mod disk;
mod http;
pub mod image;
mod inventory;
mod ipmi;
mod life;
mod lldp;
mod modules;
mod network;
mod server;
mod smbios;
mod sys;
mod tls;
pub mod wipe;
mod zero;

pub use life::run;
pub use modules::{depends_first, matches_alias};
