//! Causes between power-on and the first file: the machine has no address, another server's, or does nothing with it.

use boot_common::Reason;
use boot_common::class::Stage;

use super::beside::{other_file, switch_tells, whose};
use super::boot::Timed;
use super::case::{Case, Reached};
use super::causes::Cause;
use super::steps::{Given, What};
use super::verdict::Verdict;
use super::words::seconds;

/// Firmware requests an address at most 5 s after an offer in time: after three times that it is not going to.
const NOT_TAKEN: u64 = 15_000;
/// A machine with an address asks for its file within a second or two.
const NO_FILE: u64 = 15_000;
/// So many offers in a row mean that none arrives.
const OFFERS: u32 = 3;

pub(super) fn judge(case: &Case<'_>) -> Option<Verdict> {
    if case.reached() > Reached::Addressed {
        return None;
    }
    refused(case)
        .or_else(|| in_use(case))
        .or_else(|| other_server(case))
        .or_else(|| not_answered(case))
        .or_else(|| not_taken(case))
        .or_else(|| no_file(case))
}

fn is_offer(what: &What) -> bool {
    matches!(what, What::Answered { given: Given::Offer, .. }) && !what.is_answer_to(Stage::Os)
}

fn is_confirmed(what: &What) -> bool {
    matches!(
        what,
        What::Answered { given: Given::Ack | Given::Bootp | Given::BootFile, .. }
            | What::TookElsewhere { .. }
    )
}

fn not_answered(case: &Case<'_>) -> Option<Verdict> {
    let position = case.last_position(|what| matches!(what, What::Unanswered { .. }))?;
    if case.comes_behind(position, |what| matches!(what, What::Answered { .. })) {
        return None;
    }
    let step = case.boot.steps.get(position)?;
    let What::Unanswered { reason, relay } = &step.what else { return None };
    if *reason == Reason::NoAnswer
        && let Some(found) = no_loader(case)
    {
        return Some(found);
    }
    let evidence = [step];
    let told = case.facts.stands.as_ref().and_then(|stands| stands.told.as_ref());
    match reason {
        Reason::NoSubnet => {
            let place = if relay.is_unspecified() {
                format!(
                    "no address of {} is in a [[subnet]]",
                    case.boot.link.as_deref().unwrap_or("the interface")
                )
            } else {
                format!("its relay, {relay}, is in no [[subnet]]")
            };
            Verdict::certain(Cause::NoSubnet, place, &evidence)
        }
        Reason::PoolExhausted => {
            Verdict::certain(Cause::PoolExhausted, "that is why this server did not answer", &evidence)
        }
        Reason::OtherServer => None,
        Reason::UnknownHost if told.is_some() => {
            Verdict::certain(Cause::NotAnswered, told.cloned().unwrap_or_default(), &evidence)
        }
        // The daemon keeps silent for one that it does not know, which another server may.
        other => {
            Verdict::certain(Cause::NotAnswered, format!("this server's reason: {}", other.says()), &evidence)
        }
    }
}

fn refused(case: &Case<'_>) -> Option<Verdict> {
    let is_nak = |what: &What| matches!(what, What::Refused { .. } | What::RefusedByOther { .. });
    let position = case.last_position(is_nak)?;
    if case.comes_behind(position, |what| is_offer(what) || is_confirmed(what)) {
        return None;
    }
    let step = case.boot.steps.get(position)?;
    match &step.what {
        What::RefusedByOther { server } => {
            Verdict::certain(Cause::RefusedByOther, whose(case, *server), &[step])
        }
        What::Refused { why } => Verdict::certain(Cause::RefusedHere, why.to_string(), &[step]),
        _ => None,
    }
}

fn other_server(case: &Case<'_>) -> Option<Verdict> {
    let took = |what: &What| {
        matches!(what, What::ChoseOther { .. } | What::Unanswered { reason: Reason::OtherServer, .. })
    };
    let position = case.last_position(took)?;
    if case.comes_behind(position, is_confirmed) {
        return None;
    }
    let mut evidence = case.steps(took);
    evidence.extend(case.steps(|what| matches!(what, What::GivenByOther { .. })));
    let named = case.boot.steps.iter().rev().find_map(|step| match step.what {
        What::ChoseOther { server, .. } | What::GivenByOther { server, .. } => Some(server),
        _ => None,
    });
    match named.or_else(|| case.network.servers().next().map(|server| server.server)) {
        Some(server) => Verdict::certain(Cause::OtherServer, whose(case, server), &evidence),
        None => Verdict::certain(Cause::OtherServer, "its request names another server", &evidence),
    }
}

fn in_use(case: &Case<'_>) -> Option<Verdict> {
    let position = case.last_position(|what| matches!(what, What::AddressInUse { .. }))?;
    if case.comes_behind(position, is_confirmed) {
        return None;
    }
    let evidence = case.steps(|what| matches!(what, What::AddressInUse { .. }));
    let is_found = |step: &&Timed| matches!(&step.what, What::AddressInUse { user, .. } if !user.is_empty());
    if evidence.iter().any(is_found) {
        return Verdict::certain(Cause::AddressInUse, "the address was found in use", &evidence);
    }
    Verdict::likely(Cause::AddressInUse, "the machine says so; this server found nobody there", &evidence)
}

fn not_taken(case: &Case<'_>) -> Option<Verdict> {
    let position = case.last_position(is_offer)?;
    if case.comes_behind(position, is_confirmed) {
        return None;
    }
    let offers = case.steps(is_offer);
    let asked_again: u32 = offers.iter().map(|step| step.count).sum();
    if asked_again < OFFERS && case.silence() < NOT_TAKEN {
        return None;
    }
    let is_proxy = offers
        .iter()
        .all(|step| matches!(step.what, What::Answered { address, .. } if address.is_unspecified()));
    if is_proxy {
        let because = "its offers from here have no address, and it asked for none from another server";
        return Verdict::likely(Cause::NoAddressFromOther, because, &offers);
    }
    let rivals = case.steps(|what| matches!(what, What::GivenByOther { .. }));
    if let Some(step) = rivals.first()
        && let What::GivenByOther { server, .. } = step.what
    {
        let because = format!("another server offered it an address, too; {}", whose(case, server));
        return Verdict::likely(Cause::OtherServer, because, &[rivals, offers].concat());
    }
    let sources = case.steps(|what| matches!(what, What::ReplySource { .. }));
    if let Some(step) = sources.last()
        && let What::ReplySource { asked, from, .. } = step.what
    {
        let because = format!("its requests go to {asked}, the offers leave from {from}, and none is taken");
        return Verdict::likely(Cause::ReplySource, because, &[sources, offers].concat());
    }
    let because = if asked_again >= OFFERS {
        format!("{asked_again} offers left within {}, and no request came back", seconds(spread(&offers)))
    } else {
        format!("an offer left, and for {} no request came back", seconds(case.boot_silence()))
    };
    Some(switch_tells(case, Verdict::likely(Cause::OfferNotTaken, because, &offers)?))
}

fn spread(steps: &[&Timed]) -> u64 {
    let first = steps.iter().map(|step| step.at).min().unwrap_or(0);
    steps.iter().map(|step| step.last).max().unwrap_or(0).saturating_sub(first)
}

fn no_loader(case: &Case<'_>) -> Option<Verdict> {
    let missing = case.steps(|what| matches!(what, What::NoLoader { .. }));
    Verdict::certain(Cause::NoLoader, "this server has none to name", &missing)
}

fn no_file(case: &Case<'_>) -> Option<Verdict> {
    if case.silence() < NO_FILE {
        return None;
    }
    if let Some(found) = no_loader(case) {
        return Some(found);
    }
    let position = case.last_position(|what| is_confirmed(what) && !what.is_answer_to(Stage::Os))?;
    let step = case.boot.steps.get(position)?;
    if let Some(found) = other_file(case, None, step) {
        return Some(found);
    }
    let because = format!("for {} after its address it asked for no file here", seconds(case.boot_silence()));
    Verdict::likely(Cause::NoFileAsked, because, &[step])
}
