//! Machines as the API shows them, and what is written of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use boot_agent_protocol::{Inventory, Progress};
use serde::{Deserialize, Serialize};

use super::power::Power;
use crate::daemon::request::{Census, View};
use crate::host::clock;
use crate::http::admin::rfc3339;
use crate::http::boots::{History, Seen};
use boot_engine::lifecycle::{Past, State as Stage, Wanted};
use boot_engine::registry::{Record, Spec};

/// A machine as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Machine {
    /// `registry`, or `configuration`: those are changed in their file.
    pub source: String,
    /// Its number in the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Who changes it says which version he has read. 0: what is stored of it cannot be read, and what is shown is what could be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The number of its last change among those of all machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// What people say of it.
    pub spec: Spec,
    /// What is wanted of it, and where it stands. None for machines of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// When it was seen last, where it is, and how its last boot went. In lists, and where it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
    /// What it consists of, as the agent has seen it last. Not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Inventory>,
}

/// Where a machine stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Status {
    /// Its state.
    pub state: Stage,
    /// What is wanted of it: `hold`, `pool` or `run`.
    pub wanted: Wanted,
    /// Since when it is in its state, in Unix seconds.
    pub since: u64,
    /// The same for people (RFC 3339).
    pub since_at: String,
    /// For how many seconds it may be in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// It is in it for longer.
    pub overdue: bool,
    /// Why it is in it.
    pub reason: String,
    /// What it waits for.
    pub waits: String,
    /// What is known of its power, if it has a BMC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// The password of its BMC is in the store.
    #[serde(default)]
    pub has_bmc_password: bool,
    /// Why it is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_served: Option<String>,
    /// How far the agent is with what it does now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The last changes of its state, the oldest first.
    pub history: Vec<Past>,
}

impl From<&View> for Machine {
    fn from(view: &View) -> Self {
        match view {
            View::Configured(machine) => Self {
                source: "configuration".to_owned(),
                id: None,
                version: None,
                revision: None,
                spec: Spec::from(&**machine),
                status: None,
                seen: None,
                inventory: None,
            },
            View::Registered { record, shadowed, limit, progress, machine: _ } => {
                Self::of(record, shadowed.clone(), *limit, progress.clone())
            }
        }
    }
}

impl Machine {
    /// Whether what is stored of it cannot be read.
    pub fn is_unreadable(&self) -> bool {
        self.version == Some(0)
    }

    pub(super) fn of(
        record: &Record,
        not_served: Option<String>,
        limit: Option<u64>,
        progress: Option<Progress>,
    ) -> Self {
        let Record { id, version, revision, spec, intent, status, bmc_password, inventory: _ } = record;
        Self {
            source: "registry".to_owned(),
            id: Some(*id),
            version: Some(*version),
            revision: Some(*revision),
            spec: spec.clone(),
            status: Some(Status {
                state: status.state,
                wanted: intent.wanted,
                since: status.since,
                since_at: rfc3339(status.since),
                limit,
                overdue: status.is_overdue,
                reason: status.reason.clone(),
                waits: status.waits_at(clock::wall().as_secs()),
                power: spec.bmc.is_some().then(|| Power::from(&status.power)),
                has_bmc_password: bmc_password.is_some(),
                not_served,
                progress,
                history: status.history.clone(),
            }),
            seen: None,
            inventory: None,
        }
    }

    /// The same with its inventory, and with what was seen of it.
    pub(super) fn whole(view: &View, history: &History) -> Self {
        let inventory = match view {
            View::Registered { record, .. } => record.inventory.as_deref().cloned(),
            View::Configured(_) => None,
        };
        let seen = history.seen(std::slice::from_ref(view.machine())).pop();
        Self { inventory, seen, ..Self::from(view) }
    }

    /// Machines as lists have them; or only those that were never seen.
    pub(super) fn listed(views: &[View], history: &History, never_seen: bool) -> Vec<Self> {
        let machines: Vec<_> = views.iter().map(|view| Arc::clone(view.machine())).collect();
        let seen = history.seen(&machines).into_iter();
        let wanted = views.iter().zip(seen).filter(|(_, seen)| seen.never || !never_seen);
        wanted.map(|(view, seen)| Self { seen: Some(seen), ..Self::from(view) }).collect()
    }
}

/// Some of the machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Machines {
    /// The machines of this page, those of the configuration first.
    pub machines: Vec<Machine>,
    /// `after` of the request for the next ones, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// The last change that is in it, of whichever machine: `since` of who begins to watch with the first page.
    #[serde(default)]
    pub revision: u64,
    /// Which configuration is served: another one after each time that it is read, and `epoch` of who begins to watch.
    #[serde(default)]
    pub epoch: u64,
}

/// What is written of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// The version that was read. Without one the change is made whatever was changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// All that people say of it.
    pub spec: Spec,
}

/// Why something was not done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Refused {
    /// One sentence.
    pub error: String,
    /// The machine as it is, where somebody has changed it since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Box<Machine>>,
    /// What was to be written then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yours: Option<Box<Spec>>,
}

/// How many machines there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counted {
    /// Of the configuration.
    pub configured: usize,
    /// Of the registry, by state.
    pub states: BTreeMap<Stage, usize>,
    /// Those that are in their state for too long.
    pub overdue: usize,
    /// Those of the registry that are not served.
    pub not_served: usize,
    /// Machines of both that were never seen. None where no boots are kept (`boots = false`): nobody knows then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never_seen: Option<usize>,
    /// Unknown machines that were not taken down.
    pub turned_away: u64,
    /// Why no machine can be changed, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_stored: Option<String>,
}

impl From<Census> for Counted {
    fn from(census: Census) -> Self {
        let Census { states, overdue, shadowed, configured, turned_away, database, .. } = census;
        let not_stored = database.and_then(|database| database.trouble).map(|trouble| trouble.to_string());
        let states = states.into_iter().collect();
        Self { configured, states, overdue, not_served: shadowed, never_seen: None, turned_away, not_stored }
    }
}
