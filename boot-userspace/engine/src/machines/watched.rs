//! The machine whose packets somebody records.

use std::net::IpAddr;

use boot_common::Mac;

use super::Machines;

impl Machines {
    /// Has one machine watched, or none any more.
    pub fn watch(&self, mac: Option<Mac>) {
        self.write().watched = mac;
    }

    /// Whether the machine that has an address is watched.
    #[must_use]
    pub fn is_watched(&self, address: impl Into<IpAddr>) -> bool {
        let state = self.read();
        state.watched.is_some() && state.at(address.into()) == state.watched
    }
}
