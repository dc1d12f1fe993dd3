//! What is seen of machines: their first words, and the kernels that they fetch.

use std::net::IpAddr;
use std::sync::Arc;

use boot_common::Mac;
use boot_common::class::Stage;
use tracing::warn;

use super::changes::{now, served};
use super::{Asking, Changed, Keeper, SELF, changed_by_people};
use crate::daemon::request::{RegistryError, is_of_preflight};
use crate::host::clock;
use boot_engine::boot::choice::{Booting, Choice};
use boot_engine::boot::is_url;
use boot_engine::config::{Accept, Arch, Machine, Profile, is_placeholder, uuid_text};
use boot_engine::events::{BootEvent, Conflict, Http, Meanwhile, Script, Shared, Step, Tftp};
use boot_engine::lifecycle::{Intent, Observed, Order, State, Status, Stepped};
use boot_engine::machines::Life;
use boot_engine::registry::{Record, Spec};

/// How many machines that nobody has accepted or written anything of are kept. Anybody can make up MACs.
const MOST_DISCOVERED: usize = 10_000;
/// With so many machines in the registry, none is taken down unless somebody adds it: a rule may accept each that asks, and
/// anybody can make up MACs.
const MOST_BY_THEMSELVES: usize = 100_000;

impl Keeper {
    /// Looks at something that has happened.
    pub(super) async fn see(&mut self, event: &BootEvent) {
        let Some(mac) = event.machine.as_ref().map(|machine| machine.mac) else { return };
        match &event.step {
            Step::Answered(answered) if answered.class.stage != Stage::Os => {
                let address = Some(answered.address).filter(|address| !address.is_unspecified());
                let arch = Arch::of_firmware(answered.class.firmware);
                self.sight(mac, None, Asking { address, arch }).await;
            }
            Step::Script { client, end: Script::Sent { uuid, .. }, .. } => {
                if let Some(uuid) = uuid {
                    self.see_uuid(mac, *uuid).await;
                    self.add_uuid(mac, *uuid, *client).await;
                }
                self.sight(mac, None, Asking::default()).await;
                self.fetched(mac, is_url).await;
            }
            Step::Http(_, Http::Asked { file, is_head: false, .. }) => {
                self.fetched(mac, |kernel| is_name_of(kernel, file)).await;
            }
            Step::Tftp(Tftp::Ended { file, .. }) => {
                self.fetched(mac, |kernel| is_name_of(kernel, file)).await;
            }
            _ => {}
        }
    }

    /// A machine has fetched something: its kernel, perhaps.
    async fn fetched(&mut self, mac: Mac, is_it: impl Fn(&str) -> bool) {
        let begins =
            |life: &Life| !life.is_unserved && (life.state == State::Allocated || life.state.boots_agent());
        let Some(life) = self.machines.life_of(mac).filter(begins) else { return };
        let Some(entry) = self.registry.get(life.record) else { return };
        let config = self.config();
        let machine = &*entry.machine;
        let booting = Booting { machine: Some(machine), mac: Some(mac), ..Booting::default() };
        let profile = match &config.lifecycle.agent {
            // It writes images, too.
            Some(agent) if life.state.boots_agent() || machine.image.is_some() => config.profiles.get(agent),
            _ => Choice::new(&config, &booting).profile.map(|(_, profile)| profile),
        };
        let Some(profile) = profile else { return };
        let entries = profile.menu.iter().flat_map(|menu| &menu.entries);
        let chosen = entries.filter_map(|entry| config.profiles.get(entry));
        let written = self.scripts.get().planner().written_kernel(machine, mac);
        if chosen.chain([profile]).flat_map(kernels).chain(written).any(|kernel| is_it(&kernel))
            && let Err(error) = self.observe(life.record, Observed::Kernel, SELF).await
        {
            self.complain(&format!(
                "{error}: that {mac} has fetched its kernel was not taken down; its report will be"
            ));
        }
    }

    /// A machine has asked that may be unknown, or that a rule may accept for where or as what it asks.
    pub(super) async fn sight(&mut self, mac: Mac, uuid: Option<[u8; 16]>, asking: Asking) {
        if let Some(known) = self.machines.by_mac(mac) {
            if let Some(life) = known.life.filter(|life| life.state == State::Discovered) {
                self.accept_by_rule(life.record, asking).await;
            }
            return;
        }
        if !self.discovers() || self.machines.is_bmc(mac) || is_of_preflight(mac) {
            return;
        }
        let is_full = self.registry.len() >= MOST_BY_THEMSELVES;
        if is_full || self.registry.count_strangers() >= MOST_DISCOVERED {
            match self.turned_away {
                0 if is_full => warn!(
                    "the registry has {MOST_BY_THEMSELVES} machines: further unknown machines are not taken down; add them (xpxe machines add), or delete those that do not exist"
                ),
                0 => warn!(
                    "{MOST_DISCOVERED} machines wait to be accepted or ignored: further unknown machines are not taken down (xpxe machines list --state discovered shows them)"
                ),
                _ => {}
            }
            self.turned_away += 1;
            return;
        }
        let mut spec = Spec { mac: vec![mac.to_string()], ..Spec::default() };
        if let Some(uuid) = uuid.filter(|uuid| is_placeholder(*uuid)) {
            let what = Shared::Placeholder { uuid: uuid_text(uuid).into() };
            self.tell_conflict(mac, Conflict { what, meanwhile: Meanwhile::ByMac });
        }
        let mut shared = None;
        spec.uuid = uuid.filter(|uuid| !is_placeholder(*uuid)).and_then(|uuid| {
            let machine = Machine { uuid: Some(uuid), ..Machine::default() };
            match self.machines.check(&machine, None) {
                Ok(()) => Spec::from(&machine).uuid,
                Err(conflict) => {
                    shared =
                        Some(Shared::Uuid { uuid: uuid_text(uuid).into(), other: conflict.other.into() });
                    None
                }
            }
        });
        if let Some(what) = shared {
            self.tell_conflict(mac, Conflict { what, meanwhile: Meanwhile::ByMac });
        }
        let how = asking.address.map_or_else(|| "by HTTP".to_owned(), |address| format!("and got {address}"));
        let status = Status::new(State::Discovered, format!("it asked for the first time, {how}"), now());
        let record = Record {
            id: self.registry.take_id(clock::wall()),
            version: 1,
            revision: 0,
            spec,
            intent: Intent::default(),
            status,
            bmc_password: None,
            inventory: None,
        };
        if let Err(error) = self.register(record, asking).await {
            self.complain(&format!(
                "{error}: {mac} was not taken down as discovered; it will be when it asks again"
            ));
        }
    }

    /// Adds the UUID to a machine that DHCP heard first, without one. What people have written of a machine stays as it is.
    async fn add_uuid(&mut self, mac: Mac, uuid: [u8; 16], client: IpAddr) {
        let Some(life) = self.machines.by_mac(mac).and_then(|known| known.life) else { return };
        if life.is_unserved {
            return;
        }
        let Some(entry) = self.registry.get(life.record) else { return };
        let is_untouched = entry.record.spec == Spec { mac: vec![mac.to_string()], ..Spec::default() };
        // Anybody may say which UUID a stranger has; of a machine that was accepted only the machine itself may.
        let is_itself = || self.machines.address_of(mac).is_some_and(|own| IpAddr::from(own) == client);
        if !is_untouched || is_placeholder(uuid) || (life.state != State::Discovered && !is_itself()) {
            return;
        }
        let machine = Machine { uuid: Some(uuid), ..(*entry.machine).clone() };
        // That another machine has it was told.
        if self.machines.check(&machine, served(&entry.place)).is_err() {
            return;
        }
        let mut record = changed_by_people(&entry.record);
        record.spec.uuid = Spec::from(&machine).uuid;
        if let Err(error) = self.commit(record, Arc::new(machine), &Stepped::default(), SELF).await {
            self.complain(&format!(
                "{error}: the UUID of {mac} was not taken down; it will be when it fetches its script again"
            ));
        }
    }

    /// Accepts a machine that nobody has decided on, if a rule says so by now: its labels, its switch port, its address or the
    /// configuration may be newer than it.
    pub(super) async fn accept_by_rule(&mut self, id: u64, asking: Asking) {
        let Some(entry) = self.registry.get(id) else { return };
        let Some(accepted) = self.acceptance(&entry.record, &entry.machine, asking) else { return };
        if let Err(error) = self.commit_all(vec![accepted]).await {
            self.complain(&format!("{error}: a machine was not accepted; it will be when it asks again"));
        }
    }

    /// The same of every machine, after the configuration has changed.
    pub(super) async fn accept_all_by_rule(&mut self) -> Result<(), RegistryError> {
        let entries = self.registry.after(0);
        let accepted =
            entries.filter_map(|entry| self.acceptance(&entry.record, &entry.machine, Asking::default()));
        let accepted = accepted.collect();
        self.commit_in_batches(accepted).await
    }

    /// What becomes of a machine that nobody has decided on, if a rule accepts it.
    pub(super) fn acceptance(
        &self,
        record: &Record,
        machine: &Arc<Machine>,
        asking: Asking,
    ) -> Option<Changed> {
        // It waits: what it is, and what would be accepted of it, is not certain.
        if self.registry.get(record.id).is_some_and(|entry| entry.place.unserved().is_some()) {
            return None;
        }
        let is_undecided = record.intent == Intent { order: record.intent.order, ..Intent::default() };
        if !is_undecided || record.status.state != State::Discovered {
            return None;
        }
        let by = self.accepting_rule(machine, asking)?;
        let intent = record.intent.after(&Order::Accept, &record.status).ok()?;
        let (record, stepped) = self.stepped(Record { intent, ..changed_by_people(record) }, &by);
        Some(Changed { record, machine: Arc::clone(machine), stepped, by })
    }

    /// The rule by which a machine is accepted without a person.
    pub(super) fn accepting_rule(&self, machine: &Machine, asking: Asking) -> Option<String> {
        // Which machine has the serial number is not known yet: it may be here and at work.
        if machine.macs.is_empty() && machine.uuid.is_none() && machine.relay_port.is_none() {
            return None;
        }
        // It may be a machine in use whose record nobody can read.
        if self.may_hide_machines() {
            return None;
        }
        let config = self.config();
        let groups = match &config.lifecycle.accept {
            Accept::All => return Some("rule accept = \"all\"".to_owned()),
            Accept::Groups(groups) => groups,
        };
        let mac = machine.macs.first().copied();
        let port = mac.and_then(|mac| self.machines.seen_port(mac));
        let booting = Booting {
            machine: Some(machine),
            mac,
            switch_port: port.as_ref(),
            address: machine.ip.or(asking.address).or_else(|| self.machines.address_of(mac?)),
            arch: asking.arch,
            serial: machine.inventory.as_ref().map(|inventory| inventory.system.serial.as_str()),
        };
        let fits =
            |name: &&String| config.groups.iter().any(|group| group.name == **name && booting.is_in(group));
        groups.iter().find(fits).map(|name| format!("rule accept = [\"{name}\"]"))
    }
}

fn kernels(profile: &Profile) -> impl Iterator<Item = String> {
    let architectures = Arch::ALL.into_iter().map(|(_, arch)| Some(arch));
    architectures.chain([None]).filter_map(|arch| profile.first_file(arch))
}

/// Whether a file that was sent is this kernel: by its path, or by an image's name.
fn is_name_of(kernel: &str, file: &str) -> bool {
    kernel == file || kernel.strip_prefix("image:").is_some_and(|image| file.starts_with(image))
}
