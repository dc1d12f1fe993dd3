//! This host: clocks, interfaces, memory, limits. The ground on which everything else stands; of ours it knows only the
//! types of the crates below.

pub mod clock;
pub mod core;
pub mod descriptors;
pub mod link;
pub mod live;
pub mod lock;
pub mod mapping;
pub mod memory;
pub mod pipe;
pub(crate) mod precedence;
pub mod regular;
pub mod replace;
pub mod reserved;
pub mod route;
pub mod secret;
pub mod size;
pub(crate) mod socket;
pub mod stderr;
pub mod vlan;
