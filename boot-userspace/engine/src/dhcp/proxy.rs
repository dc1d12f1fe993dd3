//! What needs no address from us: a proxy's offers, and the boot server on port 4011.

use std::net::Ipv4Addr;

use boot_common::class::{Class, Stage};
use boot_common::classify::client;
use boot_common::decide::{Destination, destination, message};
use boot_common::tables::{ANSWER_OPTIONS, Answer, AnswerKey};
use boot_common::wire::port;
use boot_common::{Mac, Reason};

use super::{Asked, Place};
use crate::Engine;
use crate::command::{Incoming, Now};
use crate::events::complaint::Complaint;
use crate::events::{LoaderProblem, Step};

impl Engine {
    /// The operating system of a machine that booted from here requests its address from the other server.
    pub(super) fn overhear(&mut self, incoming: &Incoming<'_>, now: Now) {
        let mac = client(&self.scratch.request);
        let Ok(&facts) = self.scratch.scan.finish() else { return };
        let address = Ipv4Addr::from(facts.requested);
        let is_request = facts.message == message::REQUEST && !address.is_unspecified();
        if is_request && self.machines.is_client(mac) {
            let (server, class) = (Ipv4Addr::from(facts.server_id), facts.class());
            let step = Step::TookElsewhere { address, server, class };
            self.happened_to(mac, incoming.ifindex, step, now);
        }
    }

    /// What a machine gets that needs no address from us.
    pub(super) fn without_address(&mut self, asked: &Asked<'_>, kind: u8) -> Result<Answer, Reason> {
        let class = asked.facts.class();
        let (position, _) = self.policy.link(asked.incoming.ifindex).ok_or(Reason::NoLink)?;
        let differences = asked.who.differences.clone();
        let set = self.set(position, None, Ipv4Addr::from(asked.link.address), differences);
        let key =
            AnswerKey { set, wanted: 0, class: class.answered_as().key(), message: kind, reserved: [0; 2] };
        if class.stage != Stage::Os && self.answers.has(key, &self.policy, &mut self.commands) {
            let prepared = self.answers.get(&key).copied();
            let prepared = prepared.or_else(|| self.answers.in_room(key, None, &self.policy, ANSWER_OPTIONS));
            return prepared.ok_or(Reason::NoAnswer);
        }
        self.complain(asked, class, None);
        Err(Reason::NoAnswer)
    }

    /// A proxy answers what the tables left open only for want of an entry. A REQUEST that it hears is for the other
    /// server, but tells which address the machine will have.
    pub(super) fn listen_in(&mut self, asked: Asked<'_>, reason: Reason) -> Result<(), Reason> {
        let address = Ipv4Addr::from(asked.facts.requested);
        if asked.facts.message == message::REQUEST && !address.is_unspecified() {
            self.machines.hear(address, asked.mac);
            let (server, class) = (Ipv4Addr::from(asked.facts.server_id), asked.facts.class());
            let step = Step::TookElsewhere { address, server, class };
            self.happened_to(asked.mac, asked.incoming.ifindex, step, asked.now);
        }
        // Not a PXE client, or not a DISCOVER: no case for a proxy.
        if !matches!(
            reason,
            Reason::UnknownHost | Reason::NoAnswer | Reason::OtherSubnet | Reason::SwitchPort
        ) || asked.facts.message != message::DISCOVER
            || !asked.facts.heeds_proxies()
        {
            return Err(reason);
        }
        self.put_proxied_stranger(asked.mac);
        let prepared = self.without_address(&asked, message::OFFER)?;
        let to = if asked.bootp.giaddr == [0; 4] {
            Destination { mac: Mac::BROADCAST, address: [255; 4], port: port::DHCP_CLIENT }
        } else {
            destination(&self.scratch.request, &asked.facts, [0; 4])?
        };
        self.write(asked, &prepared, None, [0; 4], [0; 4], to, Reason::Offered)
    }

    /// A request on port 4011 that the tables leave open: from an address the client does not name itself, or
    /// for a firmware kind without a loader.
    pub(super) fn boot_server(&mut self, asked: Asked<'_>) -> Result<(), Reason> {
        let prepared = self.without_address(&asked, message::BOOT_ACK)?;
        if asked.incoming.from.ip().is_unspecified() {
            return Err(Reason::PxeRequest);
        }
        let to = Destination {
            mac: asked.mac,
            address: asked.incoming.from.ip().octets(),
            port: asked.incoming.from.port(),
        };
        let ciaddr = asked.bootp.ciaddr;
        self.write(asked, &prepared, None, [0; 4], ciaddr, to, Reason::BootServer)
    }

    /// Tells of a machine whose loader is missing; the first one of each firmware kind within an hour is in the log.
    pub(super) fn complain(&mut self, asked: &Asked<'_>, class: Class, place: Option<Place>) {
        let Some(link) = self.policy.links().first() else { return };
        let subnet = place.and_then(|place| self.policy.subnets().get(place.subnet));
        if let Err(what) = self.policy.boot_file(class, link.http, &asked.who.differences, subnet) {
            let is_first = self.reports.is_first(Complaint::NoLoader(what.clone()), asked.now);
            let step = Step::Loader(LoaderProblem::Missing { what, is_first });
            self.happened_to(asked.mac, asked.incoming.ifindex, step, asked.now);
        }
    }
}
