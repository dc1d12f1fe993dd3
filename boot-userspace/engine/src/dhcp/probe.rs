//! Waiting for the probe of an address before it is offered.

use std::net::{Ipv4Addr, SocketAddrV4};

use boot_common::classify::client;
use boot_common::decide::message;
use boot_common::respond::respond;
use boot_common::{Mac, Reason};

use super::{Asked, Place};
use crate::Engine;
use crate::answers::entries::Tables;
use crate::command::{Command, Incoming, Now};
use crate::dhcp::packet;
use crate::events::Step;
use crate::leases::state::HoldCause;
use crate::maps::HashMap;

/// How many addresses are tried for one machine before it is left to ask again.
const MOST_PROBES: u8 = 3;

/// What waits for the probe of an address: a machine's latest word.
pub(crate) struct Pending {
    ifindex: u32,
    port: u16,
    from: SocketAddrV4,
    to: Ipv4Addr,
    payload: Vec<u8>,
    mac: Mac,
    /// The probe looks into a DECLINE; otherwise the address is new to the machine.
    is_declined: bool,
    tries: u8,
}

impl Pending {
    fn new(asked: &Asked<'_>, is_declined: bool, tries: u8) -> Self {
        let Incoming { ifindex, port, from, to, payload } = *asked.incoming;
        Self { ifindex, port, from, to, payload: payload.to_vec(), mac: asked.mac, is_declined, tries }
    }

    pub(super) fn of_decline(asked: &Asked<'_>) -> Self {
        Self::new(asked, true, 0)
    }

    fn update(&mut self, asked: &Asked<'_>) {
        *self = Self::new(asked, self.is_declined, self.tries);
    }

    fn with(&self, act: impl FnOnce(&Incoming<'_>)) {
        let Self { ifindex, port, from, to, payload, .. } = self;
        act(&Incoming { ifindex: *ifindex, port: *port, from: *from, to: *to, payload });
    }
}

/// The addresses that are being looked for on the network, each for one machine.
#[derive(Default)]
pub(crate) struct Probes(HashMap<Ipv4Addr, Pending>);

impl Probes {
    /// Begins to look for an address.
    pub(super) fn begin(&mut self, address: Ipv4Addr, pending: Pending) {
        self.0.insert(address, pending);
    }

    /// Whether an address is looked for, for whatever machine.
    pub(super) fn is_running(&self, address: Ipv4Addr) -> bool {
        self.0.contains_key(&address)
    }

    fn is_for(&self, mac: Mac, address: Ipv4Addr) -> bool {
        self.0.get(&address).is_some_and(|pending| pending.mac == mac)
    }

    /// Has the answer be to the machine's latest word.
    fn update(&mut self, address: Ipv4Addr, asked: &Asked<'_>) {
        if let Some(pending) = self.0.get_mut(&address) {
            pending.update(asked);
        }
    }

    /// What waits for a machine's address, which is looked for no longer.
    fn end(&mut self, mac: Mac, address: Ipv4Addr) -> Option<Pending> {
        if self.is_for(mac, address) { self.0.remove(&address) } else { None }
    }
}

impl Engine {
    /// Has the machine's new address looked for on the network before it is offered (RFC 2131 section 3.1 step 2).
    pub(super) fn probe(&mut self, asked: &Asked<'_>, place: Place, tries: u8) -> Result<(), Reason> {
        let binding = self.bindings.get(asked.mac, place.subnet).ok_or(Reason::PoolExhausted)?;
        let on_link = asked.bootp.giaddr == [0; 4];
        let (ifindex, mac, address) = (asked.incoming.ifindex, asked.mac, binding.address);
        self.probes.begin(address, Pending::new(asked, false, tries));
        self.commands.push(Command::Probe { ifindex, address, mac, on_link, own_answer_counts: false });
        Err(Reason::Probing)
    }

    /// Whether it is not known yet if somebody else uses this address, which the machine is to have.
    pub(crate) fn is_probed(&self, mac: Mac, address: Ipv4Addr) -> bool {
        self.probes.is_for(mac, address)
    }

    /// A machine's address is looked for no longer.
    pub(crate) fn stop_probe(&mut self, mac: Mac, address: Ipv4Addr) {
        self.probes.end(mac, address);
    }

    /// A machine has spoken again while its address is looked for: the answer will be to its latest word.
    pub(super) fn wait_for_probe(&mut self, asked: &Asked<'_>, address: Ipv4Addr) -> Result<(), Reason> {
        self.probes.update(address, asked);
        Err(Reason::Probing)
    }

    /// What the probe of an address for a machine found.
    pub fn probed(&mut self, mac: Mac, address: Ipv4Addr, in_use_by: Option<String>, now: Now) {
        let Some(pending) = self.probes.end(mac, address) else { return };
        if pending.is_declined {
            self.declined(mac, address, pending.ifindex, in_use_by, now);
        } else if let Some(user) = in_use_by {
            self.happened_to(mac, pending.ifindex, Step::AddressInUse { address, user }, now);
            // It may have been recognised meanwhile, and have another one.
            if let Some(binding) = self.bindings.with(mac, address) {
                self.forget(mac, address);
                self.cards.lose(mac, binding.subnet, address);
            }
            self.bindings.quarantine(address, mac, HoldCause::InUse, now.seconds());
            self.store_holds(mac, now);
        }
        pending.with(|incoming| {
            if let Err(reason) = self.after_probe(incoming, address, pending.tries, now) {
                self.dropped(reason, incoming, now);
                self.count(reason);
            }
        });
    }

    /// Answers with the address settled, or tries the next one.
    fn after_probe(
        &mut self,
        incoming: &Incoming<'_>,
        address: Ipv4Addr,
        tries: u8,
        now: Now,
    ) -> Result<(), Reason> {
        let link = self.entries.link(incoming.ifindex).copied().ok_or(Reason::NoLink)?;
        let mut frame = packet::frame(incoming, &link).ok_or(Reason::TooLong)?;
        let tables = Tables { entries: &self.entries, answers: &self.answers };
        match respond(&mut frame, &mut self.scratch, &tables, incoming.ifindex, || now.nanos()) {
            Ok(answered) => {
                self.answered_from_tables(incoming, &link, frame, answered, now);
                return Ok(());
            }
            Err(Reason::Overload | Reason::SplitOption) => return Err(Reason::Overload),
            Err(_) => {}
        }
        let bootp = self.scratch.request.bootp;
        let facts = *self.scratch.scan.finish()?;
        let mac = client(&self.scratch.request);
        let who = self.policy.requester(mac);
        let asked = Asked { incoming, link, frame, facts, mac, who, bootp, now };
        match facts.message {
            message::DISCOVER => {}
            message::REQUEST => return self.request(asked),
            // A machine that has declined its address and has not asked for another one yet.
            _ => return Err(Reason::Released),
        }
        let place = self.place(&asked)?;
        if self.bindings.with(mac, address).is_some() {
            return self.offer(asked, place);
        }
        if tries >= MOST_PROBES {
            return Err(Reason::Probing);
        }
        let (place, is_new) = self.bind(&asked, place)?;
        if is_new {
            return self.probe(&asked, place, tries + 1);
        }
        self.offer(asked, place)
    }
}
