//! What the API of boots sends. Times are in milliseconds since the Unix epoch.

use serde::{Deserialize, Serialize};

use boot_engine::diagnosis::{Boot, Group, Sure, Verdict};

/// A boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Boot)]
pub struct ShownBoot {
    /// The machine.
    pub mac: String,
    /// Its name.
    pub name: Option<String>,
    /// The interface that it was heard on.
    pub interface: Option<String>,
    /// When it began.
    pub opened: u64,
    /// When something happened last.
    pub last: u64,
    /// Whether the machine has reported, or has begun another boot.
    pub is_over: bool,
    /// The steps; none in lists of many machines.
    pub steps: Vec<ShownStep>,
    /// How many steps more there were than are kept.
    pub more: u32,
    /// Why it ended as it did.
    pub verdict: Option<ShownVerdict>,
}

/// A step of a boot, or a step that shows a cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Step)]
pub struct ShownStep {
    /// When it happened first.
    pub at: u64,
    /// When it happened last.
    pub last: u64,
    /// How often it happened in a row.
    pub count: u32,
    /// Who did it: `xdp`, `tc`, `daemon` or `operator`.
    pub by: String,
    /// What happened, in words.
    pub says: String,
    /// The same for programs.
    pub what: serde_json::Value,
}

/// Why a machine did not boot, or how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Verdict)]
pub struct ShownVerdict {
    /// The cause's name.
    pub cause: String,
    /// The cause in one sentence.
    pub says: String,
    /// `certain` or `likely`.
    pub sure: String,
    /// Why that, and no more.
    pub because: String,
    /// The steps that show it.
    pub evidence: Vec<ShownEvidence>,
    /// What the console shows.
    pub console: Vec<String>,
    /// What to do; empty if nothing is wrong.
    pub remedy: String,
    /// The page that says more.
    pub page: String,
}

/// A step that shows a cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Evidence)]
pub struct ShownEvidence {
    /// When it happened.
    pub at: u64,
    /// What happened, in words.
    pub says: String,
}

/// A machine with the verdict of one of its boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Why)]
pub struct ShownMachine {
    /// The machine.
    pub mac: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Which of its boots: 1 is the last one. None: it has never asked.
    pub boot: Option<usize>,
    /// How many boots of it are known.
    pub boots: usize,
    /// When that boot began.
    pub opened: Option<u64>,
    /// The verdict.
    pub verdict: ShownVerdict,
}

/// The machines of one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Group)]
pub struct ShownGroup {
    /// The cause's name.
    pub cause: String,
    /// The cause in one sentence.
    pub says: String,
    /// What to do; empty if nothing is wrong.
    pub remedy: String,
    /// How many machines.
    pub count: usize,
    /// What became of them, behind the word "machines": `got no OFFER`.
    pub did: String,
    /// When the first of these boots began.
    pub since: u64,
    /// What nearly all of them share and few others have, the most telling first.
    pub shared: Vec<ShownShare>,
    /// The machines, by name or MAC.
    pub machines: Vec<String>,
}

/// What all machines of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Share)]
pub struct ShownShare {
    /// The kind: `relay`, `subnet`, `profile` and so on.
    pub kind: String,
    /// The value.
    pub value: String,
    /// How many machines of the group have it.
    #[serde(default)]
    pub members: usize,
    /// How many machines have it, those of other causes too.
    pub of: usize,
}

impl ShownBoot {
    pub(super) fn new(boot: &Boot, name: Option<String>, verdict: Option<Verdict>) -> Self {
        let steps = boot.all_steps().into_iter().map(|step| ShownStep {
            at: step.at,
            last: step.last,
            count: step.count,
            by: word(&step.by),
            says: step.says(),
            what: serde_json::to_value(&step.what).unwrap_or_default(),
        });
        Self {
            mac: boot.mac.to_string(),
            name,
            interface: boot.link.as_deref().map(str::to_owned),
            opened: boot.opened,
            last: boot.last(),
            is_over: boot.is_over,
            steps: steps.collect(),
            more: boot.more,
            verdict: verdict.map(ShownVerdict::from),
        }
    }
}

impl From<Verdict> for ShownVerdict {
    fn from(verdict: Verdict) -> Self {
        let page = verdict.page();
        let Verdict { cause, sure, because, evidence } = verdict;
        let sure = match sure {
            Sure::Certain => "certain",
            Sure::Likely => "likely",
        };
        Self {
            cause: cause.name().to_owned(),
            says: cause.says().to_owned(),
            sure: sure.to_owned(),
            because,
            evidence: evidence
                .into_iter()
                .map(|step| ShownEvidence { at: step.at, says: step.says })
                .collect(),
            console: cause.console().iter().map(|line| (*line).to_owned()).collect(),
            remedy: cause.remedy().to_owned(),
            page,
        }
    }
}

impl From<Group> for ShownGroup {
    fn from(group: Group) -> Self {
        let Group { cause, members, shared, since } = group;
        let shared: Vec<ShownShare> = shared
            .into_iter()
            .map(|shared| ShownShare {
                kind: shared.kind.to_owned(),
                value: shared.value,
                members: shared.members,
                of: shared.of,
            })
            .collect();
        Self {
            cause: cause.name().to_owned(),
            says: cause.says().to_owned(),
            did: cause.did().to_owned(),
            remedy: cause.remedy().to_owned(),
            count: members.len(),
            since,
            shared,
            machines: members
                .into_iter()
                .map(|member| member.name.unwrap_or_else(|| member.mac.to_string()))
                .collect(),
        }
    }
}

/// A value that JSON writes as one word.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
