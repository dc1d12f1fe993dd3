//! The other DHCP servers that were heard: evidence for the causes, kept while xpxe runs.

use std::net::Ipv4Addr;
use std::sync::Arc;

use boot_common::Mac;
use serde::Serialize;

/// How many servers are kept; the one that was silent for the longest makes room.
const MOST: usize = 256;

/// A sign of another DHCP server.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) server: Ipv4Addr,
    pub(super) station: Option<Mac>,
    pub(super) link: Option<Arc<str>>,
}

/// Another DHCP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtherServer {
    /// Its address.
    pub server: Ipv4Addr,
    /// Its MAC, or that of the last relay, where that is known.
    pub station: Option<String>,
    /// The interface that it was heard on.
    pub link: Option<String>,
    /// When it was heard first, in milliseconds since the Unix epoch.
    pub first: u64,
    /// When it was heard last.
    pub last: u64,
    /// How many events told of it. A server is told of once an hour, and once an hour for each machine.
    pub count: u64,
}

/// Everything that was heard beside this server.
#[derive(Clone, Debug, Default)]
pub struct Network {
    servers: Vec<OtherServer>,
}

impl Network {
    /// The other servers, those that were heard last first.
    pub fn servers(&self) -> impl Iterator<Item = &OtherServer> {
        self.servers.iter()
    }

    /// A server.
    #[must_use]
    pub fn server(&self, address: Ipv4Addr) -> Option<&OtherServer> {
        self.servers.iter().find(|server| server.server == address)
    }

    pub(super) fn hear(&mut self, heard: &Heard, at: u64) {
        let position = self.servers.iter().position(|other| other.server == heard.server);
        let mut server = match position {
            Some(position) => self.servers.remove(position),
            None => {
                OtherServer { server: heard.server, station: None, link: None, first: at, last: at, count: 0 }
            }
        };
        server.last = at;
        server.count += 1;
        server.station = heard.station.map(|mac| mac.to_string()).or(server.station);
        server.link = heard.link.as_deref().map(str::to_owned).or(server.link);
        self.servers.insert(0, server);
        self.servers.truncate(MOST);
    }
}
