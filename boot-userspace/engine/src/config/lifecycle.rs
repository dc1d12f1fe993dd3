//! `[lifecycle]`: the life of the machines of the registry, as it stands in the file and as what it becomes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::amount;
use super::profile_names::ProfileNames;
use super::reader::Table;
use super::report::{At, Report, one, one_list};
use super::value::{did_you_mean, quoted};

/// `[lifecycle]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    /// `agent`: the profile that takes inventories and wipes; it exists. Default: none.
    pub agent: Option<String>,
    /// `discovery`: the profile of machines that nobody has accepted; it exists. Default: they wait.
    pub discovery: Option<String>,
    /// `wipe`: machines are wiped before they are ready. Default true.
    pub wipe: bool,
    /// `live`: the profiles that run from memory: their machines boot them each time, and nothing from their disks. They
    /// exist. Default: none.
    pub live: Vec<String>,
    /// `accept`. Default: nobody.
    pub accept: Accept,
    /// `limits`: how long a machine may be in a state, by the state's name. Default [`DEFAULT_LIMITS`].
    pub limits: BTreeMap<String, Duration>,
}

/// Which machines are accepted without a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accept {
    /// `all`: every machine.
    All,
    /// Those that are in one of these groups, which exist.
    Groups(Vec<String>),
}

/// The states that have a limit in the file.
pub const LIMITED: [&str; 9] = [
    "discovered",
    "accepted",
    "ready",
    "allocated",
    "installing",
    "running",
    "released",
    "maintenance",
    "failed",
];

/// How many seconds a machine may be in a state, where the file says nothing.
pub const DEFAULT_LIMITS: [(&str, u64); 4] =
    [("accepted", 7200), ("allocated", 1800), ("installing", 3600), ("released", 7200)];

impl Default for Lifecycle {
    fn default() -> Self {
        let limits = DEFAULT_LIMITS.map(|(state, limit)| (state.to_owned(), Duration::from_secs(limit)));
        Self {
            agent: None,
            discovery: None,
            wipe: true,
            live: Vec::new(),
            accept: Accept::Groups(Vec::new()),
            limits: limits.into(),
        }
    }
}

/// The section as it stands in the file.
#[derive(Default)]
pub(super) struct Written {
    agent: Option<At<String>>,
    discovery: Option<At<String>>,
    wipe: Option<At<bool>>,
    live: Vec<At<String>>,
    accept: Vec<At<String>>,
    limits: Vec<(&'static str, At<String>)>,
}

/// The section in the file.
pub(super) fn read(top: &Table<'_>, report: &mut Report<'_>) -> Written {
    let known = ["agent", "discovery", "wipe", "live", "accept", "limits"];
    let Some(table) = top.table("lifecycle", &known, report) else { return Written::default() };
    let limits = table.table("limits", &LIMITED, report);
    let limits = limits.map(|limits| {
        let limit = |state: &'static str| Some((state, limits.text(state, "1h", report)?));
        LIMITED.into_iter().filter_map(limit).collect()
    });
    Written {
        agent: table.text("agent", "agent", report),
        discovery: table.text("discovery", "discovery", report),
        wipe: table.flag_at("wipe", report),
        live: table.one_or_more_texts("live", "ram-worker", report),
        accept: table.one_or_more_texts("accept", "rack1", report),
        limits: limits.unwrap_or_default(),
    }
}

impl Written {
    /// Adds what a further file says.
    pub(super) fn add(&mut self, more: Self, report: &mut Report<'_>) {
        one(&mut self.agent, more.agent, report);
        one(&mut self.discovery, more.discovery, report);
        one(&mut self.wipe, more.wipe, report);
        one_list(&mut self.live, more.live, report);
        one_list(&mut self.accept, more.accept, report);
        self.limits.extend(more.limits);
    }
}

/// The settings.
pub(super) fn check(
    from: &Written,
    profiles: &ProfileNames<'_>,
    groups: &[&str],
    report: &mut Report<'_>,
) -> Lifecycle {
    let mut settings = Lifecycle::default();
    let mut profile = |at: &At<String>| at.read(report, |text| profiles.find(text));
    settings.agent = from.agent.as_ref().and_then(&mut profile);
    settings.discovery = from.discovery.as_ref().and_then(&mut profile);
    settings.live = from.live.iter().filter_map(&mut profile).collect();
    settings.wipe = from.wipe.as_ref().is_none_or(|at| at.value);
    settings.accept = match &from.accept[..] {
        [only] if only.value == "all" => Accept::All,
        names => Accept::Groups(
            names.iter().filter_map(|at| at.read(report, |text| group(text, groups))).collect(),
        ),
    };
    for (state, at) in &from.limits {
        let limit = at.read(report, amount::interval);
        settings.limits.extend(limit.map(|limit| ((*state).to_owned(), limit)));
    }
    settings
}

fn group(name: &str, groups: &[&str]) -> Result<String, String> {
    if groups.contains(&name) {
        return Ok(name.to_owned());
    }
    let hint = did_you_mean(name, groups.iter().copied());
    Err(format!("there is no group {}{hint}; name a [[group]], or write accept = \"all\"", quoted(name)))
}
