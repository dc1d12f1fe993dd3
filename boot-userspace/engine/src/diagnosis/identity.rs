//! Two machines that are one for the network: the same MAC, or the same UUID.

use super::boot::{Boot, Timed};
use super::case::{Case, Reached};
use super::causes::Cause;
use super::steps::What;
use super::verdict::{Evidence, Verdict};

/// Boots so many milliseconds apart are of one time: nobody changes a board within it.
const ONE_TIME: u64 = 3_600_000;

/// One MAC that shows two UUIDs.
pub(super) fn same_mac(case: &Case<'_>) -> Option<Verdict> {
    let is_near = |boot: &&&Boot| boot.last() + ONE_TIME > case.boot.opened;
    let boots = case.before.iter().take_while(is_near).copied().chain([case.boot]);
    let scripts: Vec<&Timed> =
        boots.flat_map(|boot| &boot.steps).filter(|step| step.uuid().is_some()).collect();
    let last = case.boot.uuid()?;
    let other = scripts.iter().find(|step| step.uuid() != Some(last))?;
    let own = scripts.iter().find(|step| step.uuid() == Some(last))?;
    let because = format!(
        "{} was used by two machines: one says that it has the UUID {last}, another one {}",
        case.boot.mac,
        other.uuid()?
    );
    Verdict::certain(Cause::DuplicateIdentity, because, &[other, own])
}

/// One UUID that two cards show which boot at the same time. A machine with two cards tries one after the other.
pub(super) fn same_uuid(case: &Case<'_>) -> Option<Verdict> {
    let shared = case.steps(|what| matches!(what, What::SharedIdentity { .. }));
    if !shared.is_empty() {
        let because = "its UUID or switch port is that of a machine whose address another card has";
        return Verdict::certain(Cause::DuplicateIdentity, because, &shared);
    }
    let told = case.steps(|what| matches!(what, What::Conflict { .. }));
    if let Some(last) = told.last() {
        return Verdict::certain(Cause::DuplicateIdentity, last.what.to_string(), &told);
    }
    if case.reached() >= Reached::System {
        return None;
    }
    let own = case.boot.uuid()?;
    let is_before_system = |step: &&Timed| !super::parts::is_system(&step.what);
    let last = |boot: &Boot| boot.steps.iter().filter(is_before_system).map(|step| step.last).max();
    let script = |boot: &Boot| boot.steps.iter().find(|step| step.uuid() == Some(own)).map(|step| step.at);
    let (own_last, own_script) = (last(case.boot)?, script(case.boot)?);
    let (other, at) = case.twins.iter().find_map(|other| {
        let at = script(other)?;
        // Each has gone on after the other one was at its script.
        (own_last > at && last(other)? > own_script).then_some((other, at))
    })?;
    let because = format!("{own} is shown by {} as well, which boots at the same time", other.mac);
    let steps = case.steps(|what| matches!(what, What::ScriptSent { .. }));
    let found = Verdict::likely(Cause::DuplicateIdentity, because, &steps)?;
    let Evidence { at, says } =
        Evidence { at, says: format!("{} fetched its boot script as {own}, too", other.mac) };
    Some(found.with(at, says))
}
