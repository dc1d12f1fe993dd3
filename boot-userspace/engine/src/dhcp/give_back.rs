//! RELEASE and DECLINE: a machine gives its address back, or says that somebody else uses it (RFC 2131 sections 4.3.3 and
//! 4.3.4).
//!
//! Neither has an answer that the sender would have to receive, so anybody can send one in another machine's name. Both are
//! believed only from where the lease is, and what a DECLINE says is looked into first.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use boot_common::{Mac, Reason};
use tracing::{info, warn};

use super::Asked;
use super::probe::Pending;
use crate::Engine;
use crate::binding::{Binding, State};
use crate::bindings::{QUARANTINE, RELEASE_HOLDS, pool_size};
use crate::command::{Command, Now};
use crate::config::DhcpRole;
use crate::policy::Port;
use crate::record::LeaseState;

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
    /// Addresses that rest because of them.
    held: u64,
}

impl Declines {
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

    /// Whether one more address may rest: of a pool of so many addresses, a quarter at most and one at least.
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
        let binding = self.given_back(asked, "DECLINE", address, Ipv4Addr::UNSPECIFIED)?;
        let (mac, ifindex) = (asked.mac, asked.incoming.ifindex);
        if self.probing.contains_key(&address) {
            return Err(Reason::Probing);
        }
        if !self.declines.admits(ifindex, binding.subnet, asked.now.seconds()) {
            warn!(step = "decline", by = "daemon", %mac, %address,
                "{mac} declines {address}, and keeps it: {MOST_DECLINES} addresses of its subnet were declined within 10 minutes, and more of these are ignored. Find out who uses addresses of the pool, or who forges DECLINEs");
            return Err(Reason::NotBelieved);
        }
        let port = self.policy.port(ifindex);
        // With a relay in between too: only by ARP it is known who answers.
        let on_link = port.is_some_and(|(_, port)| self.is_on(port, binding.subnet));
        // Until then a machine that asks anew is the daemon's, which waits with its answer.
        self.withdraw(mac, address);
        self.probing.insert(address, Pending::of_decline(asked));
        self.commands.push(Command::Probe { ifindex, address, mac, on_link, own_answer_counts: true });
        Err(Reason::Released)
    }

    /// What the network said about a declined address.
    pub(super) fn declined(
        &mut self,
        mac: Mac,
        address: Ipv4Addr,
        ifindex: u32,
        in_use_by: Option<&str>,
        now: Now,
    ) {
        let Some(binding) = self.bindings.with(mac, address) else { return };
        let client = self.policy.client(mac);
        let name = client.name.as_deref().unwrap_or("");
        if in_use_by.and_then(|user| user.parse().ok()) == Some(mac) {
            warn!(step = "decline", by = "daemon", %mac, name, %address,
                "{address} stays {mac}'s: a DECLINE said that somebody else uses it, but only {mac} does. Somebody forges DECLINEs, or the machine's firmware and its operating system use the address at once");
            return;
        }
        let user = in_use_by.unwrap_or("nobody that answers");
        if binding.state == State::Reserved {
            warn!(step = "decline", by = "daemon", %mac, name, %address,
                "{address} is in use by somebody else, says {mac}, for which it is reserved. Found there: {user}. Find who has it (arping {address})");
            return;
        }
        if in_use_by.is_some() {
            let pool = self.policy.subnets().get(binding.subnet).map_or(0, pool_size);
            if !self.declines.may_hold(ifindex, binding.subnet, pool, now.seconds()) {
                warn!(step = "decline", by = "daemon", %mac, name, %address,
                    "{address} stays {mac}'s although it was declined and {user} has it: a quarter of the pool rests already because of DECLINEs. Find out who uses addresses of the pool, or who forges DECLINEs");
                return;
            }
            self.bindings.quarantine(address, mac, now.seconds());
        }
        let fate = if in_use_by.is_some() { "It rests for 10 minutes" } else { "It stays in the pool" };
        warn!(step = "decline", by = "daemon", %mac, name, %address,
            "{address} is in use by somebody else, says {mac}, which gets another one. Found there: {user}. {fate}; find who has it (arping {address})");
        self.forget(mac, address);
        self.unfit.insert((mac, binding.subnet), address);
        self.store_holds(mac, now);
    }

    pub(super) fn release(&mut self, asked: &Asked<'_>) -> Result<(), Reason> {
        let address = Ipv4Addr::from(asked.request.bootp.ciaddr);
        let binding = self.given_back(asked, "RELEASE", address, address)?;
        info!(step = "release", by = "daemon", mac = %asked.mac, %address, "gave {address} back");
        if binding.state == State::Reserved {
            self.held.remove(&asked.mac);
        } else {
            // Where the kernel half has just confirmed the lease, that may have been after this was sent: then the
            // machine has the address for as long as it was promised.
            let hold = if self.confirmed.has(asked.mac) {
                self.policy.subnets().get(binding.subnet).map_or(0, |subnet| subnet.lease.as_secs())
            } else {
                RELEASE_HOLDS
            };
            let state = State::Released(asked.now.seconds() + hold);
            self.bindings.put(asked.mac, Binding { state, ..binding });
        }
        self.persist(asked.mac, &binding, LeaseState::Released, asked.now.seconds(), asked.now);
        self.withdraw(asked.mac, address);
        Err(Reason::Released)
    }

    /// The binding that a message gives back, if it is for us and comes from where the lease is. `source` is the address
    /// that its sender has: none where it broadcasts.
    fn given_back(
        &self,
        asked: &Asked<'_>,
        what: &str,
        address: Ipv4Addr,
        source: Ipv4Addr,
    ) -> Result<Binding, Reason> {
        let binding = self.bindings.with(asked.mac, address).ok_or(Reason::OtherAddress)?;
        let server = Ipv4Addr::from(asked.facts.server_id);
        let overridden = asked.facts.server_override == asked.facts.server_id;
        if !server.is_unspecified() && !self.is_ours(server) && !overridden {
            return Err(Reason::OtherServer);
        }
        let Some(why) = self.doubt(asked, &binding, source) else { return Ok(binding) };
        let mac = asked.mac;
        warn!(step = "not-believed", by = "daemon", %mac, %address,
            "a {what} of {address} in the name of {mac} is ignored: {why}. If {mac} did not send it, somebody else forges it");
        Err(Reason::NotBelieved)
    }

    /// Why a message does not come from where the lease is.
    fn doubt(&self, asked: &Asked<'_>, binding: &Binding, source: Ipv4Addr) -> Option<String> {
        if asked.facts.server_id == [0; 4] {
            return Some("it names no server (option 54)".to_owned());
        }
        // Looked at first, and with a relay too: anybody can invent a giaddr, but not the interface.
        let here = |port: &Port| port.ifindex == asked.incoming.ifindex;
        let mut ports = self.policy.ports().iter().filter(|port| self.is_on(port, binding.subnet)).peekable();
        let is_remote = ports.peek().is_none();
        if !is_remote && !ports.any(here) {
            return Some("it came in on an interface that the subnet of the lease is not on".to_owned());
        }
        let from = *asked.incoming.from.ip();
        let giaddr = Ipv4Addr::from(asked.request.bootp.giaddr);
        if giaddr.is_unspecified() {
            if from != source {
                return Some(format!("it comes from {from}, and should come from {source}"));
            }
            // Behind routers: by its address alone it is known where it is.
            let is_nowhere = is_remote && source.is_unspecified();
            return is_nowhere
                .then(|| "the subnet of the lease is behind relays, and none sent it on".to_owned());
        }
        let selected = Ipv4Addr::from(asked.facts.link_selection);
        let selected = if selected.is_unspecified() { giaddr } else { selected };
        if self.policy.subnet_of(selected) != Some(binding.subnet) {
            return Some(format!("relay {giaddr} is not in the subnet of the lease"));
        }
        // What a client broadcasts, a relay may send on from any address that it has.
        let is_believed = source.is_unspecified() || from == source || from == giaddr;
        (!is_believed)
            .then(|| format!("it comes from {from}, and should come from {source} or relay {giaddr}"))
    }

    /// Whether requests from a subnet come in on this interface without a relay.
    fn is_on(&self, port: &Port, subnet: usize) -> bool {
        port.role == DhcpRole::Server && self.policy.direct(port).any(|(direct, _)| direct == subnet)
    }
}
