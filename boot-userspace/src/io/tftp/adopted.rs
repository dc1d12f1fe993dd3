//! Transfers that an earlier daemon began: who goes on, and who is told that it cannot.

use std::net::Ipv4Addr;

use boot_common::tftp::{Flight, TransferKey};
use boot_engine::tftp::Image;

use super::TftpServer;
use super::clients::Standing;
use crate::host::clock;

/// A transfer that cannot go on, and whose client waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// Both its ends.
    pub(super) key: TransferKey,
    /// The file's name.
    name: String,
    /// The reason, for the log and for the client.
    pub(super) why: &'static str,
    /// The client has acknowledged something, and it was port 69 that it did so to.
    pub(super) hears: bool,
}

impl Lost {
    /// `None` if the client has everything.
    pub(super) fn of(flight: &Flight, key: TransferKey, why: &'static str) -> Option<Self> {
        let is_over = flight.state().acked == flight.shape().last;
        let hears = flight.is_acknowledged() && !flight.has_own_port();
        (!is_over).then(|| Self { key, name: name_of(flight), why, hears })
    }
}

/// The file's name, cut to what a flight has room for.
pub(super) fn name_of(flight: &Flight) -> String {
    let name = flight.name();
    String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

impl TftpServer {
    /// Whether a transfer is one of this interface.
    pub(super) fn has(&self, key: &TransferKey) -> bool {
        key.ifindex == self.link.index
    }

    /// Goes on with a transfer that an earlier daemon began, where it is one of this interface.
    pub(super) fn adopt(&mut self, key: &TransferKey, slot: u32, image: Image) -> bool {
        let Some(flight) = self.common.slots.flight(slot).filter(|_| self.has(key)) else { return false };
        if !self.common.single_port {
            let why = "xpxe was restarted, and single_port is false in its configuration now";
            if let Some(lost) = Lost::of(flight, *key, why) {
                self.lose(lost);
            }
            return false;
        }
        // Everybody knows port 69: an acknowledgement there proves nothing, and this one gets no port of its own.
        let standing = self.common.clients.standing(key.client.into(), &self.link);
        if standing != Standing::Served && !flight.is_acknowledged() {
            return false;
        }
        self.transfers.adopt(key, slot, image, clock::boot());
        true
    }

    /// Tells of a transfer that cannot go on: with an ERROR, the client need not wait until it gives up.
    pub(super) fn lose(&mut self, lost: Lost) {
        let Lost { key, name, why, hears } = lost;
        let client = Ipv4Addr::from(key.client);
        let is_answered = !self.common.machines.ignores(client)
            && self.common.clients.standing(client, &self.link) != Standing::Refused;
        self.transfers.lost(&key, name, why, hears && is_answered);
    }
}
