//! What other DHCP servers do, and machines that are where they should not be: said in the log, each once in an hour.

use std::net::Ipv4Addr;

use boot_common::decide::message;
use boot_common::tables::role;
use boot_common::wire::option;
use boot_common::{Mac, Reason};
use tracing::{info, warn};

use super::{Asked, Place};
use crate::Engine;
use crate::command::{Incoming, Now};
use crate::reassembly::option_of;

/// `op` of an answer (RFC 2131 section 2).
const BOOTREPLY: u8 = 2;

impl Engine {
    /// A machine takes another server's offer, which may have come beside one from here.
    pub(super) fn chose_another_server(&mut self, asked: &Asked<'_>, server: Ipv4Addr, was_offered: bool) {
        let mac = asked.mac;
        if self.first(format!("{mac} chose {server}"), asked.now) {
            let name = self.policy.name(mac).unwrap_or_default();
            let address = asked.wanted();
            let not_ours = if was_offered { ", and not the offer from here" } else { "" };
            info!(step = "other-server", by = "daemon", %mac, name, %server, %address,
                "{mac} took {address} from another DHCP server, {server}{not_ours}");
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
        if !self.first(format!("{mac} asks in {cidr}"), asked.now) {
            return;
        }
        let giaddr = Ipv4Addr::from(asked.request.bootp.giaddr);
        let through = match self.policy.port(asked.incoming.ifindex) {
            Some((_, port)) if giaddr.is_unspecified() => format!("on {}", port.name),
            _ => format!("through relay {giaddr}"),
        };
        let name = self.policy.name(mac).unwrap_or_default();
        warn!(step = "stray", by = "daemon", %mac, name, address = %reserved,
            "{mac} has {reserved} in the configuration, but asks {through}, where {cidr} is: its switch port is in the wrong VLAN, or it was plugged in elsewhere. Until then it gets addresses of {cidr} only");
    }

    /// What a client says that insists on an address of another network: where that network is, if it is one of ours.
    pub(super) fn is_of_another_network(&self, wanted: Ipv4Addr) -> String {
        let other = self.policy.subnet_of(wanted).and_then(|subnet| self.policy.subnets().get(subnet));
        match other {
            Some(subnet) => format!(
                "{wanted} is of {}, not of this network: it has moved, or its switch port is in the wrong VLAN",
                subnet.cidr
            ),
            None => format!("{wanted} is not of this network"),
        }
    }

    /// Another server's answer that was broadcast where this one gives the addresses.
    ///
    /// # Errors
    /// Always: there is nothing to answer.
    pub(crate) fn snooped(&mut self, incoming: &Incoming<'_>, now: Now) -> Reason {
        let Some(link) = self.tables.links.get(&incoming.ifindex) else { return Reason::NoLink };
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
        let name = self.policy.name(mac).unwrap_or_default();
        let interface =
            self.policy.port(incoming.ifindex).map_or_else(String::new, |(_, port)| port.name.clone());
        let instead =
            format!("stop it, or write dhcp = \"proxy\" for {interface} if it is to give the addresses");
        match kind {
            Some(message::NAK) if self.first(format!("{server} refused {mac}"), now) => {
                warn!(step = "other-server", %mac, name, %server, interface,
                    "another DHCP server, {server}, refused {mac} on {interface} (NAK), which therefore starts over: {instead}");
            }
            Some(message::OFFER | message::ACK) if self.first(format!("{server} gives addresses"), now) => {
                warn!(step = "other-server", %mac, name, %server, interface, address = %given,
                    "another DHCP server, {server}, gives {given} to {mac} on {interface}, where this one gives the addresses: {instead}");
            }
            _ => {}
        }
        Reason::NotOurs
    }
}
