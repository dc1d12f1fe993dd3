//! How full a subnet's pools are.

use ipnet::Ipv4Net;

/// How full the pools of a subnet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The subnet, which has no other name.
    pub subnet: Ipv4Net,
    /// Addresses that may be given out: without reserved ones, the router's and our own.
    pub size: u64,
    /// Those that are some machine's, by a lease or an offer that still runs.
    pub used: u64,
    /// Those that nobody gets for a while: somebody else was found to use them, or they are still promised to a machine
    /// that has another one now.
    pub resting: u64,
    /// DISCOVERs that got no address, since the daemon was started.
    pub refused: u64,
}

impl Pool {
    /// Addresses that another machine could get.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.size.saturating_sub(self.used + self.resting)
    }
}
