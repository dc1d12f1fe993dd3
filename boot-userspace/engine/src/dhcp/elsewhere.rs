//! What other DHCP servers do, and machines that are where they should not be: told once in an hour each.

use std::net::Ipv4Addr;

use boot_common::decide::message;
use boot_common::tables::{LinkEntry, role};
use boot_common::wire::option;
use boot_common::{Mac, Reason};

use super::rogues::{Admitted, MOST_OF_ONE};
use super::{Asked, Place};
use crate::Engine;
use crate::command::{Incoming, Now};
use crate::dhcp::reassembly::option_of;
use crate::events::complaint::Complaint;
use crate::events::{OtherServer, Step, Through, shown};

/// `op` of an answer (RFC 2131 section 2).
const BOOTREPLY: u8 = 2;

impl Engine {
    /// A machine takes another server's offer, which may have come beside one from here.
    pub(super) fn chose_another_server(&mut self, asked: &Asked<'_>, server: Ipv4Addr, was_offered: bool) {
        let mac = asked.mac;
        if self.reports.is_first(Complaint::ChoseAnother(mac, server), asked.now) {
            let chosen = OtherServer::Chosen { server, address: asked.wanted(), was_offered };
            self.happened_to(mac, asked.incoming.ifindex, Step::OtherServer(chosen), asked.now);
        }
    }

    /// A machine whose address the configuration has in one subnet asks in another one.
    pub(super) fn look_for_strays(&mut self, asked: &Asked<'_>, place: Place) {
        let mac = asked.mac;
        let Some(reserved) = asked.who.reserved() else { return };
        let Some(home) = self.policy.subnet_of(reserved) else { return };
        if home == place.subnet || self.policy.are_on_one_wire(home, place.subnet) {
            return;
        }
        let Some(cidr) = self.policy.subnets().get(place.subnet).map(|subnet| subnet.cidr) else { return };
        if !self.reports.is_first(Complaint::AsksIn(mac, cidr), asked.now) {
            return;
        }
        let giaddr = Ipv4Addr::from(asked.bootp.giaddr);
        let through = if giaddr.is_unspecified() { Through::Link } else { Through::Relay(giaddr) };
        let step = Step::Stray { reserved, through, subnet: cidr };
        self.happened_to(mac, asked.incoming.ifindex, step, asked.now);
    }

    /// Another server's answer that was broadcast where this one gives the addresses, and the station that sent it, where
    /// that is known. There is nothing to answer.
    pub fn snoop(&mut self, incoming: &Incoming<'_>, station: Option<Mac>, now: Now) {
        let reason = self.snooped(incoming, station, now);
        self.count(reason);
    }

    fn snooped(&mut self, incoming: &Incoming<'_>, station: Option<Mac>, now: Now) -> Reason {
        let Some(link) = self.entries.link(incoming.ifindex) else { return Reason::NoLink };
        let gives_addresses = match link.role {
            role::SERVER => true,
            role::PROXY => false,
            _ => return Reason::RoleOff,
        };
        let payload = incoming.payload;
        let address = |at: usize| {
            let bytes: Option<[u8; 4]> = payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(Ipv4Addr::from)
        };
        let mac = payload.get(28..34).and_then(|bytes| <[u8; 6]>::try_from(bytes).ok()).map(Mac);
        // What a relay has brought may be an answer from here.
        let (Some(&BOOTREPLY), Some(mac), Some(given), Some(Ipv4Addr::UNSPECIFIED)) =
            (payload.first(), mac, address(16), address(24))
        else {
            return Reason::NotOurs;
        };
        let told: Option<[u8; 4]> =
            option_of(payload, option::SERVER_ID).and_then(|server| server.try_into().ok());
        let server = told.map_or(*incoming.from.ip(), Ipv4Addr::from);
        if self.is_ours(server) || self.is_ours(*incoming.from.ip()) {
            return Reason::NotOurs;
        }
        let kind = option_of(payload, option::MESSAGE_TYPE).and_then(|kind| kind.first().copied());
        if matches!(kind, Some(message::OFFER | message::ACK)) {
            self.hear_other_file(incoming, station, server, mac, now);
        }
        if !gives_addresses {
            return Reason::NotOurs;
        }
        let (complaint, other) = match kind {
            Some(message::NAK) => {
                (Complaint::RefusedBy(server, mac), OtherServer::Refused { server, station })
            }
            Some(message::OFFER | message::ACK) => {
                (Complaint::GivesAddresses(server), OtherServer::Gives { server, station, address: given })
            }
            _ => return Reason::NotOurs,
        };
        if self.reports.is_first(complaint, now) {
            let other = match self.reports.admit(station, now) {
                Admitted::Yes => other,
                Admitted::Last => OtherServer::TooMany { server, station, most: MOST_OF_ONE },
                Admitted::No => return Reason::NotOurs,
            };
            self.happened_to(mac, incoming.ifindex, Step::OtherServer(other), now);
        }
        Reason::NotOurs
    }

    /// Another server's answer may name a boot file: the machine takes one of two then.
    fn hear_other_file(
        &mut self,
        incoming: &Incoming<'_>,
        station: Option<Mac>,
        server: Ipv4Addr,
        mac: Mac,
        now: Now,
    ) {
        let Some(file) = boot_file(incoming.payload) else { return };
        // Who has asked nothing of this server is no machine of it.
        if !self.machines.is_client(mac) || !self.reports.is_first(Complaint::NamesFile(server, mac), now) {
            return;
        }
        let step = match self.reports.admit(station, now) {
            Admitted::Yes => Step::OtherFile { server, station, file },
            Admitted::Last => Step::OtherServer(OtherServer::TooMany { server, station, most: MOST_OF_ONE }),
            Admitted::No => return,
        };
        self.happened_to(mac, incoming.ifindex, step, now);
    }

    /// A relay that writes to another address of this server than answers leave from may not know them for answers; a
    /// firewall on the way does not.
    pub(super) fn compare_addresses(&mut self, incoming: &Incoming<'_>, link: &LinkEntry, now: Now) {
        let (asked, from) = (incoming.to, Ipv4Addr::from(link.address));
        if asked == from || asked.is_broadcast() || link.role == role::OFF || !self.is_ours(asked) {
            return;
        }
        let Some(Message { relay, mac }) = Message::of(incoming.payload) else { return };
        let class = option_of(incoming.payload, option::VENDOR_CLASS).unwrap_or_default();
        let boots = BOOTING.iter().any(|begin| class.starts_with(begin));
        if boots && !relay.is_unspecified() {
            let is_first = self.reports.is_first(Complaint::WritesTo { relay, asked }, now);
            let step = Step::ReplySource { relay, asked, from, is_first };
            self.happened_to(mac, incoming.ifindex, step, now);
        }
    }
}

/// How the vendor class of whoever boots begins (PXE 2.1 section 2.2.2, UEFI 2.10 section 24.7).
const BOOTING: [&[u8]; 2] = [b"PXEClient", b"HTTPClient"];

/// Who a BOOTP message is of, and through whom it came.
struct Message {
    relay: Ipv4Addr,
    mac: Mac,
}

impl Message {
    fn of(payload: &[u8]) -> Option<Self> {
        let relay: [u8; 4] = payload.get(24..28)?.try_into().ok()?;
        let mac = Mac(payload.get(28..34)?.try_into().ok()?);
        Some(Self { relay: relay.into(), mac })
    }
}

/// Option 67, the boot file's name (RFC 2132 section 9.5).
const BOOT_FILE: u8 = 67;
/// Where `file` is in a message (RFC 2131 section 2).
const FILE: std::ops::Range<usize> = 108..236;
/// Where its options begin, behind the magic cookie.
const OPTIONS: usize = 240;

/// Option 67 among options, of which this server reads no client's.
fn named_file(mut options: &[u8]) -> Option<&[u8]> {
    loop {
        match options {
            [] | [option::END, ..] => return None,
            [option::PAD, rest @ ..] => options = rest,
            [code, length, rest @ ..] => {
                let (data, rest) = rest.split_at_checked(usize::from(*length))?;
                if *code == BOOT_FILE {
                    return Some(data);
                }
                options = rest;
            }
            [_] => return None,
        }
    }
}

/// The boot file that an answer names: option 67, or else the field `file`.
fn boot_file(payload: &[u8]) -> Option<Box<str>> {
    let overloads =
        option_of(payload, option::OVERLOAD).and_then(|value| value.first().copied()).unwrap_or(0);
    let field = || payload.get(FILE).filter(|_| overloads & 1 == 0).map(<[u8]>::to_vec);
    let name = payload.get(OPTIONS..).and_then(named_file).map(<[u8]>::to_vec).or_else(field)?;
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let name = String::from_utf8_lossy(name.get(..end)?).into_owned();
    (!name.is_empty()).then(|| shown(&name).into())
}
