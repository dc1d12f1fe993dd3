//! What a machine is known by: MAC address, SMBIOS UUID, switch port.

use std::fmt;
use std::str::FromStr;

use boot_common::Mac;

use crate::config::{Machine, RelayPort, parse_hex, parse_uuid, uuid_text};

/// What a client shows of its machine beside its MAC.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identities<'a> {
    /// SMBIOS UUID, as option 97 has it behind its type octet: the first three fields little-endian, usually.
    pub uuid: Option<[u8; 16]>,
    /// The switch port: circuit and remote identifier of the relay (82.1, 82.2).
    pub switch_port: Option<(&'a [u8], Option<&'a [u8]>)>,
}

/// An identity of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// An Ethernet address.
    Mac(Mac),
    /// An SMBIOS UUID, in the order of the digits in its text.
    Uuid([u8; 16]),
    /// A switch port, as a relay names it.
    SwitchPort(RelayPort),
}

impl Identity {
    /// What tells a machine from others, the MACs first.
    pub fn all(machine: &Machine) -> impl Iterator<Item = Self> {
        let macs = machine.macs.iter().copied().map(Self::Mac);
        let uuid = machine.uuid.map(Self::Uuid);
        macs.chain(uuid).chain(machine.relay_port.clone().map(Self::SwitchPort))
    }

    /// One line that is read back as the same identity, for the store: a word, then MAC or UUID as usual, or the two
    /// identifiers of a switch port in hexadecimal digits.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Mac(mac) => format!("mac {mac}"),
            Self::Uuid(uuid) => format!("uuid {}", uuid_text(*uuid)),
            Self::SwitchPort(RelayPort { circuit_id, remote_id: None }) => {
                format!("port {}", hex(circuit_id))
            }
            Self::SwitchPort(RelayPort { circuit_id, remote_id: Some(remote_id) }) => {
                format!("port {} {}", hex(circuit_id), hex(remote_id))
            }
        }
    }
}

/// As people read it.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => write!(f, "the MAC address {mac}"),
            Self::Uuid(uuid) => write!(f, "the UUID {}", uuid_text(*uuid)),
            Self::SwitchPort(RelayPort { circuit_id, remote_id }) => {
                write!(f, "the switch port \"{}\"", circuit_id.escape_ascii())?;
                match remote_id {
                    Some(remote_id) => write!(f, " of \"{}\"", remote_id.escape_ascii()),
                    None => Ok(()),
                }
            }
        }
    }
}

/// A text that is no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identity (expected mac, uuid or port, and its value)")]
pub struct NotAnIdentity;

/// Reads what [`Identity::to_text`] writes.
impl FromStr for Identity {
    type Err = NotAnIdentity;

    fn from_str(text: &str) -> Result<Self, NotAnIdentity> {
        let words: Vec<&str> = text.split(' ').collect();
        let identity = match words[..] {
            ["mac", mac] => mac.parse().ok().map(Self::Mac),
            ["uuid", uuid] => parse_uuid(uuid).ok().map(Self::Uuid),
            ["port", circuit_id] => switch_port(circuit_id, None),
            ["port", circuit_id, remote_id] => switch_port(circuit_id, Some(remote_id)),
            _ => None,
        };
        identity.ok_or(NotAnIdentity)
    }
}

fn switch_port(circuit_id: &str, remote_id: Option<&str>) -> Option<Identity> {
    let remote_id = match remote_id {
        Some(digits) => Some(parse_hex(digits)?),
        None => None,
    };
    Some(Identity::SwitchPort(RelayPort { circuit_id: parse_hex(circuit_id)?, remote_id }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
