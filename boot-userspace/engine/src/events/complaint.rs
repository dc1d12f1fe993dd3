//! What is said once in an hour, as long as it holds.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use boot_common::Mac;
use boot_common::class::Firmware;
use ipnet::Ipv4Net;

use crate::command::Now;

/// How many different complaints are remembered as made.
const MOST_SAID: usize = 1000;
/// After how many seconds one is made again, if it still holds.
const SAID_AGAIN: u64 = 3600;

/// Something to complain about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Complaint {
    /// A machine takes another server's address.
    ChoseAnother(Mac, Ipv4Addr),
    /// Another server refuses a machine.
    RefusedBy(Ipv4Addr, Mac),
    /// Another server gives addresses.
    GivesAddresses(Ipv4Addr),
    /// Another server names a boot file for a machine.
    NamesFile(Ipv4Addr, Mac),
    /// A relay writes to an address of this server that answers do not leave from.
    WritesTo { relay: Ipv4Addr, asked: Ipv4Addr },
    /// A machine asks in a subnet that is not its own.
    AsksIn(Mac, Ipv4Net),
    /// An interface is in no subnet.
    NoSubnetOn(u32),
    /// The link that a relay selects is in no subnet.
    NoSubnetBehind { relay: Ipv4Addr, selects: Ipv4Addr },
    /// There is no loader; the sentence says which.
    NoLoader(String),
    /// The iPXE that machines of this firmware are sent lacks HTTP, or a kernel's format.
    Reduced(Firmware, bool),
}

/// Complaints, and the second in which they were made last.
#[derive(Debug, Default)]
pub(crate) struct Complaints(HashMap<Complaint, u64>);

impl Complaints {
    /// True the first time within an hour, as far as is remembered.
    pub(crate) fn is_first(&mut self, what: Complaint, now: Now) -> bool {
        // A flood of different ones must fill no memory, and nothing that comes after it may go unsaid.
        if self.0.len() >= MOST_SAID {
            self.0.clear();
        }
        match self.0.get_mut(&what) {
            Some(at) if now.seconds() < *at + SAID_AGAIN => false,
            Some(at) => {
                *at = now.seconds();
                true
            }
            None => self.0.insert(what, now.seconds()).is_none(),
        }
    }
}
