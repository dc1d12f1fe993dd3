//! The other DHCP servers and the switches that were heard, and boot files that are none: evidence for the causes, kept while xpxe runs.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use boot_common::Mac;
use serde::Serialize;

use crate::events::SwitchFrame;

/// How many servers, and how many ports of switches, are kept; the one that was silent for the longest makes room.
const MOST: usize = 256;

/// A sign of another DHCP server, or of a switch.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    /// Of a server.
    Server {
        server: Ipv4Addr,
        station: Option<Mac>,
        /// The boot file that it names.
        file: Option<Box<str>>,
        link: Option<Arc<str>>,
    },
    /// Of a switch.
    Switch { frame: SwitchFrame, link: Option<Arc<str>> },
    /// Of a boot file: what it is, or why machines cannot boot it.
    File { file: Box<str>, says: Box<str>, is_wrong: bool },
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
    /// The boot file that it has named last.
    pub file: Option<String>,
    /// When it was heard first, in milliseconds since the Unix epoch.
    pub first: u64,
    /// When it was heard last.
    pub last: u64,
    /// How many events told of it. A server is told of once an hour, and once an hour for each machine.
    pub count: u64,
}

/// The port of a switch at the other end of one of this server's interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SwitchPort {
    /// The port's MAC.
    pub station: String,
    /// The interface.
    pub link: Option<String>,
    /// The switch's name, as it says (LLDP).
    pub switch: Option<String>,
    /// The port's name, as it says (LLDP).
    pub port: Option<String>,
    /// For how many seconds a port of it that is no edge port drops everything after a link-up; none: no spanning tree
    /// was heard.
    pub blocks_for: Option<u16>,
    /// When it was heard first, in milliseconds since the Unix epoch.
    pub first: u64,
    /// When it was heard last.
    pub last: u64,
}

/// Everything that was heard beside this server.
#[derive(Clone, Debug, Default)]
pub struct Network {
    servers: Vec<OtherServer>,
    switches: Vec<SwitchPort>,
    wrong: Vec<WrongFile>,
}

/// A boot file that those who get it cannot boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrongFile {
    pub(super) file: Box<str>,
    /// Why, and what to do.
    pub(super) says: Box<str>,
    /// When that was found, in milliseconds since the Unix epoch.
    pub(super) at: u64,
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

    /// Another server that names a boot file, as far as one was heard.
    #[must_use]
    pub(super) fn names_a_file(&self) -> Option<&OtherServer> {
        self.servers.iter().find(|server| server.file.is_some())
    }

    /// The ports of switches, those that were heard last first.
    pub fn switches(&self) -> impl Iterator<Item = &SwitchPort> {
        self.switches.iter()
    }

    /// A port beside this server that takes part in a spanning tree.
    pub(super) fn tree(&self, link: Option<&str>) -> Option<&SwitchPort> {
        let is_there = |port: &&SwitchPort| link.is_none() || port.link.as_deref() == link;
        self.switches.iter().filter(is_there).find(|port| port.blocks_for.is_some())
    }

    /// What is wrong with a boot file, if something is.
    pub(super) fn wrong(&self, file: &str) -> Option<&WrongFile> {
        self.wrong.iter().find(|wrong| &*wrong.file == file)
    }

    pub(super) fn hear(&mut self, heard: Heard, at: u64) {
        match heard {
            Heard::Server { server, station, file, link } => {
                let known = take(&mut self.servers, |other| other.server == server);
                let new = || OtherServer {
                    server,
                    station: None,
                    link: None,
                    file: None,
                    first: at,
                    last: at,
                    count: 0,
                };
                let mut known = known.unwrap_or_else(new);
                known.last = at;
                known.count += 1;
                known.station = station.map(|mac| mac.to_string()).or(known.station);
                known.link = link.as_deref().map(str::to_owned).or(known.link);
                known.file = file.map(String::from).or(known.file);
                put(&mut self.servers, known);
            }
            Heard::File { file, says, is_wrong } => {
                // Another one may be there under that name now.
                take(&mut self.wrong, |other| other.file == file);
                if is_wrong {
                    put(&mut self.wrong, WrongFile { file, says, at });
                }
            }
            Heard::Switch { frame, link } => {
                let (station, link) = (frame.station().to_string(), link.as_deref().map(str::to_owned));
                let known = take(&mut self.switches, |other| other.station == station && other.link == link);
                let new = || SwitchPort {
                    station,
                    link,
                    switch: None,
                    port: None,
                    blocks_for: None,
                    first: at,
                    last: at,
                };
                let mut known = known.unwrap_or_else(new);
                known.last = at;
                match frame {
                    SwitchFrame::Tree { forward_delay, .. } => known.blocks_for = Some(2 * forward_delay),
                    SwitchFrame::Lldp { switch, port, .. } => {
                        let named = |name: Box<str>| Some(String::from(name)).filter(|name| !name.is_empty());
                        (known.switch, known.port) = (named(switch), named(port));
                    }
                }
                put(&mut self.switches, known);
            }
        }
    }
}

fn take<T>(all: &mut Vec<T>, is_it: impl FnMut(&T) -> bool) -> Option<T> {
    all.iter().position(is_it).map(|position| all.remove(position))
}

fn put<T>(all: &mut Vec<T>, one: T) {
    all.insert(0, one);
    all.truncate(MOST);
}

impl fmt::Display for SwitchPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { station, link, switch, port, blocks_for, .. } = self;
        match switch {
            Some(switch) => write!(f, "the switch {switch}")?,
            None => f.write_str("the switch")?,
        }
        if let Some(port) = port {
            write!(f, ", port {port}")?;
        }
        write!(f, " ({station})")?;
        if let Some(link) = link {
            write!(f, " at {link}")?;
        }
        match blocks_for {
            None => Ok(()),
            Some(seconds) => write!(
                f,
                " speaks spanning tree: a port that is no edge port drops everything for {seconds} s after each link-up"
            ),
        }
    }
}
