//! What a switch says to whoever is at the other end of a cable: spanning tree and LLDP, read from frames that anybody may
//! have sent.

use boot_common::Mac;

use super::shown;

/// What a switch sends to whoever is at the other end of a cable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwitchFrame {
    /// A BPDU of a spanning tree (IEEE 802.1D clause 9.3).
    Tree {
        /// The port that sent it.
        station: Mac,
        /// 0: 802.1D; 2: RSTP; 3: MSTP.
        version: u8,
        /// How many seconds a port that is no edge port stays in each of its two states before it forwards.
        forward_delay: u16,
        /// Whether the port says that it forwards; 802.1D does not say it.
        forwards: Option<bool>,
    },
    /// An announcement of itself (LLDP, IEEE 802.1AB).
    Lldp {
        /// The port that sent it.
        station: Mac,
        /// The switch's name, fit for a log; without one, what identifies it.
        switch: Box<str>,
        /// The port's name, fit for a log; without one, what identifies it.
        port: Box<str>,
    },
}

/// The EtherType of LLDP.
pub const LLDP: u16 = 0x88cc;
/// Where spanning trees are told of: 802.1D, and Cisco's one for each VLAN.
pub const TREES: [Mac; 2] = [Mac([0x01, 0x80, 0xc2, 0, 0, 0]), Mac([0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd])];
/// Where LLDP is sent.
pub const NEIGHBOURS: Mac = Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]);

/// So many characters of a name are read.
const LONGEST_NAME: usize = 100;
/// A longer delay than 802.1D allows (30 s) is none.
const LONGEST_DELAY: u16 = 30;

impl SwitchFrame {
    /// The port that sent it.
    #[must_use]
    pub fn station(&self) -> Mac {
        match self {
            Self::Tree { station, .. } | Self::Lldp { station, .. } => *station,
        }
    }

    /// Reads a frame; none if it is no such frame, or a damaged one.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let to = Mac(frame.get(..6)?.try_into().ok()?);
        let station = Mac(frame.get(6..12)?.try_into().ok()?);
        let ether_type = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
        let body = frame.get(14..)?;
        match (ether_type, body) {
            (LLDP, _) => lldp(station, body),
            // LLC of 802.1D, SNAP of Cisco.
            (_, [0x42, 0x42, 3, bpdu @ ..]) if to == TREES[0] => tree(station, bpdu),
            (_, [0xaa, 0xaa, 3, 0, 0, 0x0c, 1, 0x0b, bpdu @ ..]) if to == TREES[1] => tree(station, bpdu),
            _ => None,
        }
    }
}

/// A configuration BPDU, or RSTP's: protocol, version, type, flags; the forward delay is 33 bytes in, in 1/256 s.
fn tree(station: Mac, bpdu: &[u8]) -> Option<SwitchFrame> {
    let [0, 0, version, kind, flags, ..] = *bpdu else { return None };
    if !matches!(kind, 0 | 2) {
        return None;
    }
    let delay = bpdu.get(33..35)?;
    let forward_delay = u16::from(*delay.first()?);
    if forward_delay > LONGEST_DELAY {
        return None;
    }
    let forwards = (kind == 2).then_some(flags & 0x20 != 0);
    Some(SwitchFrame::Tree { station, version, forward_delay, forwards })
}

/// None without the IDs of a switch and of a port, which every announcement has (IEEE 802.1AB section 8.2).
fn lldp(station: Mac, mut rest: &[u8]) -> Option<SwitchFrame> {
    let (mut switch, mut described) = (String::new(), String::new());
    let (mut chassis_id, mut port_id) = (None, None);
    while let [first, second, tail @ ..] = rest {
        let (kind, length) = (first >> 1, usize::from(first & 1) << 8 | usize::from(*second));
        let (value, next) = tail.split_at_checked(length)?;
        match (kind, value) {
            (0, _) => break,
            (1, [_, _, ..]) => chassis_id = Some(value),
            (2, [_, _, ..]) => port_id = Some(value),
            (4, name) => described = text(name),
            (5, name) => switch = text(name),
            _ => {}
        }
        rest = next;
    }
    let (chassis_id, port_id) = (chassis_id?, port_id?);
    let one_of = |names: [String; 3]| names.into_iter().find(|name| !name.is_empty());
    // Of the ways to identify a switch: an alias, a component, an interface's name, a local one; a MAC.
    let switch = one_of([switch, words(chassis_id, &[1, 2, 3, 6, 7]), address(chassis_id, 4)]);
    // And a port: an alias, an interface's name, a local one; a MAC.
    let port = one_of([words(port_id, &[1, 5, 7]), described, address(port_id, 3)]);
    let named = |name: Option<String>| Box::<str>::from(name.unwrap_or_else(|| station.to_string()));
    Some(SwitchFrame::Lldp { station, switch: named(switch), port: named(port) })
}

/// An ID that is words; empty if it is something else.
fn words(id: &[u8], kinds: &[u8]) -> String {
    match id {
        [kind, name @ ..] if kinds.contains(kind) => text(name),
        _ => String::new(),
    }
}

/// An ID that is a MAC; empty if it is something else.
fn address(id: &[u8], mac: u8) -> String {
    match id {
        [kind, bytes @ ..] if *kind == mac => {
            <[u8; 6]>::try_from(bytes).map_or_else(|_| String::new(), |bytes| Mac(bytes).to_string())
        }
        _ => String::new(),
    }
}

fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_matches(|one: char| one == '\0' || one.is_whitespace());
    shown(&text.chars().take(LONGEST_NAME).collect::<String>())
}

#[cfg(test)]
mod tests;
