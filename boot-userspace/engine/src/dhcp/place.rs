//! Where a client is in the network.

use std::net::Ipv4Addr;

use boot_common::Reason;
use boot_common::decide::{is_station, writes_to_us};

use super::Asked;
use crate::Engine;
use crate::events::complaint::Complaint;
use crate::events::{NoSubnet, Step};
use crate::leases::binding::{Binding, State};
use crate::policy::ServedLink;

/// Where a client is in the network.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) subnet: usize,
    pub(super) server: Ipv4Addr,
    pub(super) set: u32,
}

impl Engine {
    /// Finds the subnet a client is on, and prepares its answers.
    pub(super) fn place(&mut self, asked: &Asked<'_>) -> Result<Place, Reason> {
        let giaddr = Ipv4Addr::from(asked.bootp.giaddr);
        let (position, link) = self.policy.link(asked.incoming.ifindex).ok_or(Reason::NoLink)?;
        let found = if giaddr.is_unspecified() {
            self.on_link(asked, link)
        } else if !self.is_possible_relay(giaddr) {
            return Err(Reason::BadRelay);
        } else {
            let selected = Ipv4Addr::from(asked.facts.link_selection);
            let selected = if selected.is_unspecified() { giaddr } else { selected };
            self.policy.subnet_of(selected).map(|subnet| (subnet, Ipv4Addr::from(asked.link.address)))
        };
        if let Some((subnet, server)) = found {
            return Ok(self.placed(asked, position, subnet, server));
        }
        let selects = Ipv4Addr::from(asked.facts.link_selection);
        let selects = if selects.is_unspecified() { giaddr } else { selects };
        let (complaint, place) = if giaddr.is_unspecified() {
            (Complaint::NoSubnetOn(link.ifindex), NoSubnet::OnLink)
        } else {
            let from = *asked.incoming.from.ip();
            let complaint = Complaint::NoSubnetBehind { relay: giaddr, selects };
            (complaint, NoSubnet::Behind { relay: giaddr, selects, from, station: None })
        };
        if self.reports.is_first(complaint, asked.now) {
            self.happened_to(asked.mac, asked.incoming.ifindex, Step::NoSubnet(place), asked.now);
        }
        Err(Reason::NoSubnet)
    }

    /// Whether a relay may have this address: it is neither this server's own, nor a subnet's own or broadcast address. The
    /// kernel half knows one address of this server and one subnet of a machine.
    fn is_possible_relay(&self, giaddr: Ipv4Addr) -> bool {
        let subnet = self.policy.subnet_of(giaddr).and_then(|subnet| self.policy.subnets().get(subnet));
        let is_station =
            subnet.is_none_or(|subnet| is_station(giaddr.octets(), subnet.cidr.netmask().octets()));
        is_station && !self.is_ours(giaddr)
    }

    /// The subnet of a client that no relay speaks for, and our address in it. Where the interface has several: that of
    /// the address it has there, the most firmly bound one if there are several, of the one that is reserved for it, of the
    /// one it asks for, else the first.
    fn on_link(&self, asked: &Asked<'_>, link: &ServedLink) -> Option<(usize, Ipv4Addr)> {
        let here = |subnet: usize| self.policy.direct(link).find(|(other, _)| *other == subnet);
        if writes_to_us(&self.scratch.request, &asked.link)
            && let Some(own) = self.policy.subnet_of(Ipv4Addr::from(asked.bootp.ciaddr))
        {
            return here(own).or(Some((own, Ipv4Addr::from(asked.link.address))));
        }
        let of = |address: Ipv4Addr| self.policy.subnet_of(address).and_then(here);
        // It may have several here: behind a relay on the same wire it got another one, for example.
        let firmly = |binding: &Binding| match binding.state {
            _ if binding.address == asked.wanted() => 4,
            _ if binding.is_free(asked.now.seconds()) => 0,
            State::Idle | State::Offered(_) => 1,
            State::Reserved => 2,
            State::Leased(_) | State::Released(_) => 3,
        };
        let bound = self.bindings.of(asked.mac).filter(|binding| here(binding.subnet).is_some());
        bound
            .max_by_key(firmly)
            .and_then(|binding| here(binding.subnet))
            .or_else(|| asked.who.reserved().and_then(of))
            .or_else(|| of(asked.wanted()))
            .or_else(|| self.policy.direct(link).next())
    }

    /// The subnets that a client may as well be given an address of: they are on the same wire.
    pub(super) fn others_on_link(&mut self, asked: &Asked<'_>, but: Place) -> Vec<Place> {
        let Some((position, link)) = self.policy.link(asked.incoming.ifindex) else { return Vec::new() };
        if asked.bootp.giaddr != [0; 4] {
            return Vec::new();
        }
        let others: Vec<(usize, Ipv4Addr)> =
            self.policy.direct(link).filter(|(subnet, _)| *subnet != but.subnet).collect();
        others.into_iter().map(|(subnet, server)| self.placed(asked, position, subnet, server)).collect()
    }

    fn placed(&mut self, asked: &Asked<'_>, position: usize, subnet: usize, server: Ipv4Addr) -> Place {
        let set = self.set(position, Some(subnet), server, asked.who.differences.clone());
        Place { subnet, server, set }
    }
}
