//! Where a record is served, and what becomes of a machine whose record is not: it is known by what is left of it, and waits.
//! Nobody may take it for an unknown machine, which a rule may accept, and an agent then wipes.

use std::collections::HashSet;
use std::sync::Arc;

use ipnet::Ipv4Net;

use super::Keeper;
use super::changes::served;
use crate::daemon::misfits::own_address;
use crate::host::link;
use boot_engine::config::{Config, Machine};
use boot_engine::machines::{MachineId, Machines};
use boot_engine::registry::{Entry, Place, Record, Registry};

/// So many machines that are not served any more are named where somebody reads it.
pub(super) const MOST_NAMED: usize = 10;

/// The names of the configuration's machines, which go before those of the registry, and the addresses of this host.
pub(super) struct Names {
    configured: HashSet<String>,
    own: Vec<(String, Ipv4Net)>,
}

impl Names {
    pub(super) fn of(config: &Config) -> Self {
        let names = config.machines.iter().filter_map(|machine| machine.name.as_ref());
        let configured = names.map(|name| name.to_ascii_lowercase()).collect();
        Self { configured, own: link::addresses().unwrap_or_default() }
    }

    /// Why a machine of the registry is not served, if the configuration has its name.
    fn taken(&self, machine: &Machine) -> Option<String> {
        let name =
            machine.name.as_ref().filter(|name| self.configured.contains(&name.to_ascii_lowercase()))?;
        Some(format!("a machine of the configuration has its name {name}: rename one of them"))
    }
}

/// The machine of a record, or why there is no room for it.
pub(super) fn fitting(
    record: &Record,
    registry: &Registry,
    config: &Config,
    names: &Names,
) -> Result<Machine, String> {
    let machine = record.machine(config).map_err(|wrong| wrong.join("; "))?;
    let own = || own_address(&machine, &names.own).map(|why| format!("it has {why}"));
    let taken = names.taken(&machine).or_else(own).or_else(|| twin(record, registry));
    taken.map_or(Ok(machine), Err)
}

/// Why a record is not served that has the name or serial number of another one: it was added while that one could not be read.
fn twin(record: &Record, registry: &Registry) -> Option<String> {
    let is_another = |other: &&Entry| other.record.id != record.id;
    let name = record.spec.name.as_deref();
    let (what, shared, other) = match name.and_then(|name| registry.named(name)).filter(is_another) {
        Some(other) => ("name", name?, other),
        None => {
            let serial = record.spec.serial.as_deref()?;
            ("serial number", serial, registry.with_serial(serial).filter(is_another)?)
        }
    };
    let (own, other) = (record.id, other.record.id);
    Some(format!("id:{own} and id:{other} have the {what} {shared}: change it of one of them, or delete one"))
}

/// What is known of a machine whose record is not served.
fn known(record: &Record, config: &Config, names: &Names) -> Machine {
    let mut known = record.readable(config);
    if names.taken(&known).is_some() {
        known.name = None;
    }
    if own_address(&known, &names.own).is_some() {
        known.ip = None;
    }
    known
}

/// Has a record served before anybody serves, or says why not.
pub(super) fn serve_at_start(
    record: &Record,
    registry: &Registry,
    machines: &Machines,
    config: &Config,
    names: &Names,
) -> Result<(Arc<Machine>, Place), String> {
    let machine = Arc::new(fitting(record, registry, config, names)?);
    match machines.put_alive(None, Arc::clone(&machine), record.life()) {
        Ok((id, _)) => Ok((machine, Place::Served(id))),
        Err(why) => Err(why.to_string()),
    }
}

/// The same of one that is not served for this reason.
pub(super) fn wait_at_start(
    record: &Record,
    why: String,
    machines: &Machines,
    config: &Config,
    names: &Names,
) -> (Arc<Machine>, Place) {
    let known = known(record, config, names);
    if let Some(rest) = machines.rest(&known, None).map(Arc::new)
        && let Ok((id, _)) = machines.put_alive(None, Arc::clone(&rest), record.life().unserved(&why))
    {
        return (rest, Place::Waits(id, why));
    }
    (Arc::new(known), Place::Shadowed(why))
}

impl Keeper {
    /// Has a record served if the configuration has room for it, or else has its machine wait. `before` is what it was served as.
    pub(super) async fn place(
        &self,
        before: Option<MachineId>,
        record: &Record,
        names: &Names,
    ) -> (Arc<Machine>, Place) {
        let why = match fitting(record, &self.registry, &self.config(), names) {
            Ok(machine) => {
                let machine = Arc::new(machine);
                match self.serve(before, &machine, record).await {
                    Place::Shadowed(why) => why,
                    place => return (machine, place),
                }
            }
            Err(why) => why,
        };
        self.have_wait(before, record, why, names).await
    }

    /// Has a machine wait whose record is not served for this reason.
    pub(super) async fn have_wait(
        &self,
        before: Option<MachineId>,
        record: &Record,
        why: String,
        names: &Names,
    ) -> (Arc<Machine>, Place) {
        let known = known(record, &self.config(), names);
        if let Some(rest) = self.machines.rest(&known, before).map(Arc::new)
            && let Ok(id) = self.put_alive(before, &rest, record.life().unserved(&why)).await
        {
            return (rest, Place::Waits(id, why));
        }
        if let Some(id) = before {
            self.serve_no_longer(&Place::Served(id)).await;
        }
        (Arc::new(known), Place::Shadowed(why))
    }

    /// The configuration is another one: every record is served as it says now. Gives a sentence for each of the first machines
    /// that are not served any more, and how many others there are.
    pub(super) async fn place_all(&mut self) -> Vec<String> {
        let (mut not_served, mut more) = (Vec::new(), 0_usize);
        let config = self.config();
        let names = Names::of(&config);
        let ids: Vec<u64> = self.registry.after(0).map(|entry| entry.record.id).collect();
        for id in ids {
            let Some(mut entry) = self.registry.get(id).cloned() else { continue };
            let before = served(&entry.place).filter(|id| self.machines.get(*id).is_some());
            let fitting = fitting(&entry.record, &self.registry, &config, &names);
            let is_as_it_was = match (&entry.place, fitting) {
                (Place::Served(id), Ok(machine)) => self.machines.get(*id).is_some_and(|is| *is == machine),
                _ => false,
            };
            if !is_as_it_was {
                let said = entry.place.unserved().map(str::to_owned);
                (entry.machine, entry.place) = self.place(before, &entry.record, &names).await;
                if let Some(why) = entry.place.unserved().filter(|_| said.is_none()) {
                    match not_served.len() < MOST_NAMED {
                        true => not_served.push(format!("{}: {why}", entry.record.called())),
                        false => more += 1,
                    }
                }
                if entry.place.unserved() != said.as_deref() {
                    self.tell_shadowed(entry.machine.macs.first().copied(), &entry.record, &entry.place);
                }
            }
            // Its times are by the rules that are in force now.
            self.registry.put(entry, &self.rules);
        }
        self.place_unreadable(&names).await;
        if more > 0 {
            not_served.push(format!("and {more} more: xpxe machines list says of which"));
        }
        not_served
    }

    /// How many machines are not served.
    pub(super) fn count_unserved(&self) -> usize {
        self.registry.count_unserved() + self.unreadable.len()
    }

    /// Has `/readyz` say how many machines are not served.
    pub(super) fn note_unserved(&self) {
        let count = self.count_unserved();
        let says = || format!("{count} machines of the registry are not served: xpxe machines show says why");
        self.readiness.set_note("the registry", (count > 0).then(says));
    }
}
