//! A machine of the registry, as it is stored.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use boot_agent_protocol::Inventory;

use crate::config::{Config, DiskImage, Machine, Registered, RegisteredBmc};
use crate::lifecycle::{
    Intent, MOST_KEPT, Observed, Past, Power, Rules, State, Status, Stepped, Wanted, step,
};
use crate::machines::Life;

/// A switch port, as a relay names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchPort {
    /// As in the configuration.
    pub circuit_id: String,
    /// As in the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_id: Option<String>,
}

/// What people say of a machine. The keys are those of `[[machine]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Spec {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its MAC addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mac: Vec<String>,
    /// Its SMBIOS UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The serial number that SMBIOS says it has. Without a MAC, it is the first machine that says this one, and gets its MAC
    /// then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Its switch port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_port: Option<SwitchPort>,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Its profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Its kernel arguments.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub args: String,
    /// Its BMC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bmc: Option<RegisteredBmc>,
    /// The image that the agent writes to its disk when it is allocated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<DiskImage>,
}

/// A secret, encrypted and authenticated, as hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(pub String);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}

/// A machine of the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number, which no other machine has at the same time.
    pub id: u64,
    /// How often it was changed. A change quotes the version that it was made from.
    pub version: u64,
    /// The number of its last change among those of all machines.
    pub revision: u64,
    /// What people say of it.
    pub spec: Spec,
    /// What is wanted of it.
    pub intent: Intent,
    /// Where it stands.
    pub status: Status,
    /// The password of its BMC, encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc_password: Option<Sealed>,
    /// What it consists of, as the agent has seen it last.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "shared")]
    pub inventory: Option<Arc<Inventory>>,
}

/// serde without its feature for [`Arc`], which every crate that uses serde would be built with.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<Arc<T>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_deref().serialize(to)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Arc<T>>, D::Error> {
        Ok(Option::<T>::deserialize(from)?.map(Arc::new))
    }
}

impl From<&Machine> for Spec {
    fn from(machine: &Machine) -> Self {
        let Registered { name, macs, uuid, serial, relay_port, ip, profile, args, labels, bmc, image } =
            machine.into();
        let relay_port = relay_port.map(|(circuit_id, remote_id)| SwitchPort { circuit_id, remote_id });
        Self { name, labels, mac: macs, uuid, serial, relay_port, ip, profile, args, bmc, image }
    }
}

impl Spec {
    /// The machine as it is served.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(&self, config: &Config) -> Result<Machine, Vec<String>> {
        let port = self.relay_port.clone();
        let registered = Registered {
            name: self.name.clone(),
            macs: self.mac.clone(),
            uuid: self.uuid.clone(),
            serial: self.serial.clone(),
            relay_port: port.map(|port| (port.circuit_id, port.remote_id)),
            ip: self.ip.clone(),
            profile: self.profile.clone(),
            args: self.args.clone(),
            labels: self.labels.clone(),
            bmc: self.bmc.clone(),
            image: self.image.clone(),
        };
        registered.check(config)
    }
}

impl Record {
    /// The machine as it is served: what people say of it, and what the agent has reported.
    ///
    /// # Errors
    /// Everything that is wrong with what people say.
    pub fn machine(&self, config: &Config) -> Result<Machine, Vec<String>> {
        let machine = self.spec.check(config)?;
        Ok(Machine { inventory: self.inventory.clone(), ..machine })
    }

    /// How people call it: by its name, or else by what it is known by.
    #[must_use]
    pub fn called(&self) -> String {
        let Spec { name, mac, uuid, serial, .. } = &self.spec;
        let known = name.as_ref().or(mac.first()).or(uuid.as_ref()).or(serial.as_ref());
        known.cloned().unwrap_or_else(|| format!("machine {}", self.id))
    }

    /// What decides what it boots.
    #[must_use]
    pub fn life(&self) -> Life {
        let Status { state, since, is_overdue, waits, written, run, heard, .. } = &self.status;
        Life {
            record: self.id,
            state: *state,
            says: waits.as_str().into(),
            is_written: *written,
            since: *since,
            is_overdue: *is_overdue,
            run: *run,
            is_unserved: false,
            heard: *heard,
            is_chosen: !self.is_unwritten() || self.is_directed(),
        }
    }

    /// The record after something was seen of its machine, and what that has done; nothing if it is as it was.
    #[must_use]
    pub fn observe(&self, rules: &Rules, observed: Observed, by: &str, now: u64) -> Option<(Self, Stepped)> {
        let mut after = self.clone();
        let stepped = step(rules, &self.intent, &mut after.status, observed, by, now);
        (after != *self).then_some((after, stepped))
    }

    /// The record with another inventory, and what differs from the one before.
    #[must_use]
    pub fn with_inventory(&self, inventory: Inventory) -> (Self, Vec<String>) {
        let before = self.inventory.as_ref();
        let differences = before.map(|before| before.differences(&inventory)).unwrap_or_default();
        (Self { inventory: Some(Arc::new(inventory)), ..self.clone() }, differences)
    }

    /// Whether nobody has said anything of it but what it has shown itself.
    #[must_use]
    pub fn is_unwritten(&self) -> bool {
        let Spec { mac, uuid, .. } = &self.spec;
        self.spec == Spec { mac: mac.clone(), uuid: uuid.clone(), ..Spec::default() }
    }

    /// Whether a person has ordered anything of it. That a rule has accepted it is no order.
    fn is_ordered(&self) -> bool {
        self.intent.maintenance.is_some() || self.is_directed()
    }

    /// The same, but that it is left alone is no order, either: a rule may have held it.
    fn is_directed(&self) -> bool {
        let Intent { wanted, ignored, maintenance: _, order, wipe, install } = self.intent;
        let is_by_rule = |past: &Past| past.to == State::Accepted && past.by.starts_with("rule ");
        match (wanted, order) {
            _ if ignored || wipe > 0 || install > 0 => true,
            (Wanted::Hold, 0) => false,
            (Wanted::Pool, 1) => !self.status.history.iter().any(is_by_rule),
            _ => true,
        }
    }

    /// The record of an expected machine, when the machine of another record turns out to be it. What people say is this
    /// one's. What is wanted of it and where it stands is the other one's, unless a person has ordered something of this one
    /// and the other one is neither in use nor set aside. If it is, it is held: that person did not know which machine it is.
    /// The history is that of both.
    #[must_use]
    pub fn joined(&self, found: &Self) -> Self {
        let mut joined = Self { version: self.version + 1, ..self.clone() };
        joined.spec.mac.clone_from(&found.spec.mac);
        joined.spec.uuid = joined.spec.uuid.or_else(|| found.spec.uuid.clone());
        joined.inventory = joined.inventory.or_else(|| found.inventory.clone());
        let is_ordered = self.is_ordered();
        let is_free = matches!(found.status.state, State::Discovered | State::Accepted | State::Ready);
        if !(is_ordered && is_free) {
            joined.intent = found.intent.clone();
            // Its BMC is this one's; whether it still has to boot goes with the state.
            let power = Power { boot: found.status.power.boot, ..self.status.power.clone() };
            joined.status = Status { power, ..found.status.clone() };
        }
        if is_ordered && !is_free {
            let before = found.intent.maintenance.iter().map(|before| format!("; {before}"));
            joined.intent.maintenance = Some(format!(
                "{} is {}, which was {}: what was ordered of {0} before that was known is not done; resume it, and order that again if it is right{}",
                self.called(),
                found.called(),
                found.status.state,
                before.collect::<String>()
            ));
        }
        joined.status.heard = self.status.heard.max(found.status.heard);
        let both = self.status.history.iter().chain(&found.status.history);
        let mut history: Vec<Past> = both.cloned().collect();
        history.sort_by_key(|past| past.at);
        history.drain(..history.len().saturating_sub(MOST_KEPT));
        joined.status.history = history;
        joined
    }

    /// When it is to be looked at though nothing happens, in Unix seconds.
    pub(super) fn due(&self, rules: &Rules) -> Option<u64> {
        let status = &self.status;
        let limit = rules.limits.get(&status.state).filter(|_| !status.is_overdue);
        let overdue = limit.map(|limit| status.since + limit + 1);
        let again = status.power.due();
        overdue.into_iter().chain(again).min()
    }
}
