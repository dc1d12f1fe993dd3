//! Recognising machines by other identities than their MAC.

use boot_common::Mac;
use boot_common::facts::{Facts, Span};
use boot_common::frame::Bytes;

use crate::Engine;
use crate::command::Now;
use crate::config::RelayPort;
use crate::events::{Conflict, Meanwhile, Recognition, Shared, Step};
use crate::leases::binding::{Binding, State};
use crate::machines::{Identities, Identity};

/// How many cards are remembered that were recognised and have no address from here.
const MOST_WITHOUT_ADDRESS: usize = 1024;

impl Engine {
    /// Recognises a machine by its UUID or its switch port, and gives it the address that is reserved for it.
    pub(super) fn recognise(&mut self, mac: Mac, facts: &Facts, frame: &Bytes, ifindex: u32, now: Now) {
        let uuid = bytes(frame, facts.guid).and_then(|guid| guid.get(3..19)?.try_into().ok());
        let relay = bytes(frame, facts.relay).and_then(|option| option.get(2..)).unwrap_or_default();
        let circuit = sub_option(relay, 1);
        let switch_port = circuit.map(|circuit| (circuit, sub_option(relay, 2)));
        if let Some(port) = switch_port
            && let Some(other) = self.machines.see_port(mac, port, now.seconds())
        {
            let own = RelayPort { circuit_id: port.0.to_vec(), remote_id: port.1.map(<[u8]>::to_vec) };
            let ports = [other, own].map(|port| Identity::SwitchPort(port).to_string().into());
            let conflict = Conflict { what: Shared::Ports(ports), meanwhile: Meanwhile::Nothing };
            self.happened_to(mac, ifindex, Step::Conflict(Box::new(conflict)), now);
        }
        if !self.machines.recognise(mac, Identities { uuid, switch_port }, now.seconds()) {
            return;
        }
        self.leave_reserved(mac, now);
        let client = self.policy.client(mac);
        self.machines.know(mac);
        self.store_identity(mac, now);
        let is_known = self.policy.machine(mac).is_some();
        let step = if is_known { Recognition::Known } else { Recognition::AtAnotherPort };
        self.happened_to(client.clone(), ifindex, Step::Recognised(step), now);
        let reserved = self.policy.reserved(mac);
        if let Some(address) = reserved
            && let Some(subnet) = self.policy.subnet_of(address)
        {
            if let Some(holder) = self.kept_for_another(mac, address, now) {
                let step = Step::Recognised(Recognition::StillLeased { address, holder });
                return self.happened_to(client, ifindex, step, now);
            }
            if let Some(holder) = self.bindings.owner(address).filter(|other| *other != mac) {
                let step = Step::Recognised(Recognition::TakenFrom { address, holder });
                self.happened_to(client, ifindex, step, now);
                self.forget(holder, address);
            }
            self.bindings.put(mac, Binding { address, subnet, state: State::Reserved });
            self.drop_stale_entry(mac);
        }
    }
}

impl Engine {
    /// Forgets which machine cards are that have no address from here. Behind one port there may be any number of them.
    pub(crate) fn forget_cards(&mut self) {
        if self.machines.count_recognised() > 2 * self.bindings.len() + MOST_WITHOUT_ADDRESS {
            let bindings = &self.bindings;
            self.machines.forget_recognised(|mac| bindings.has(mac));
        }
    }

    /// Who is another machine now has lost what is reserved for the one it was. Anybody can say in its name that it is: what it
    /// was promised stays so.
    fn leave_reserved(&mut self, mac: Mac, now: Now) {
        let reserved = self.policy.reserved(mac);
        let is_lost =
            |binding: &Binding| binding.state == State::Reserved && reserved != Some(binding.address);
        let lost: Vec<Binding> = self.bindings.of(mac).filter(is_lost).collect();
        for binding in lost {
            let until = self.promised_until(mac, binding.address, now).unwrap_or(0);
            self.forget(mac, binding.address);
            self.cards.lose(mac, binding.subnet, binding.address);
            if until > 0 && self.bindings.owner(binding.address).is_none() {
                self.bindings.hold_promised(binding.address, mac, until);
            }
        }
        self.store_holds(mac, now);
    }

    /// Stores anew what a machine was promised, with what it was recognised by: the kernel half may renew the lease for a
    /// while, and a restart in between must find it.
    fn store_identity(&mut self, mac: Mac, now: Now) {
        let promised = |binding: &Binding| match binding.state {
            State::Leased(until) if until > now.seconds() => Some((*binding, until)),
            _ => None,
        };
        let promised: Vec<(Binding, u64)> =
            self.bindings.of(mac).filter_map(|binding| promised(&binding)).collect();
        for (binding, until) in promised {
            self.store_again(mac, &binding, until, now);
        }
    }

    /// Leaves what is reserved for a machine to the card that it was recognised by, unless it is configured with that.
    pub(crate) fn hold(&mut self, mac: Mac, is_named: bool, binding: &Binding, until: u64) {
        if binding.state == State::Reserved && !is_named {
            self.cards.claim(mac, until);
        }
    }
}

/// A whole option of the request.
pub(super) fn bytes(frame: &Bytes, span: Span) -> Option<&[u8]> {
    let start = usize::try_from(span.offset).ok()?;
    let end = start + usize::try_from(span.length).ok()?;
    frame.0.get(start..end).filter(|bytes| !bytes.is_empty())
}

/// A sub-option of option 82.
pub(super) fn sub_option(mut rest: &[u8], wanted: u8) -> Option<&[u8]> {
    while let [code, length, tail @ ..] = rest {
        let (value, next) = tail.split_at_checked(usize::from(*length))?;
        if *code == wanted {
            return Some(value);
        }
        rest = next;
    }
    None
}
