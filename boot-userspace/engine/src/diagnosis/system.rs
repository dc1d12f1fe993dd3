//! Causes from the kernel on: the system is silent, reports a failure, boots over and over, or took long.

use boot_common::class::Stage;

use super::beside::switch_tells;
use super::boot::{Boot, Timed};
use super::case::{Case, Reached};
use super::causes::Cause;
use super::loader;
use super::parts::{Took, Usual, parts};
use super::standing;
use super::steps::{Given, What};
use super::verdict::Verdict;
use super::words::seconds;

/// How long a system may take until it asks for an address: a large initrd is unpacked within that, on a slow machine too.
const STARTS: u64 = 120_000;
/// So many boots within this time, each with its kernel, are a loop.
const LOOP: usize = 4;
const LOOP_WITHIN: u64 = 30 * 60_000;
/// A boot is slow if it takes so many times as long as the machine's earlier ones, and so much longer.
const SLOW_TIMES: u64 = 2;
const SLOW_BY: u64 = 20_000;
/// So many earlier boots are compared with, at least, or so many of its neighbours.
const COMPARED: usize = 2;
const NEIGHBOURS: usize = 5;
/// Before the first offer is taken, so many lost ones mean that the port forwarded late.
const LOST_OFFERS: u32 = 2;

/// The machine's own report, or a sign of its operating system.
pub(super) fn finished(case: &Case<'_>) -> Option<Verdict> {
    let reached = case.reached();
    if reached < Reached::System {
        return None;
    }
    if let Some(step) = case.steps(|what| matches!(what, What::PhoneHome { .. })).last() {
        if matches!(step.what, What::PhoneHome { success: false, .. }) {
            return Verdict::certain(Cause::ReportedFailure, "the machine said so itself", &[step]);
        }
        return looped(case)
            .or_else(|| slow(case))
            .or_else(|| late(case))
            .or_else(|| Verdict::certain(Cause::Boots, "the machine said so itself", &[step]));
    }
    // Its system may have come from its disk after the network boot failed.
    let has_kernel =
        case.boot.steps.iter().any(|step| step.what.sent().is_some_and(|file| case.is_kernel(file)));
    if !has_kernel && !case.kernel_is_elsewhere() {
        return standing::held(case);
    }
    let system = case.steps(|what| {
        matches!(what, What::DocumentSent { .. } | What::NoDocument { .. })
            || what.is_answer_to(Stage::Os) && !matches!(what, What::Answered { given: Given::Offer, .. })
    });
    looped(case).or_else(|| slow(case)).or_else(|| late(case)).or_else(|| {
        Verdict::certain(Cause::Boots, "its operating system asked for an address or a document", &system)
    })
}

pub(super) fn judge(case: &Case<'_>) -> Option<Verdict> {
    if case.reached() < Reached::Kernel {
        return None;
    }
    if let Some(found) = loader::kernel_trouble(case).or_else(|| looped(case)) {
        return Some(found);
    }
    let files =
        case.steps(|what| what.sent().is_some_and(|file| case.is_kernel(file) || case.is_initrd(file)));
    if case.silence() < STARTS {
        let last = case.boot.steps.last()?;
        return Verdict::certain(
            Cause::UnderWay,
            "it has its kernel, and its system may take a while",
            &[last],
        );
    }
    let because = format!("for {} after the last file nothing was heard", seconds(case.boot_silence()));
    Verdict::likely(Cause::SystemSilent, because, &files)
}

fn has_kernel(case: &Case<'_>, boot: &Boot) -> bool {
    boot.steps.iter().any(|step| step.what.sent().is_some_and(|file| case.is_kernel(file)))
}

fn looped(case: &Case<'_>) -> Option<Verdict> {
    if !has_kernel(case, case.boot) {
        return None;
    }
    let is_recent = |boot: &&&Boot| boot.opened + LOOP_WITHIN > case.boot.opened;
    let before = case.before.iter().take_while(is_recent).filter(|boot| has_kernel(case, boot));
    let boots: Vec<&Boot> = before.copied().chain([case.boot]).collect();
    if boots.len() < LOOP {
        return None;
    }
    let kernels: Vec<&Timed> = boots
        .iter()
        .filter_map(|boot| {
            boot.steps.iter().find(|step| step.what.sent().is_some_and(|file| case.is_kernel(file)))
        })
        .collect();
    let first = boots.iter().map(|boot| boot.opened).min().unwrap_or(0);
    let because = format!(
        "{} boots within {}, each with its kernel",
        boots.len(),
        seconds(case.boot.opened.saturating_sub(first))
    );
    Verdict::likely(Cause::BootLoop, because, &kernels)
}

fn slow(case: &Case<'_>) -> Option<Verdict> {
    let before = Usual::of(case.before.iter().copied());
    // Its neighbours have the same profile. What is usual for the machine itself says more.
    let (usual, whose) = if before.len() >= COMPARED {
        (&before, "its earlier boots")
    } else {
        (case.usual.filter(|usual| usual.len() >= NEIGHBOURS)?, "other machines of its profile")
    };
    let took = parts(case.boot);
    let whole: u64 = took.iter().map(|took| took.millis).sum();
    let usually = usual.whole()?;
    if whole < usually * SLOW_TIMES || whole < usually + SLOW_BY {
        return None;
    }
    let longer = |took: &Took<'_>| took.millis.saturating_sub(usual.part(took.part).unwrap_or(0));
    let slowest = took.iter().max_by_key(|took| longer(took))?;
    let because = format!(
        "it took {}, and {whose} {}; {} took {}, and usually {}",
        seconds(whole),
        seconds(usually),
        slowest.part.says(),
        seconds(slowest.millis),
        seconds(usual.part(slowest.part).unwrap_or(0)),
    );
    Verdict::certain(Cause::Slow, because, &[slowest.from, slowest.to])
}

/// The boot went well, but the first offers were lost.
fn late(case: &Case<'_>) -> Option<Verdict> {
    let first = case.boot.steps.first()?;
    let is_offer = matches!(first.what, What::Answered { given: Given::Offer, .. });
    // What it asked before did not even arrive here.
    if is_offer && u64::from(first.secs) * 1000 >= SLOW_BY {
        let because = format!("it had asked for {} s when it was first heard here", first.secs);
        return Some(switch_tells(case, Verdict::likely(Cause::LateLink, because, &[first])?));
    }
    if !is_offer || first.count <= LOST_OFFERS || first.last.saturating_sub(first.at) < SLOW_BY {
        return None;
    }
    let because = format!(
        "{} offers within {} until the machine took one",
        first.count,
        seconds(first.last.saturating_sub(first.at))
    );
    Some(switch_tells(case, Verdict::likely(Cause::LateLink, because, &[first])?))
}
