//! The one function that moves a machine.

use std::collections::BTreeMap;

use super::history::Past;
use super::intent::{Intent, Wanted};
use super::power::{Act, Need};
use super::state::State;
use super::status::{Observed, Status};

/// More changes at once than there are states would be a circle.
const MOST_CHANGES: usize = State::ALL.len();

/// What the configuration says of all machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether there is a profile that takes inventories and wipes.
    pub has_agent: bool,
    /// Whether machines are wiped before they are ready.
    pub wipes: bool,
    /// For how many seconds a machine may be in a state. Where there is none: for ever.
    pub limits: BTreeMap<State, u64>,
    /// For how many seconds the effect of a command to a BMC is awaited before the next try.
    pub pause: u64,
    /// After how many seconds a BMC is asked again where nothing is awaited.
    pub poll: u64,
}

impl Rules {
    /// Whether a machine is in its state for longer than it should be.
    #[must_use]
    pub fn is_above_limit(&self, status: &Status, now: u64) -> bool {
        self.limits.get(&status.state).is_some_and(|limit| now.saturating_sub(status.since) > *limit)
    }
}

/// What is to be done about a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until something happens. Says what.
    Wait(String),
    /// Its BMC is to be told this. Who is switched on boots from the network.
    Act(Act),
    /// It becomes this, for this reason.
    Become(State, String),
}

/// What a step has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stepped {
    /// The changes of its state, in their order.
    pub changes: Vec<Past>,
    /// What its BMC is to be told, after the status is stored. It may be done twice.
    pub power: Option<Act>,
    /// It is in its state for longer than it should be, which was not said before.
    pub is_overdue: bool,
    /// What differs from its inventory before, one sentence for each thing.
    pub differences: Vec<String>,
}

/// Takes down what was seen of a machine, and moves it as far as it goes. `by` is who is behind it. `now` is in Unix seconds.
pub fn step(
    rules: &Rules,
    intent: &Intent,
    status: &mut Status,
    observed: Observed,
    by: &str,
    now: u64,
) -> Stepped {
    let mut stepped = Stepped::default();
    status.power.end_pause(now);
    status.observe(observed, rules.pause, now);
    for _ in 0..MOST_CHANGES {
        match next(rules, intent, status, now) {
            Next::Wait(why) => {
                status.waits = why;
                break;
            }
            Next::Act(act) => {
                status.power.rungs += 1;
                status.power.begin(act, "xpxe", now);
                stepped.power = Some(act);
                // What it waits for now is said by the next turn.
            }
            Next::Become(state, why) => {
                status.become_state(state, why, by, intent, now);
                stepped.changes.extend(status.history.last().cloned());
            }
        }
    }
    if !status.is_overdue && rules.is_above_limit(status, now) {
        (status.is_overdue, stepped.is_overdue) = (true, true);
    }
    stepped
}

/// What is to be done about a machine now. `now` is in Unix seconds.
#[must_use]
pub fn next(rules: &Rules, intent: &Intent, status: &Status, now: u64) -> Next {
    use State::{
        Accepted, Allocated, Discovered, Failed, Ignored, Installing, Maintenance, Ready, Released, Running,
    };
    let wait = |why: &str| Next::Wait(why.to_owned());
    let become_ = |state, why: &str| Next::Become(state, why.to_owned());
    let state = status.state;
    match (&intent.maintenance, state) {
        _ if intent.ignored && state != Ignored => return become_(Ignored, "it is to be ignored"),
        _ if intent.ignored => return wait("it is ignored until somebody accepts it"),
        (Some(why), Maintenance) => return Next::Wait(format!("maintenance: {why}")),
        (Some(why), _) => return Next::Become(Maintenance, why.clone()),
        (None, _) => {}
    }
    let wipe_is_due = intent.wipe > status.wiped;
    let is_released = intent.wanted != Wanted::Run;
    match state {
        Ignored | Maintenance => {
            become_(status.before.unwrap_or(Discovered), "it is to be left alone no longer")
        }
        Discovered if intent.wanted == Wanted::Hold => {
            wait("nobody has accepted it: accept or ignore it (xpxe machines accept, or ignore)")
        }
        Discovered => become_(Accepted, "it was accepted"),
        Accepted | Released => wiping(rules, status, now),
        Ready if wipe_is_due => become_(Released, "it is to be wiped"),
        Ready if !is_released => become_(Allocated, "it was allocated"),
        Ready => power(status, false, now)
            .unwrap_or_else(|| wait("it is free: nobody has allocated it (xpxe machines allocate)")),
        Allocated | Installing | Running if is_released => become_(Released, "it was released"),
        Allocated | Installing | Running if wipe_is_due => become_(Released, "it is to be wiped"),
        Allocated | Installing => installing(intent, status, now),
        Running if intent.install > status.installed => become_(Allocated, "it is to be installed anew"),
        Running => wait("it runs"),
        Failed if intent.order > status.order => retried(intent, status),
        Failed => Next::Wait(format!(
            "it has failed ({}): mend the cause, then give it a new order (accept, allocate, release, wipe or reinstall)",
            status.reason
        )),
    }
}

/// A machine that the agent wipes.
fn wiping(rules: &Rules, status: &Status, now: u64) -> Next {
    if !rules.wipes {
        let why = "it was not wiped, because the configuration says wipe = false";
        return Next::Become(State::Ready, why.to_owned());
    }
    match &status.report {
        Some(Ok(_)) => Next::Become(State::Ready, "the agent reports that it is wiped".to_owned()),
        Some(Err(why)) => Next::Become(State::Failed, format!("the agent reports: {why}")),
        None if !rules.has_agent => Next::Wait(
            "it is to be wiped and there is no agent: set agent in [lifecycle], or wipe = false there"
                .to_owned(),
        ),
        None => power(status, true, now).unwrap_or_else(|| {
            Next::Wait("for the agent's report; it boots the agent when it asks".to_owned())
        }),
    }
}

/// A machine that is to run its profile.
fn installing(intent: &Intent, status: &Status, now: u64) -> Next {
    match (&status.report, status.state) {
        (Some(Ok(_)), _) => Next::Become(State::Running, "it reports that it runs".to_owned()),
        (Some(Err(why)), _) => Next::Become(State::Failed, format!("it reports: {why}")),
        (None, State::Installing) if intent.install > status.installed => {
            Next::Become(State::Allocated, "it is to be installed anew".to_owned())
        }
        (None, State::Installing) if status.written => Next::Wait(
            "for its report (/phone-home); its image is written, and it boots from its disk".to_owned(),
        ),
        (None, State::Installing) => Next::Wait("for its report (/phone-home)".to_owned()),
        (None, _) if status.kernel => {
            Next::Become(State::Installing, "its installation has begun".to_owned())
        }
        (None, _) => power(status, true, now).unwrap_or_else(|| {
            Next::Wait("until it fetches its kernel; it boots its profile when it asks".to_owned())
        }),
    }
}

/// A machine that has failed, and somebody has ordered something since.
fn retried(intent: &Intent, status: &Status) -> Next {
    let why = "somebody has ordered it anew".to_owned();
    let failed_in = status.failure.as_ref().map(|(state, _)| *state);
    let to = match (intent.wanted, failed_in) {
        (Wanted::Hold, _) => State::Discovered,
        // What was being wiped is not clean.
        (_, Some(State::Accepted)) => State::Accepted,
        (_, Some(State::Released)) | (Wanted::Pool, _) => State::Released,
        (Wanted::Run, _) => State::Allocated,
    };
    Next::Become(to, why)
}

/// What is to be done for a machine to be on or off. Nothing if it is, or if nobody knows.
fn power(status: &Status, wanted: bool, now: u64) -> Option<Next> {
    Some(match status.power.next(wanted, now)? {
        Need::Wait(why) => Next::Wait(why),
        Need::Act(act) => Next::Act(act),
        Need::Fail(why) => Next::Become(State::Failed, why),
    })
}
