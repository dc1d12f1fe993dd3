//! One machine of the registry that is added, changed or removed while machines are served.
//!
//! It makes of the tables what a start would, as a reload does, and looks only at the MACs and the address that the change
//! touches: what it costs does not depend on how many machines there are. Of a machine without a MAC nobody knows whom it
//! touches; then all entries of unknown machines are looked at.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use boot_common::Mac;

use crate::Engine;
use crate::command::Now;
use crate::config::Machine;
use crate::leases::binding::Binding;
use crate::leases::bindings::OFFER_HOLDS;
use crate::machines::{ChangeError, Life, MachineId};

impl Engine {
    /// Adds a machine of the registry, or changes one that is there.
    ///
    /// # Errors
    /// Another machine has one of its identities or its address, or it is not there any more. Nothing has changed.
    pub fn put_machine(
        &mut self,
        id: Option<MachineId>,
        machine: Arc<Machine>,
        life: Life,
        now: Now,
    ) -> Result<MachineId, ChangeError> {
        let before = id.and_then(|id| self.machines.get(id));
        let had_without_mac = self.machines.has_without_mac();
        let (id, touched) = self.machines.put_alive(id, Arc::clone(&machine), life)?;
        let is_searched = machine.macs.is_empty()
            && before.as_ref().is_none_or(|before| {
                (before.uuid, &before.relay_port) != (machine.uuid, &machine.relay_port)
            });
        self.follow(before.and_then(|before| before.ip), machine.ip, &machine, &touched, now);
        self.follow_searched(had_without_mac, is_searched, now);
        Ok(id)
    }

    /// Removes a machine of the registry. Its MACs are those of unknown machines from now on.
    pub fn remove_machine(&mut self, id: MachineId, now: Now) {
        let Some(machine) = self.machines.get(id) else { return };
        let had_without_mac = self.machines.has_without_mac();
        let Some(touched) = self.machines.remove(id) else { return };
        self.follow(machine.ip, None, &machine, &touched, now);
        self.follow_searched(had_without_mac, false, now);
    }

    /// Has the tables follow a machine whose reserved address was `before` and is `after`.
    fn follow(
        &mut self,
        before: Option<Ipv4Addr>,
        after: Option<Ipv4Addr>,
        machine: &Machine,
        touched: &[Mac],
        now: Now,
    ) {
        if let Some(address) = before.filter(|address| Some(*address) != after && !self.is_own(*address)) {
            self.bindings.include(address);
        }
        if let Some(address) = after {
            self.bindings.exclude(address);
        }
        let mut waits = false;
        let same: HashSet<Ipv4Addr> = before.into_iter().collect();
        // Who has what is reserved for this machine now is touched, too.
        let holder = after.and_then(|address| self.bindings.owner(address));
        let mut macs = touched.to_vec();
        macs.extend(holder.filter(|holder| !touched.contains(holder)));
        let mut all: Vec<(Mac, Binding)> = Vec::new();
        for mac in &macs {
            all.extend(self.bindings.of(*mac).map(|binding| (*mac, binding)));
        }
        self.part_cards(&all, Some(&same), now);
        for mac in &macs {
            let own: Vec<Binding> = self.bindings.of(*mac).collect();
            for binding in own {
                waits |= self.settle_one(*mac, binding, Some(&same), now);
            }
        }
        if let Some(address) = after {
            for mac in &machine.macs {
                waits |= self.reserve(*mac, address, machine, Some(&same), now);
            }
        }
        if waits {
            self.promises.honour_offers(Some(now.seconds() + OFFER_HOLDS));
        }
        for mac in macs {
            self.refresh_host(mac, false, now);
            self.put_missing_hosts_of(mac, now);
        }
    }

    /// Has the tables follow that a machine is there, or is not there any more, whose MAC nobody knows.
    fn follow_searched(&mut self, had_without_mac: bool, is_searched: bool, now: Now) {
        if self.machines.has_without_mac() != had_without_mac {
            self.refresh_links();
        }
        if is_searched {
            // One of them may be it.
            let is_stranger = |mac: &Mac| self.machines.by_mac(*mac).is_none();
            let strangers: Vec<Mac> = self.entries.hosts().map(|(mac, _)| mac).filter(is_stranger).collect();
            for mac in strangers {
                self.refresh_host(mac, true, now);
            }
        }
    }
}
