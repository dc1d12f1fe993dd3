//! The one owner of machines: who they are, what finds them, and which addresses they have.
//!
//! DHCP, TFTP, HTTP and the router advertisements ask here, and nobody else keeps a list. Machines are added, changed and
//! removed while others ask; what that costs does not depend on how many there are.
//!
//! [`Machines`] is shared by the thread of the packets and those of HTTP. The lock is held for a few look-ups in hash
//! tables, and what is found leaves as a counted reference: nobody waits for what another one does with it. Only the
//! thread of the packets writes, and only what is news: its own look-ups never wait, and news for no more than a look-up.

mod addresses;
pub(crate) mod identified;
mod identity;
mod index;
mod life;
mod lives;
mod ports;
mod recognition;
mod seen_ports;
#[cfg(test)]
mod tests;
mod watched;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use boot_common::Mac;

use crate::config::{Machine, PortSeen, RelayPort};
use addresses::Addresses;
use index::{Changes, Found, Index, bmc_mac};
use recognition::Recognitions;
use seen_ports::SeenPorts;

pub use addresses::MOST_UNKNOWN;
pub use identity::{Identities, Identity, NotAnIdentity};
pub use index::{ChangeError, ConflictError, Known, MachineId, Unique};
pub use life::Life;
pub use recognition::SECOND_RELAY;

/// A machine as logs name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its name in the configuration.
    pub name: Option<String>,
}

/// Who asks from an address, and about which machine: all that a request over HTTP needs to know, from one look-up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// The machine that has the address it asks from.
    pub client: Option<Client>,
    /// The machine that is meant: by the MAC that was said, else by that of the client, else by the UUID that was said.
    pub known: Option<Known>,
    /// The address that the machine that is meant has, if it is known and the asker has none of its addresses.
    pub elsewhere: Option<Ipv4Addr>,
    /// The switch port of the card that is meant, as a relay has named it, if that is kept.
    pub switch_port: Option<RelayPort>,
    /// The machine that has the address it asks from is the one that is meant: by its MAC, or by what it has shown by DHCP.
    pub is_itself: bool,
}

/// What became of machines that others were put in the place of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// The MACs that may be another machine's now, or the same one's with another configuration.
    pub touched: Vec<Mac>,
    /// The machines that stay who they are and have another configuration.
    pub changed: Vec<MachineId>,
    /// The machines of the registry that have something in common with them: what else they have waits.
    pub displaced: Vec<MachineId>,
}

/// All machines. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Machines(Arc<RwLock<State>>);

#[derive(Debug, Default)]
struct State {
    index: Index,
    /// Of the machines of the registry.
    lives: HashMap<MachineId, Life>,
    recognitions: Recognitions,
    addresses: Addresses,
    seen_ports: SeenPorts,
    watched: Option<Mac>,
}

impl Machines {
    /// These machines, in the order in which they are told from each other where a client shows something of two.
    ///
    /// # Errors
    /// Two of them have an identity or an address in common.
    pub fn new(machines: impl IntoIterator<Item = Arc<Machine>>) -> Result<Self, ConflictError> {
        let mut state = State::default();
        for machine in machines {
            state.add(machine)?;
        }
        Ok(Self(Arc::new(RwLock::new(state))))
    }

    /// Adds a machine. MACs of its own that were recognised as another machine's are not that one's any more.
    ///
    /// # Errors
    /// Another machine has one of its identities, or its address.
    pub fn add(&self, machine: Arc<Machine>) -> Result<MachineId, ConflictError> {
        self.write().add(machine)
    }

    /// Changes a machine, which stays the same one. Gives the MACs that may be another machine's now, or the same one's
    /// with another configuration.
    ///
    /// # Errors
    /// Another machine has one of its identities or its address, or it is not there any more. Nothing has changed.
    pub fn change(&self, id: MachineId, machine: Arc<Machine>) -> Result<Vec<Mac>, ChangeError> {
        self.write().change(id, machine)
    }

    /// Removes a machine. Gives the MACs that were its own; none if it was not there any more.
    pub fn remove(&self, id: MachineId) -> Option<Vec<Mac>> {
        self.write().remove(id)
    }

    /// Has these machines in the place of those of the configuration so far, all at once. Who has an identity that a machine
    /// had stays that machine. Machines of the registry stay, unless one of these has something that is theirs. No two of
    /// them may have anything in common, as [`Machines::new`] sees to.
    pub fn replace(&self, machines: &[Arc<Machine>]) -> Replaced {
        self.write().replace(machines)
    }

    /// A machine.
    #[must_use]
    pub fn get(&self, id: MachineId) -> Option<Arc<Machine>> {
        self.read().index.get(id).cloned()
    }

    /// Every machine, in the order in which they were added.
    #[must_use]
    pub fn all(&self) -> Vec<Known> {
        let mut all: Vec<Known> = {
            let state = self.read();
            state.index.all().filter_map(|(id, _)| state.known(id)).collect()
        };
        all.sort_unstable_by_key(|known| known.id);
        all
    }

    /// The machine with this MAC, or that the MAC was recognised as.
    #[must_use]
    pub fn by_mac(&self, mac: Mac) -> Option<Known> {
        let state = self.read();
        state.known(state.by_mac(mac)?)
    }

    /// The machine that an address is reserved for.
    #[must_use]
    pub fn by_reserved(&self, address: Ipv4Addr) -> Option<Known> {
        let state = self.read();
        state.known(state.index.by_address(address)?)
    }

    /// Whether a machine is configured with this MAC.
    #[must_use]
    pub fn is_named(&self, mac: Mac) -> bool {
        self.read().index.by_mac(mac).is_some()
    }

    /// Whether a machine's BMC has this MAC: it gets an address wherever it asks, and is no machine itself.
    #[must_use]
    pub fn is_bmc(&self, mac: Mac) -> bool {
        let state = self.read();
        state.by_mac(mac).is_none() && state.index.by_bmc(mac).is_some()
    }

    /// Whether any machine is known by its switch port.
    #[must_use]
    pub fn has_ports(&self) -> bool {
        self.read().index.has_ports()
    }

    /// Whether there is a machine whose MAC nobody knows beforehand.
    #[must_use]
    pub fn has_without_mac(&self) -> bool {
        self.read().index.has_without_mac()
    }

    /// Whether several MACs may have the same reserved address.
    #[must_use]
    pub fn shares_addresses(&self) -> bool {
        self.read().index.shares_addresses()
    }

    /// Recognises a machine by another identity than its MAC, and remembers the MAC until it is seen at another switch
    /// port. True when the MAC is another machine's now, or none's any more. `now` is in Unix seconds.
    pub fn recognise(&self, mac: Mac, shown: Identities<'_>, now: u64) -> bool {
        {
            let state = self.read();
            if state.index.by_mac(mac).is_some() || state.recognitions.is_old(mac, state.index.find(shown)) {
                return false;
            }
        }
        let State { index, recognitions, .. } = &mut *self.write();
        recognitions.show(mac, index.find(shown), shown.switch_port.is_some(), now)
    }

    /// Remembers from before a restart that a MAC was recognised by this identity, if a machine still has it. The
    /// operating system that has the MAC may not show it.
    pub fn remember(&self, mac: Mac, identity: &Identity) {
        let mut state = self.write();
        if let Some(found) = state.index.having(identity) {
            state.remember(mac, found);
        }
    }

    /// The machine that a MAC was recognised as by another identity.
    #[must_use]
    pub fn recognised(&self, mac: Mac) -> Option<MachineId> {
        self.read().recognitions.get(mac).map(|found| found.id)
    }

    /// The identity that a MAC was recognised by: what is to be [remembered](Self::remember).
    #[must_use]
    pub fn recognised_by(&self, mac: Mac) -> Option<Identity> {
        let state = self.read();
        let Found { id, by_port } = state.recognitions.get(mac)?;
        let machine = state.index.get(id)?;
        let port = || machine.relay_port.clone().map(Identity::SwitchPort);
        if by_port { port() } else { machine.uuid.map(Identity::Uuid) }
    }

    /// How many MACs were recognised.
    #[must_use]
    pub fn count_recognised(&self) -> usize {
        self.read().recognitions.len()
    }

    /// Forgets MACs that were recognised, unless they are to be kept: what they show next tells again who they are.
    pub fn forget_recognised(&self, is_kept: impl Fn(Mac) -> bool) {
        let forgotten: Vec<Mac> = self.read().recognitions.macs().filter(|mac| !is_kept(*mac)).collect();
        let State { recognitions, addresses, .. } = &mut *self.write();
        for mac in forgotten {
            recognitions.forget(mac);
            addresses.forget(mac);
        }
    }

    /// A MAC with the name of its machine, if it has one.
    #[must_use]
    pub fn client(&self, mac: Mac) -> Client {
        self.read().client(mac)
    }

    /// The machine that has this address.
    #[must_use]
    pub fn client_at(&self, address: impl Into<IpAddr>) -> Option<Client> {
        let state = self.read();
        Some(state.client(state.at(address.into())?))
    }

    /// Who asks from an address, and about which machine: what it says about its MAC and its UUID may be false.
    #[must_use]
    pub fn asker(&self, from: IpAddr, mac: Option<Mac>, uuid: Option<[u8; 16]>) -> Asker {
        let state = self.read();
        let at = state.at(from);
        let by_mac = mac.or(at).and_then(|mac| state.by_mac(mac));
        let by_uuid = || state.index.find(Identities { uuid, switch_port: None }).map(|found| found.id);
        // By its UUID last: another server may have given it its address.
        let known = by_mac.or_else(by_uuid).and_then(|id| state.known(id));
        let elsewhere = known.as_ref().and_then(|known| state.has_another_address(known, from));
        let switch_port = mac.or(at).and_then(|mac| state.seen_ports.get(mac).cloned());
        let is_itself = at
            .and_then(|mac| state.by_mac(mac))
            .is_some_and(|id| known.as_ref().is_some_and(|known| known.id == id));
        Asker { client: at.map(|mac| state.client(mac)), known, elsewhere, switch_port, is_itself }
    }

    /// Takes down at which switch port a MAC is, as a relay says. Gives the port where it was until now if it is back from
    /// there within minutes: two machines have it. `now` is in Unix seconds.
    pub fn see_port(&self, mac: Mac, port: PortSeen<'_>, now: u64) -> Option<RelayPort> {
        if self.read().seen_ports.is_old(mac, port, now) {
            return None;
        }
        self.write().seen_ports.put(mac, port, now)
    }

    /// The switch port at which a MAC was seen last.
    #[must_use]
    pub fn seen_port(&self, mac: Mac) -> Option<RelayPort> {
        self.read().seen_ports.get(mac).cloned()
    }

    /// True for a MAC that is configured or has asked to boot.
    #[must_use]
    pub fn is_client(&self, mac: Mac) -> bool {
        let state = self.read();
        state.index.by_mac(mac).is_some() || state.addresses.is_known(mac)
    }

    /// Takes down that a MAC is a client's.
    pub fn know(&self, mac: Mac) {
        self.write().addresses.know(mac);
    }

    /// Takes down that a MAC that may be an unknown machine's asked to boot.
    pub fn meet(&self, mac: Mac) {
        if !self.is_client(mac) {
            self.write().addresses.meet(mac);
        }
    }

    /// Takes down which address a MAC has from another server.
    pub fn hear(&self, address: Ipv4Addr, mac: Mac) {
        self.meet(mac);
        if !self.has(mac, address) {
            self.write().addresses.hear(address, mac);
        }
    }

    /// Takes down that a MAC has an address from here.
    pub fn put(&self, address: Ipv4Addr, mac: Mac) {
        if !self.has(mac, address) {
            self.write().addresses.put(address, mac);
        }
    }

    fn has(&self, mac: Mac, address: Ipv4Addr) -> bool {
        let state = self.read();
        state.addresses.at(address) == Some(mac) && state.addresses.last_of(mac) == Some(address)
    }

    /// Forgets a MAC that has no address any more and is no machine's.
    pub fn forget(&self, mac: Mac) {
        self.write().addresses.forget(mac);
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cards of a machine and of its BMC, as far as they are known.
fn cards(machine: &Machine) -> impl Iterator<Item = Mac> {
    machine.macs.iter().copied().chain(bmc_mac(machine))
}

impl State {
    fn add(&mut self, machine: Arc<Machine>) -> Result<MachineId, ConflictError> {
        let id = self.index.add(Arc::clone(&machine))?;
        self.claim(&machine);
        Ok(id)
    }

    fn change(&mut self, id: MachineId, machine: Arc<Machine>) -> Result<Vec<Mac>, ChangeError> {
        let before = self.index.change(id, Arc::clone(&machine))?;
        let mut touched: Vec<Mac> = self.recognitions.of(id).collect();
        for mac in &touched {
            let by_port = self.recognitions.get(*mac).is_some_and(|found| found.by_port);
            let is_kept =
                if by_port { before.relay_port == machine.relay_port } else { before.uuid == machine.uuid };
            if !is_kept {
                self.recognitions.forget(*mac);
            }
        }
        self.claim(&machine);
        touched.extend(cards(&before).chain(cards(&machine)));
        touched.sort_unstable();
        touched.dedup();
        Ok(touched)
    }

    fn replace(&mut self, machines: &[Arc<Machine>]) -> Replaced {
        let (mut replaced, mut waiting) = (Replaced::default(), Vec::new());
        for id in machines.iter().flat_map(|machine| self.index.holders(machine)).collect::<Vec<_>>() {
            let (machine, life) = (self.index.get(id).cloned(), self.lives.get(&id).cloned());
            if let (Some(machine), Some(life)) = (machine, life) {
                replaced.touched.extend(self.remove(id).unwrap_or_default());
                waiting.push((id, machine, life));
                replaced.displaced.push(id);
            }
        }
        let Changes { removed, changed, added } =
            self.index.compare(machines, |id| !self.lives.contains_key(&id));
        let gone = removed.iter().chain(changed.iter().map(|(id, _)| id));
        let before: Vec<(MachineId, Arc<Machine>)> =
            gone.filter_map(|id| Some((*id, self.index.remove(*id)?))).collect();
        for (id, machine) in &changed {
            self.index.put(*id, Arc::clone(machine));
        }
        for machine in added {
            replaced.touched.extend(cards(&machine));
            self.claim(&machine);
            self.index.put_new(machine);
        }
        for (id, before) in before {
            let now = self.index.get(id).cloned();
            for mac in self.recognitions.of(id).collect::<Vec<_>>() {
                let by_port = self.recognitions.get(mac).is_some_and(|found| found.by_port);
                let is_kept = now.as_ref().is_some_and(|now| {
                    if by_port { before.relay_port == now.relay_port } else { before.uuid == now.uuid }
                });
                if !is_kept {
                    self.recognitions.forget(mac);
                }
                replaced.touched.push(mac);
            }
            replaced.touched.extend(cards(&before));
            if let Some(now) = now {
                self.claim(&now);
                replaced.touched.extend(cards(&now));
                replaced.changed.push(id);
            }
        }
        for (id, machine, life) in waiting {
            // Until it is known what becomes of it, its other cards are no unknown machine's.
            let Some(rest) = self.index.rest(&machine, None) else { continue };
            self.index.put(id, Arc::new(rest));
            self.lives.insert(id, life.unserved("something of its is the configuration's"));
        }
        replaced.touched.sort_unstable();
        replaced.touched.dedup();
        replaced
    }

    fn remove(&mut self, id: MachineId) -> Option<Vec<Mac>> {
        let machine = self.index.remove(id)?;
        self.lives.remove(&id);
        let mut touched: Vec<Mac> = self.recognitions.of(id).collect();
        for mac in &touched {
            self.recognitions.forget(*mac);
        }
        touched.extend(cards(&machine));
        Some(touched)
    }

    /// Whatever a machine's own MACs were recognised as, they are this machine's.
    fn claim(&mut self, machine: &Machine) {
        for mac in &machine.macs {
            self.recognitions.forget(*mac);
        }
    }

    fn remember(&mut self, mac: Mac, found: Found) {
        if self.index.by_mac(mac).is_none() {
            self.recognitions.remember(mac, found);
        }
    }

    /// The MAC that has an address.
    fn at(&self, address: IpAddr) -> Option<Mac> {
        match address {
            IpAddr::V4(address) => self.addresses.at(address),
            IpAddr::V6(_) => None,
        }
    }

    fn by_mac(&self, mac: Mac) -> Option<MachineId> {
        self.index.by_mac(mac).or_else(|| Some(self.recognitions.get(mac)?.id))
    }

    fn known(&self, id: MachineId) -> Option<Known> {
        let machine = Arc::clone(self.index.get(id)?);
        Some(Known { id, machine, life: self.lives.get(&id).cloned() })
    }

    fn client(&self, mac: Mac) -> Client {
        let name = |id| self.index.get(id)?.name.clone();
        let name = match self.by_mac(mac) {
            Some(id) => name(id),
            None => self.bmc_name(mac),
        };
        Client { mac, name }
    }

    /// The address that a machine has, if it is known and `asker` is none of its addresses.
    fn has_another_address(&self, Known { id, machine, .. }: &Known, asker: IpAddr) -> Option<Ipv4Addr> {
        let has =
            |address: &Ipv4Addr| self.addresses.at(*address).is_some_and(|mac| self.by_mac(mac) == Some(*id));
        if matches!(asker, IpAddr::V4(asker) if has(&asker)) {
            return None;
        }
        let cards = machine.macs.iter().copied().chain(self.recognitions.of(*id));
        // None, or one that somebody else has by now, says nothing.
        cards.filter_map(|mac| self.addresses.last_of(mac)).find(has)
    }
}
