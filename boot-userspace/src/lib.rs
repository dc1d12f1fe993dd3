//! xpxe's daemon: see ARCHITECTURE.md for the way of a packet through it.

pub mod cli;
pub mod daemon;
pub mod fastpath;
pub mod files;
pub mod host;
pub mod http;
pub mod images;
pub mod io;
pub mod power;
pub mod store;
