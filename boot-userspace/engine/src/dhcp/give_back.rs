//! RELEASE and DECLINE: a machine gives its address back, or says that somebody else uses it (RFC 2131 sections 4.3.3 and
//! 4.3.4).
//!
//! Neither has an answer that the sender would have to receive, so anybody can send one in another machine's name. Both are
//! believed only from where the lease is, and what a DECLINE says is looked into first.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use boot_common::{Mac, Reason};

use super::Asked;
use super::probe::Pending;
use crate::Engine;
use crate::command::{Command, Now};
use crate::config::DhcpRole;
use crate::events::{Decline, Doubt, Given, Step};
use crate::leases::binding::{Binding, State};
use crate::leases::bindings::{QUARANTINE, RELEASE_HOLDS, pool_size};
use crate::leases::state::{HoldCause, LeaseState};
use crate::policy::ServedLink;

/// How many DECLINEs of one subnet on one interface are looked into within [`QUARANTINE`] seconds.
const MOST_DECLINES: u64 = 16;

/// What has been declined lately, by interface and subnet: the configuration bounds their number.
#[derive(Debug, Default)]
pub(crate) struct Declines(HashMap<(u32, usize), Lately>);

#[derive(Clone, Copy, Debug, Default)]
struct Lately {
    /// When counting began, in Unix seconds.
    since: u64,
    /// DECLINEs that were looked into.
    looked_into: u64,
    /// Addresses that are on hold because of them.
    held: u64,
}

impl Declines {
    /// Gives subnets other indices.
    pub(crate) fn renumber(&mut self, new: impl Fn(usize) -> Option<usize>) {
        let moved = self.0.drain().filter_map(|((link, old), lately)| Some(((link, new(old)?), lately)));
        self.0 = moved.collect();
    }

    fn lately(&mut self, ifindex: u32, subnet: usize, now: u64) -> &mut Lately {
        let lately = self.0.entry((ifindex, subnet)).or_default();
        if now >= lately.since + QUARANTINE {
            *lately = Lately { since: now, ..Lately::default() };
        }
        lately
    }

    /// Whether one more is looked into.
    fn admits(&mut self, ifindex: u32, subnet: usize, now: u64) -> bool {
        let lately = self.lately(ifindex, subnet, now);
        lately.looked_into += 1;
        lately.looked_into <= MOST_DECLINES
    }

    /// Whether one more address may be put on hold: of a pool of so many addresses, a quarter at most and one at least.
    fn may_hold(&mut self, ifindex: u32, subnet: usize, pool: u64, now: u64) -> bool {
        let lately = self.lately(ifindex, subnet, now);
        let may = lately.held < (pool / 4).max(1);
        lately.held += u64::from(may);
        may
    }
}

impl Engine {
    /// Has a declined address looked for on the network. The machine keeps it until the answer is there.
    pub(super) fn decline(&mut self, asked: &Asked<'_>) -> Result<(), Reason> {
        let address = Ipv4Addr::from(asked.facts.requested);
        let binding = self.bindings.with(asked.mac, address).ok_or(Reason::OtherAddress)?;
        self.given_back(asked, Given::Declined, &binding, Ipv4Addr::UNSPECIFIED)?;
        let (mac, ifindex) = (asked.mac, asked.incoming.ifindex);
        if self.probes.is_running(address) {
            return Err(Reason::Probing);
        }
        if !self.declines.admits(ifindex, binding.subnet, asked.now.seconds()) {
            self.happened_to(
                mac,
                ifindex,
                Step::Declined(address, Decline::TooMany { most: MOST_DECLINES }),
                asked.now,
            );
            return Err(Reason::NotBelieved);
        }
        let link = self.policy.link(ifindex);
        // With a relay in between too: only by ARP it is known who answers.
        let on_link = link.is_some_and(|(_, link)| self.is_on(link, binding.subnet));
        // Until then a machine that asks anew is the daemon's, which waits with its answer. What is reserved stays the machine's.
        if binding.state != State::Reserved {
            self.withdraw(mac, address);
        }
        self.probes.begin(address, Pending::of_decline(asked));
        self.commands.push(Command::Probe { ifindex, address, mac, on_link, own_answer_counts: true });
        Err(Reason::Released)
    }

    /// What the network said about a declined address.
    pub(super) fn declined(
        &mut self,
        mac: Mac,
        address: Ipv4Addr,
        ifindex: u32,
        in_use_by: Option<String>,
        now: Now,
    ) {
        let Some(binding) = self.bindings.with(mac, address) else { return };
        let is_in_use = in_use_by.is_some();
        let outcome = match in_use_by {
            Some(user) if user.parse() == Ok(mac) => Decline::OnlyItself,
            user if binding.state == State::Reserved => Decline::Reserved(user),
            Some(user) => {
                let pool = self.policy.subnets().get(binding.subnet).map_or(0, pool_size);
                match self.declines.may_hold(ifindex, binding.subnet, pool, now.seconds()) {
                    true => Decline::Taken(Some(user)),
                    false => Decline::Enough(user),
                }
            }
            None => Decline::Taken(None),
        };
        let is_taken = matches!(outcome, Decline::Taken(_));
        self.happened_to(mac, ifindex, Step::Declined(address, outcome), now);
        if !is_taken {
            return;
        }
        if is_in_use {
            self.bindings.quarantine(address, mac, HoldCause::Declined, now.seconds());
        }
        self.forget(mac, address);
        self.cards.lose(mac, binding.subnet, address);
        self.store_holds(mac, now);
    }

    pub(super) fn release(&mut self, asked: &Asked<'_>) -> Result<(), Reason> {
        let address = Ipv4Addr::from(asked.bootp.ciaddr);
        let Some(binding) = self.bindings.with(asked.mac, address) else {
            return self.release_resting(asked, address);
        };
        self.given_back(asked, Given::Released, &binding, address)?;
        self.happened_to(asked.mac, asked.incoming.ifindex, Step::Released(address), asked.now);
        if binding.state == State::Reserved {
            // The ACK that the kernel half gives to a machine which asks again is read before this.
            if self.promises.may_be_confirmed(asked.mac) {
                return Err(Reason::Released);
            }
            self.cards.set_claim(asked.mac, None);
        } else {
            // Where the kernel half has just confirmed the lease, that may have been after this was sent: then the
            // machine has the address for as long as it was promised.
            let hold = if self.promises.may_be_confirmed(asked.mac) {
                self.policy.subnets().get(binding.subnet).map_or(0, |subnet| subnet.lease.as_secs())
            } else {
                RELEASE_HOLDS
            };
            let state = State::Released(asked.now.seconds() + hold);
            self.bindings.put(asked.mac, Binding { state, ..binding });
        }
        self.persist(&asked.who, &binding, LeaseState::Released, asked.now.seconds(), asked.now);
        self.withdraw(asked.mac, address);
        if binding.state == State::Reserved {
            self.store_other_card(asked.mac, address, asked.now);
        }
        Err(Reason::Released)
    }

    /// The cards of a machine share its address, and the store has one lease of it: the other card that was promised it last
    /// keeps its own when this one gives the address back.
    fn store_other_card(&mut self, mac: Mac, address: Ipv4Addr, now: Now) {
        let Some(machine) = self.policy.machine(mac) else { return };
        let promised = |other: &Mac| {
            let until = self.promised_until(*other, address, now).filter(|until| *until > 0)?;
            Some((until, *other, self.bindings.with(*other, address)?))
        };
        let others = machine.macs.iter().filter(|other| **other != mac).filter_map(promised);
        let last = others.max_by_key(|(until, ..)| *until);
        if let Some((until, other, binding)) = last {
            self.store_again(other, &binding, until, now);
        }
    }

    /// The machine has another address by now than this one, which a reservation of another machine waits for.
    fn release_resting(&mut self, asked: &Asked<'_>, address: Ipv4Addr) -> Result<(), Reason> {
        let is_waited_for = self.is_waited_for(asked.mac, address, asked.now);
        let subnet = self.policy.subnet_of(address).filter(|_| is_waited_for).ok_or(Reason::OtherAddress)?;
        let binding = Binding { address, subnet, state: State::Idle };
        self.given_back(asked, Given::Released, &binding, address)?;
        self.happened_to(asked.mac, asked.incoming.ifindex, Step::Released(address), asked.now);
        self.give_up(asked.mac, address, asked.now);
        Err(Reason::Released)
    }

    /// Whether a message that gives a binding back is for us and comes from where the lease is. `source` is the address that
    /// its sender has: none where it broadcasts.
    fn given_back(
        &mut self,
        asked: &Asked<'_>,
        what: Given,
        binding: &Binding,
        source: Ipv4Addr,
    ) -> Result<(), Reason> {
        let server = Ipv4Addr::from(asked.facts.server_id);
        let overridden = asked.facts.server_override == asked.facts.server_id;
        if !server.is_unspecified() && !self.is_ours(server) && !overridden {
            return Err(Reason::OtherServer);
        }
        let Some(doubt) = self.doubt(asked, binding, source) else { return Ok(()) };
        let step = Step::NotBelieved(what, binding.address, doubt);
        self.happened_to(asked.mac, asked.incoming.ifindex, step, asked.now);
        Err(Reason::NotBelieved)
    }

    /// Why a message does not come from where the lease is.
    fn doubt(&self, asked: &Asked<'_>, binding: &Binding, source: Ipv4Addr) -> Option<Doubt> {
        if asked.facts.server_id == [0; 4] {
            return Some(Doubt::NamesNoServer);
        }
        // Looked at first, and with a relay too: anybody can invent a giaddr, but not the interface.
        let here = |link: &ServedLink| link.ifindex == asked.incoming.ifindex;
        let mut links = self.policy.links().iter().filter(|link| self.is_on(link, binding.subnet)).peekable();
        let is_remote = links.peek().is_none();
        if !is_remote && !links.any(here) {
            return Some(Doubt::OtherLink);
        }
        let from = *asked.incoming.from.ip();
        let giaddr = Ipv4Addr::from(asked.bootp.giaddr);
        if giaddr.is_unspecified() {
            if from != source {
                return Some(Doubt::Source { from, should: source });
            }
            // Behind routers: by its address alone it is known where it is.
            let is_nowhere = is_remote && source.is_unspecified();
            return is_nowhere.then_some(Doubt::NoRelay);
        }
        let selected = Ipv4Addr::from(asked.facts.link_selection);
        let selected = if selected.is_unspecified() { giaddr } else { selected };
        if self.policy.subnet_of(selected) != Some(binding.subnet) {
            return Some(Doubt::OtherRelay(giaddr));
        }
        // What a client broadcasts, a relay may send on from any address that it has.
        let is_believed = source.is_unspecified() || from == source || from == giaddr;
        (!is_believed).then_some(Doubt::SourceOrRelay { from, should: source, relay: giaddr })
    }

    /// Whether requests from a subnet come in on this interface without a relay.
    fn is_on(&self, link: &ServedLink, subnet: usize) -> bool {
        link.role == DhcpRole::Server && self.policy.direct(link).any(|(direct, _)| direct == subnet)
    }
}
