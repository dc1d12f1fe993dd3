//! Which leases an operator means.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use boot_common::Mac;

use super::Shown;

/// A lease, named by either of its sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// By the machine.
    Mac(Mac),
    /// By its address.
    Address(Ipv4Addr),
}

impl Which {
    /// Whether it is this one.
    #[must_use]
    pub fn is(self, shown: &Shown) -> bool {
        match self {
            Self::Mac(mac) => mac == shown.mac,
            Self::Address(address) => address == shown.address,
        }
    }

    /// The leases that are meant. A machine has one in each subnet that it is in, and addresses may rest because of it;
    /// the MACs of one machine share its reserved address.
    #[must_use]
    pub fn find(self, all: Vec<Shown>) -> Vec<Shown> {
        all.into_iter().filter(|shown| self.is(shown)).collect()
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => mac.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Text that names no lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a MAC nor an IPv4 address: write one like 52:54:00:00:00:01 or 10.1.1.50")]
pub struct NotALease(String);

impl FromStr for Which {
    type Err = NotALease;

    fn from_str(text: &str) -> Result<Self, NotALease> {
        let address = text.parse().map(Self::Address);
        address.or_else(|_| text.parse().map(Self::Mac)).map_err(|_| NotALease(text.to_owned()))
    }
}
