//! The machines of the registry among all machines: they have a [`Life`], and they change while others ask.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use boot_common::Mac;

use super::Machines;
use super::identity::Identity;
use super::index::{ChangeError, ConflictError, MachineId};
use super::life::Life;
use crate::config::Machine;
use crate::lifecycle::State;

impl Machines {
    /// Adds a machine of the registry, or changes one, which stays the same one. Gives the MACs that may be another
    /// machine's now, or the same one's with another configuration or state.
    ///
    /// # Errors
    /// Another machine has one of its identities or its address, or it is not there any more. Nothing has changed.
    pub fn put_alive(
        &self,
        id: Option<MachineId>,
        machine: Arc<Machine>,
        life: Life,
    ) -> Result<(MachineId, Vec<Mac>), ChangeError> {
        let mut state = self.write();
        let (id, touched) = match id {
            Some(id) => (id, state.change(id, machine)?),
            None => {
                let mut touched = machine.macs.clone();
                touched.sort_unstable();
                (state.add(machine)?, touched)
            }
        };
        state.lives.insert(id, life);
        Ok((id, touched))
    }

    /// Whether a machine that says this serial number may be another one than it is known as, or says another one's: nobody has to
    /// look at it otherwise.
    #[must_use]
    pub fn is_serial_news(&self, serial: &str, known: Option<MachineId>) -> bool {
        let state = self.read();
        let written = state.index.by_serial(serial);
        written.is_some_and(|id| {
            Some(id) != known || state.index.get(id).is_some_and(|machine| machine.macs.is_empty())
        })
    }

    /// Whether a machine would have something that another one has.
    ///
    /// # Errors
    /// What, and both parties. `own` is the machine itself.
    pub fn check(&self, machine: &Machine, own: Option<MachineId>) -> Result<(), ConflictError> {
        self.read().index.check(machine, own)
    }

    /// What is left of a machine that is not served: what no other machine has, without what it would boot. None if that is
    /// nothing, or if all of its cards are others' now. `own` is the machine itself.
    #[must_use]
    pub fn rest(&self, machine: &Machine, own: Option<MachineId>) -> Option<Machine> {
        self.read().index.rest(machine, own)
    }

    /// Where a machine is in its life; nothing for one of the configuration.
    #[must_use]
    pub fn life(&self, id: MachineId) -> Option<Life> {
        self.read().lives.get(&id).cloned()
    }

    /// The life of the machine that a MAC is one of.
    #[must_use]
    pub fn life_of(&self, mac: Mac) -> Option<Life> {
        let state = self.read();
        state.lives.get(&state.by_mac(mac)?).cloned()
    }

    /// Whether the machine that a MAC is one of gets no answer.
    #[must_use]
    pub fn is_ignored(&self, mac: Mac) -> bool {
        let state = self.read();
        let life = state.by_mac(mac).and_then(|id| state.lives.get(&id));
        life.is_some_and(|life| life.state == State::Ignored)
    }

    /// Whether the machine that has an address gets no answer.
    #[must_use]
    pub fn ignores(&self, address: impl Into<IpAddr>) -> bool {
        let state = self.read();
        let ignored = |mac| {
            let life = state.by_mac(mac).and_then(|id| state.lives.get(&id));
            life.is_some_and(|life| life.state == State::Ignored)
        };
        !state.lives.is_empty() && state.at(address.into()).is_some_and(ignored)
    }

    /// The address that a MAC has, by its lease, if nobody else has it.
    #[must_use]
    pub fn address_of(&self, mac: Mac) -> Option<Ipv4Addr> {
        let state = self.read();
        state.addresses.last_of(mac).filter(|address| state.addresses.at(*address) == Some(mac))
    }

    /// The cards of a machine, those too that were recognised as its own, each with the address that it has had last, if
    /// nobody else has that by now.
    #[must_use]
    pub fn cards(&self, machine: &Machine) -> Vec<(Mac, Option<Ipv4Addr>)> {
        let state = self.read();
        let mut cards = machine.macs.clone();
        for shown in Identity::all(machine).filter(|identity| !matches!(identity, Identity::Mac(_))) {
            let of = state.index.having(&shown).map(|found| state.recognitions.of(found.id));
            cards.extend(of.into_iter().flatten());
        }
        cards.sort_unstable();
        cards.dedup();
        let has = |mac: Mac| {
            state.addresses.last_of(mac).filter(|address| state.addresses.at(*address) == Some(mac))
        };
        cards.into_iter().map(|mac| (mac, has(mac).filter(|address| !address.is_unspecified()))).collect()
    }

    /// Whether there is a machine of the registry.
    #[must_use]
    pub fn has_lives(&self) -> bool {
        !self.read().lives.is_empty()
    }
}
