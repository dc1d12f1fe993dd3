//! What is kept over a restart.

use std::net::Ipv4Addr;

use boot_common::Mac;
use ipnet::Ipv4Net;

use super::state::LeaseState;
use crate::machines::Identity;

/// One change of the leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The machine has this lease in its subnet now, or, where its state is [`LeaseState::OnHold`], the address is on hold
    /// because of it, whatever else it has. If another machine had the address, that machine's lease is gone. Leases of the
    /// machine in other subnets stay.
    Put(Lease),
    /// The machine has no lease of this address any more.
    Delete(Mac, Ipv4Addr),
    /// The address is on hold no longer.
    Lift(Ipv4Addr),
}

impl Change {
    /// The machine that gets or loses something, unless only an address does.
    #[must_use]
    pub fn machine(&self) -> Option<Mac> {
        match self {
            Self::Put(lease) => Some(lease.mac),
            Self::Delete(mac, _) => Some(*mac),
            Self::Lift(_) => None,
        }
    }

    /// The same with times that are later by so many seconds.
    #[must_use]
    pub fn later_by(self, seconds: i64) -> Self {
        match self {
            Self::Put(lease) => Self::Put(lease.later_by(seconds)),
            change @ (Self::Delete(..) | Self::Lift(_)) => change,
        }
    }
}

/// An address that is bound to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The machine.
    pub mac: Mac,
    /// The address. No two leases in the store have the same.
    pub address: Ipv4Addr,
    /// The subnet the address was taken from.
    pub subnet: Ipv4Net,
    /// How far the machine has come with it.
    pub state: LeaseState,
    /// When it ends, in seconds since the Unix epoch.
    pub expires: i64,
    /// The name the machine gave.
    pub hostname: Option<String>,
    /// The identity that tells which machine it is, unless its MAC does: an operating system that renews the lease after a
    /// restart does not show it.
    pub recognised_by: Option<Identity>,
    /// When it last changed, in seconds since the Unix epoch.
    pub updated: i64,
}

impl Lease {
    /// The same with times that are later by so many seconds.
    #[must_use]
    pub fn later_by(self, seconds: i64) -> Self {
        let (expires, updated) = (self.expires.saturating_add(seconds), self.updated.saturating_add(seconds));
        Self { expires, updated, ..self }
    }
}
