//! Waiting for the probe of an address before it is offered.

use std::net::{Ipv4Addr, SocketAddrV4};

use boot_common::classify::client;
use boot_common::decide::message;
use boot_common::respond::respond;
use boot_common::{Mac, Reason};
use tracing::warn;

use super::Asked;
use crate::engine::command::{Command, Incoming, Now};
use crate::engine::{Engine, packet};

/// How many addresses are tried for one machine before it is left to ask again.
const MOST_PROBES: u8 = 3;

/// A DISCOVER or REQUEST that waits for the probe of its address.
pub(in crate::engine) struct Pending {
    ifindex: u32,
    port: u16,
    from: SocketAddrV4,
    to: Ipv4Addr,
    payload: Vec<u8>,
    address: Ipv4Addr,
    tries: u8,
}

impl Pending {
    fn new(incoming: &Incoming<'_>, address: Ipv4Addr, tries: u8) -> Self {
        let Incoming { ifindex, port, from, to, payload } = *incoming;
        Self { ifindex, port, from, to, payload: payload.to_vec(), address, tries }
    }

    pub(super) fn update(&mut self, incoming: &Incoming<'_>) {
        *self = Self::new(incoming, self.address, self.tries);
    }

    fn with(&self, act: impl FnOnce(&Incoming<'_>)) {
        let Self { ifindex, port, from, to, payload, .. } = self;
        act(&Incoming { ifindex: *ifindex, port: *port, from: *from, to: *to, payload });
    }
}

impl Engine {
    /// Has the new address looked for on the network before it is offered (RFC 2131 section 3.1 step 2).
    pub(super) fn probe(&mut self, asked: &Asked<'_>) -> Result<(), Reason> {
        let binding = self.bindings.get(asked.mac).ok_or(Reason::PoolExhausted)?;
        let on_link = asked.request.bootp.giaddr == [0; 4];
        let ifindex = asked.incoming.ifindex;
        let (mac, address) = (asked.mac, binding.address);
        let tries = self.probing.get(&mac).map_or(0, |pending| pending.tries);
        self.probing.insert(mac, Pending::new(asked.incoming, address, tries + 1));
        self.commands.push(Command::Probe { ifindex, address, mac, on_link });
        Err(Reason::Probing)
    }

    /// Whether it is not known yet if somebody else uses this address, which the machine is to have.
    pub(super) fn is_probed(&self, mac: Mac, address: Ipv4Addr) -> bool {
        self.probing.get(&mac).is_some_and(|pending| pending.address == address)
    }

    /// A machine has spoken again while its address is looked for: the answer will be to its latest word.
    pub(super) fn wait_for_probe(&mut self, asked: &Asked<'_>) -> Result<(), Reason> {
        if let Some(pending) = self.probing.get_mut(&asked.mac) {
            pending.update(asked.incoming);
        }
        Err(Reason::Probing)
    }

    /// What the probe of an address for a machine found.
    pub fn probed(&mut self, mac: Mac, address: Ipv4Addr, in_use_by: Option<String>, now: Now) {
        let Some(pending) = self.probing.remove(&mac).filter(|pending| pending.address == address) else {
            return;
        };
        if let Some(who) = &in_use_by {
            warn!(step = "probe", by = "daemon", %mac, %address,
                "{address} is used by {who} although nobody got it from here: it rests, find out who gave it");
            // It may have been recognised meanwhile, and have another one.
            if self.bindings.get(mac).is_some_and(|binding| binding.address == address) {
                self.forget(mac);
            }
            self.bindings.quarantine(address, mac, now.seconds());
            self.store_rests(mac, now);
        }
        pending.with(|incoming| {
            if let Err(reason) = self.after_probe(incoming, &pending, in_use_by.is_some(), now) {
                self.count(reason);
            }
        });
    }

    /// Answers with the address settled, or tries the next one.
    fn after_probe(
        &mut self,
        incoming: &Incoming<'_>,
        pending: &Pending,
        in_use: bool,
        now: Now,
    ) -> Result<(), Reason> {
        let link = self.tables.links.get(&incoming.ifindex).copied().ok_or(Reason::NoLink)?;
        let frame = packet::frame(incoming, &link).ok_or(Reason::TooLong)?;
        let mut copy = frame.clone();
        match respond(&mut copy, &mut self.scratch, &self.tables, incoming.ifindex, || now.nanos()) {
            Ok(answered) => {
                self.finish(incoming, &link, copy, answered);
                return Ok(());
            }
            Err(Reason::Overload | Reason::SplitOption) => return Err(Reason::Overload),
            Err(_) => {}
        }
        let request = Box::new(self.scratch.request);
        let facts = *self.scratch.walk.finish()?;
        let mac = client(&request);
        let asked = Asked { incoming, link, frame, facts, mac, request, now };
        let place = self.place(&asked)?;
        if facts.message == message::REQUEST {
            if in_use {
                let why = format!("{} is in use by somebody else", pending.address);
                return self.refuse(asked, place, &why);
            }
            return self.request(asked);
        }
        if !in_use {
            return self.offer(asked, place);
        }
        if pending.tries >= MOST_PROBES {
            return Err(Reason::Probing);
        }
        let (place, is_new) = self.bind(&asked, place)?;
        if !is_new {
            return self.offer(asked, place);
        }
        let result = self.probe(&asked);
        if let Some(next) = self.probing.get_mut(&mac) {
            next.tries = pending.tries + 1;
        }
        result
    }
}
