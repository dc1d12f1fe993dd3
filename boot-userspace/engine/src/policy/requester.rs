//! Who asks: a MAC, and what the configuration says of its machine.

use std::net::Ipv4Addr;

use boot_common::Mac;

use super::{Differences, Policy};
use crate::config::Unknown;
use crate::lifecycle::State;
use crate::machines::identified::Identified;

/// Who asks. A request looks its machine up once and asks this for everything else.
#[derive(Clone, Debug)]
pub(crate) struct Requester {
    /// The card that asks.
    pub(crate) mac: Mac,
    /// What makes its answers different.
    pub(crate) differences: Differences,
    identified: Identified,
}

impl Requester {
    /// The machine's name, as logs have it.
    pub(crate) fn name(&self) -> Option<&str> {
        self.identified.name()
    }

    /// The address that is reserved for the machine.
    pub(crate) fn reserved(&self) -> Option<Ipv4Addr> {
        self.identified.reserved()
    }

    /// Whether a machine is configured with this MAC.
    pub(crate) fn is_named(&self) -> bool {
        self.identified.is_named
    }
}

impl Policy {
    /// Looks up who asks.
    pub(crate) fn requester(&self, mac: Mac) -> Requester {
        let identified = self.machines.identify(mac);
        let differences = self.differences_of(identified.known.as_ref(), mac);
        Requester { mac, differences, identified }
    }

    /// Whether a machine gets an answer at all.
    #[must_use]
    pub fn serves(&self, mac: Mac) -> bool {
        self.serves_identified(&self.machines.identify(mac))
    }

    /// The same for one that was looked up.
    pub(crate) fn serves_requester(&self, who: &Requester) -> bool {
        self.serves_identified(&who.identified)
    }

    fn serves_identified(&self, identified: &Identified) -> bool {
        match &identified.known {
            Some(known) => known.life.as_ref().is_none_or(|life| life.state != State::Ignored),
            None => self.config.default.unknown != Unknown::Ignore || identified.is_bmc,
        }
    }

    /// Whether it depends on the switch port which machine a MAC is. `is_named`: whether one is configured with it.
    pub(crate) fn port_decides(&self, is_named: bool) -> bool {
        (!is_named && self.machines.has_ports()) || self.has_groups_by_port()
    }
}
