//! Causes that are not in the network: the registry has the machine in a state in which it boots nothing, or it has been in
//! one for too long.

use super::case::{Case, Facts, Stands};
use super::causes::Cause;
use super::steps::What;
use super::verdict::{Evidence, Sure, Verdict};
use crate::lifecycle::State;

/// By so many milliseconds a state may seem to have begun after what it has led to: it is stored in whole seconds.
const ROUNDED: u64 = 2000;

/// The cause of a machine that is told to wait, or to leave, in its state.
fn cause(stands: &Stands) -> Cause {
    match stands.state {
        _ if stands.is_unserved => Cause::NotServed,
        None | Some(State::Discovered) => Cause::NotAccepted,
        // An image that an agent is to write, or has written.
        Some(State::Allocated | State::Installing) if stands.is_sent_away => Cause::FromDisk,
        Some(State::Accepted | State::Released | State::Allocated | State::Installing) => Cause::NoAgent,
        Some(State::Ready) => Cause::NotAllocated,
        Some(State::Running) => Cause::FromDisk,
        Some(State::Maintenance) => Cause::InMaintenance,
        Some(State::Ignored) => Cause::Ignored,
        Some(State::Failed) => Cause::FailedBefore,
    }
}

/// What the registry has to say, as evidence.
fn sign(stands: &Stands) -> Option<Evidence> {
    let state = stands.state?;
    Some(Evidence { at: stands.since, says: format!("{state} since then: {}", stands.waits) })
}

/// A machine that asked what it is to boot, and was told to wait or to leave.
pub(super) fn held(case: &Case<'_>) -> Option<Verdict> {
    let stands = case.facts.stands.as_ref()?;
    let told = stands.told.as_ref()?;
    let asked = case.steps(|what| matches!(what, What::ScriptSent { .. } | What::NoScript { .. }));
    let last = asked.last().filter(|last| last.last + ROUNDED >= stands.since)?;
    let found = Verdict::certain(cause(stands), told.clone(), &[last])?;
    Some(with_sign(found, stands))
}

/// A machine that gets no answer since it is ignored.
pub(super) fn ignored(case: &Case<'_>) -> Option<Verdict> {
    let stands = case.facts.stands.as_ref()?;
    let is_after = stands.since + ROUNDED >= case.boot.last();
    if stands.state != Some(State::Ignored) || !is_after {
        return None;
    }
    silent(case.facts, case.boot.opened)
}

/// A machine without a boot, if that is no wonder. `since`: since when it is listened to, in milliseconds since the Unix
/// epoch.
pub(super) fn silent(facts: &Facts, since: u64) -> Option<Verdict> {
    let stands = facts.stands.as_ref()?;
    if stands.is_overdue {
        return Some(stuck_in(stands, Vec::new()));
    }
    stands.state?;
    // One that was accepted or allocated is to boot, agent or not.
    let cause = Some(cause(stands)).filter(|cause| *cause != Cause::NoAgent)?;
    let because = stands.told.clone().unwrap_or_else(|| stands.waits.clone());
    let at = if stands.since == 0 { since } else { stands.since };
    let evidence = sign(stands).map(|sign| Evidence { at, ..sign });
    Some(Verdict { cause, sure: Sure::Certain, because, evidence: evidence.into_iter().collect() })
}

/// A machine that should have left its state long ago: where its boot itself shows nothing wrong, that is the cause;
/// otherwise it is one more sign.
pub(super) fn stuck(case: &Case<'_>, found: Verdict) -> Verdict {
    let Some(stands) = case.facts.stands.as_ref().filter(|stands| stands.is_overdue) else { return found };
    let is_fine = matches!(
        found.cause,
        Cause::Boots
            | Cause::UnderWay
            | Cause::OutOfSight
            | Cause::Waiting
            | Cause::NotAccepted
            | Cause::NoAgent
            | Cause::NotAllocated
            | Cause::FromDisk
            | Cause::FailedBefore
            | Cause::NotServed
    );
    if is_fine { stuck_in(stands, found.evidence) } else { with_sign(found, stands) }
}

fn stuck_in(stands: &Stands, mut evidence: Vec<Evidence>) -> Verdict {
    let last = evidence.pop();
    let state = stands.state.map_or("its state", State::name);
    Verdict {
        cause: Cause::StuckInState,
        sure: Sure::Certain,
        because: format!("it is {state} for longer than [lifecycle] allows, and waits: {}", stands.waits),
        evidence: sign(stands).into_iter().chain(last).collect(),
    }
}

fn with_sign(found: Verdict, stands: &Stands) -> Verdict {
    match sign(stands) {
        Some(Evidence { at, says }) if at != 0 && found.evidence.iter().all(|other| other.says != says) => {
            found.with(at, says)
        }
        _ => found,
    }
}
