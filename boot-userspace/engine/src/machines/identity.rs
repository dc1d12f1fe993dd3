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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: [u8; 16] =
        [0x4c, 0x4c, 0x45, 0x44, 0, 0x42, 0x35, 0x10, 0x80, 0x52, 0xb4, 0xc0, 0x4f, 0x4e, 0x31, 0x32];

    fn port(circuit_id: &[u8], remote_id: Option<&[u8]>) -> Identity {
        Identity::SwitchPort(RelayPort {
            circuit_id: circuit_id.to_vec(),
            remote_id: remote_id.map(<[u8]>::to_vec),
        })
    }

    #[test]
    fn identities_are_read_by_people_and_by_the_store() {
        let mac = Identity::Mac(Mac([0x52, 0x54, 0, 0, 0, 1]));
        for (identity, text, said) in [
            (mac, "mac 52:54:00:00:00:01", "the MAC address 52:54:00:00:00:01"),
            (
                Identity::Uuid(UUID),
                "uuid 4c4c4544-0042-3510-8052-b4c04f4e3132",
                "the UUID 4c4c4544-0042-3510-8052-b4c04f4e3132",
            ),
            (port(b"eth1/7", None), "port 657468312f37", "the switch port \"eth1/7\""),
            (port(b"\x00 7", Some(b"sw")), "port 002037 7377", "the switch port \"\\x00 7\" of \"sw\""),
        ] {
            assert_eq!((identity.to_text().as_str(), identity.to_string().as_str()), (text, said));
            assert_eq!(text.parse(), Ok(identity));
        }
        for broken in [
            "",
            "mac",
            "mac 52:54",
            "uuid 4c4c",
            "port 6",
            "port 6x",
            "port 61 6",
            "port 61 62 63",
            "serial 7",
        ] {
            assert_eq!(broken.parse::<Identity>(), Err(NotAnIdentity), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn any_switch_port_is_read_back(circuit_id in prop::collection::vec(any::<u8>(), 1..254), remote_id: Option<[u8; 3]>) {
            let identity = port(&circuit_id, remote_id.as_ref().map(<[u8; 3]>::as_slice));
            prop_assert_eq!(identity.to_text().parse(), Ok(identity));
        }
    }
}
