//! Changes as bytes: the journal's own format, which the database's rows are made from again.

use std::net::Ipv4Addr;

use boot_common::Mac;
use boot_engine::machines::Identity;
use ipnet::Ipv4Net;

use super::{Change, HoldCause, Lease, LeaseState};

const PUT: u8 = 1;
const DELETE: u8 = 2;
const LIFT: u8 = 3;
/// The states by their numbers, which never change; new ones follow at the end. Reservations are not stored.
const STATES: [LeaseState; 7] = [
    LeaseState::Offered,
    LeaseState::Leased,
    LeaseState::OnHold(HoldCause::Unknown),
    LeaseState::Released,
    LeaseState::OnHold(HoldCause::Declined),
    LeaseState::OnHold(HoldCause::InUse),
    LeaseState::OnHold(HoldCause::Promised),
];
/// Stands for the length of a text where there is none.
const NO_TEXT: u32 = u32::MAX;

/// One behind the other.
pub(super) fn encode(changes: &[Change]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(changes.len() * 48);
    for change in changes {
        match change {
            Change::Put(lease) => put(&mut bytes, lease),
            Change::Delete(mac, address) => {
                bytes.push(DELETE);
                bytes.extend(mac.0);
                bytes.extend(address.octets());
            }
            Change::Lift(address) => {
                bytes.push(LIFT);
                bytes.extend(address.octets());
            }
        }
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, lease: &Lease) {
    let Lease { mac, address, subnet, state, expires, hostname, recognised_by, updated } = lease;
    bytes.push(PUT);
    bytes.extend(mac.0);
    bytes.extend(address.octets());
    bytes.extend(subnet.addr().octets());
    bytes.push(subnet.prefix_len());
    bytes.push(STATES.iter().position(|known| known == state).map_or(0, |number| number as u8));
    bytes.extend(expires.to_le_bytes());
    bytes.extend(updated.to_le_bytes());
    put_text(bytes, hostname.as_deref());
    put_text(bytes, recognised_by.as_ref().map(Identity::to_text).as_deref());
}

fn put_text(bytes: &mut Vec<u8>, text: Option<&str>) {
    let text = text.map(str::as_bytes);
    let length = text.map_or(Some(NO_TEXT), |text| u32::try_from(text.len()).ok()).unwrap_or(NO_TEXT);
    bytes.extend(length.to_le_bytes());
    bytes.extend(text.unwrap_or_default());
}

/// Whether what was encoded may begin like that.
pub(super) fn may_begin(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(&(PUT | DELETE | LIFT)))
}

/// What was encoded; nothing unless all of it can be read.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Change>> {
    let mut reader = Reader(bytes);
    let mut changes = Vec::new();
    while !reader.0.is_empty() {
        changes.push(match reader.take()? {
            [PUT] => Change::Put(reader.lease()?),
            [DELETE] => Change::Delete(Mac(reader.take()?), reader.address()?),
            [LIFT] => Change::Lift(reader.address()?),
            _ => return None,
        });
    }
    Some(changes)
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn address(&mut self) -> Option<Ipv4Addr> {
        self.take().map(Ipv4Addr::from_octets)
    }

    fn lease(&mut self) -> Option<Lease> {
        let (mac, address) = (Mac(self.take()?), self.address()?);
        let subnet = self.address()?;
        let [prefix, state] = self.take()?;
        let (subnet, state) = (Ipv4Net::new(subnet, prefix).ok()?, *STATES.get(usize::from(state))?);
        let (expires, updated) = (i64::from_le_bytes(self.take()?), i64::from_le_bytes(self.take()?));
        let hostname = self.text()?;
        let recognised_by = match self.text()? {
            Some(text) => Some(text.parse().ok()?),
            None => None,
        };
        Some(Lease { mac, address, subnet, state, expires, hostname, recognised_by, updated })
    }

    /// A text, or that there is none.
    fn text(&mut self) -> Option<Option<String>> {
        let length = u32::from_le_bytes(self.take()?);
        if length == NO_TEXT {
            return Some(None);
        }
        let (text, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(Some(std::str::from_utf8(text).ok()?.to_owned()))
    }
}
