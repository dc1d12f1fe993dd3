//! What other DHCP servers do, and machines that are where they should not be: told once in an hour each.

use std::net::Ipv4Addr;

use boot_common::decide::message;
use boot_common::tables::role;
use boot_common::wire::option;
use boot_common::{Mac, Reason};

use super::rogues::{Admitted, MOST_OF_ONE};
use super::{Asked, Place};
use crate::Engine;
use crate::command::{Incoming, Now};
use crate::dhcp::reassembly::option_of;
use crate::events::complaint::Complaint;
use crate::events::{OtherServer, Step, Through};

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
        let Some(reserved) = self.policy.reserved(mac) else { return };
        let Some(home) = self.policy.subnet_of(reserved) else { return };
        if home == place.subnet || self.policy.are_on_one_wire(home, place.subnet) {
            return;
        }
        let Some(cidr) = self.policy.subnets().get(place.subnet).map(|subnet| subnet.cidr) else { return };
        if !self.reports.is_first(Complaint::AsksIn(mac, cidr), asked.now) {
            return;
        }
        let giaddr = Ipv4Addr::from(asked.request.bootp.giaddr);
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
        if link.role != role::SERVER {
            return Reason::RoleOff;
        }
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
}
