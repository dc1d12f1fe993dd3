//! An address that belongs to a machine in one subnet.

use std::net::Ipv4Addr;
use std::time::Duration;

use boot_common::tables::ALWAYS;

use crate::now::Now;

/// How firmly an address is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In the configuration: nobody else ever gets it.
    Reserved,
    /// Offered, until that second of the Unix epoch.
    Offered(u64),
    /// Leased, until that second.
    Leased(u64),
    /// Given back, but left alone until that second: the kernel half may have confirmed it once more.
    Released(u64),
    /// Given back or run out: still this machine's, unless another one needs it.
    Idle,
}

/// A machine's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The address.
    pub address: Ipv4Addr,
    /// Index of its subnet in the configuration.
    pub subnet: usize,
    /// How firmly.
    pub state: State,
}

impl Binding {
    /// Whether the machine was promised the address.
    #[must_use]
    pub fn is_promised(&self) -> bool {
        matches!(self.state, State::Leased(_) | State::Released(_))
    }

    /// Up to when nobody else gets the address, as the tables have it.
    #[must_use]
    pub fn bound_until(&self, now: Now) -> u64 {
        match self.ends() {
            0 => 0,
            u64::MAX => ALWAYS,
            until => {
                // Whole seconds: it may end one earlier.
                let left = until.saturating_sub(now.seconds() + 1);
                u64::try_from((now.boot + Duration::from_secs(left)).as_nanos()).unwrap_or(0)
            }
        }
    }

    /// Whether another machine may have the address.
    #[must_use]
    pub fn is_free(&self, now: u64) -> bool {
        self.ends() <= now
    }

    /// The second from which on another machine may have the address.
    pub(crate) fn ends(&self) -> u64 {
        match self.state {
            State::Reserved => u64::MAX,
            State::Offered(until) | State::Leased(until) | State::Released(until) => until,
            State::Idle => 0,
        }
    }
}
