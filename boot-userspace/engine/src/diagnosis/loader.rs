//! Causes between the boot file and the kernel: the loader is silent, has no address, loops, or does not get its kernel.

use boot_common::class::Stage;

use super::beside::switch_tells;
use super::boot::Timed;
use super::case::{Case, Reached};
use super::causes::Cause;
use super::steps::{Given, What};
use super::verdict::Verdict;
use super::words::seconds;
use super::{files, standing};

/// How long a loader may take until it asks for something: a slow machine verifies and starts it within that.
const STARTS: u64 = 20_000;
/// iPXE has asked four times by then, and gives up.
const IPXE_DHCP: u64 = 15_000;
/// After so many seconds without an answer iPXE is late: it says 4 with its first message.
const IPXE_BEGINS: u16 = 8;
/// How long iPXE may take from its address to its script, and from its script to the kernel.
const ASKS: u64 = 15_000;
/// Scripts in a row that lead to no kernel.
const SCRIPTS: u32 = 3;
/// The same loader so often within a boot is a loop; firmware asks twice at most.
const LOADERS: u32 = 3;

pub(super) fn judge(case: &Case<'_>) -> Option<Verdict> {
    match case.reached() {
        Reached::Loader => kernel_or_loader(case),
        Reached::IpxeOffered => looped(case).or_else(|| ipxe_without_address(case)),
        Reached::IpxeAddressed => looped(case).or_else(|| files::no_tls(case)).or_else(|| {
            // An iPXE ROM may boot a loader by TFTP.
            if case
                .boot
                .steps
                .iter()
                .any(|step| matches!(step.what, What::TftpMissing { .. } | What::FileMissing { .. }))
            {
                kernel_trouble(case)
            } else {
                no_script_asked(case)
            }
        }),
        Reached::Script => script(case),
        _ => None,
    }
}

fn is_loader(case: &Case<'_>, what: &What) -> bool {
    what.sent().is_some_and(|file| !case.is_kernel(file) && !case.is_initrd(file))
}

fn kernel_or_loader(case: &Case<'_>) -> Option<Verdict> {
    looped(case).or_else(|| kernel_trouble(case)).or_else(|| files::stalled(case)).or_else(|| silent(case))
}

/// The loader went out, and nothing came of it.
fn silent(case: &Case<'_>) -> Option<Verdict> {
    if case.silence() < STARTS {
        return None;
    }
    let mut evidence = case.steps(|what| is_loader(case, what));
    let file = evidence.last()?.what.sent()?;
    let earlier = case.before.iter().take_while(|boot| {
        let last = boot.steps.iter().rev().find_map(|step| step.what.sent());
        last == Some(file)
    });
    let earlier: Vec<&Timed> = earlier
        .filter_map(|boot| boot.steps.iter().rev().find(|step| step.what.sent() == Some(file)))
        .collect();
    if let Some(wrong) = case.network.wrong(file) {
        let found = Verdict::certain(Cause::WrongFile, &*wrong.says, &evidence)?;
        return Some(found.with(wrong.at, &*wrong.says));
    }
    let times = evidence.iter().map(|step| step.count).sum::<u32>() + earlier.len() as u32;
    evidence.extend(earlier);
    let because = if times > 1 {
        format!("{file} went out whole {times} times, and each time nothing followed")
    } else {
        format!("{file} went out whole, and for {} nothing followed", seconds(case.boot_silence()))
    };
    Verdict::likely(Cause::LoaderSilent, because, &evidence)
}

/// The same loader again and again, with iPXE or without.
fn looped(case: &Case<'_>) -> Option<Verdict> {
    let loaders = case.steps(|what| is_loader(case, what));
    let file = loaders.last()?.what.sent()?;
    let same: Vec<&Timed> = loaders.iter().copied().filter(|step| step.what.sent() == Some(file)).collect();
    let times: u32 = same.iter().map(|step| step.count).sum();
    let ipxe = case.steps(|what| what.is_answer_to(Stage::Ipxe));
    // iPXE that runs once behind it is what the loader is for.
    let fetched = same.iter().map(|step| step.last).max()?;
    if times < LOADERS || !ipxe.iter().any(|step| step.at < fetched) {
        return None;
    }
    let because = format!("it fetched {file} {times} times within one boot, and iPXE ran between them");
    Verdict::certain(Cause::LoaderLoop, because, &[same, ipxe].concat())
}

fn ipxe_without_address(case: &Case<'_>) -> Option<Verdict> {
    if case.silence() < IPXE_DHCP {
        return None;
    }
    let had_one = case.steps(|what| {
        let has_address =
            matches!(what, What::Answered { given: Given::Ack, .. } | What::TookElsewhere { .. });
        has_address && what.is_answer_to(Stage::Rom)
    });
    let offers = case.steps(|what| what.is_answer_to(Stage::Ipxe));
    if had_one.is_empty() {
        // The ROM of the card is iPXE: there was no DHCP before it.
        let because = format!("for {} iPXE did not take the offer", seconds(case.boot_silence()));
        return Verdict::likely(Cause::OfferNotTaken, because, &offers);
    }
    let mut because =
        "the firmware's DHCP went well, and iPXE's offers on the same wire were not taken".to_owned();
    if let Some(first) = offers.first().filter(|first| first.secs >= IPXE_BEGINS) {
        because += &format!("; iPXE had asked for {} s before it was heard here", first.secs);
    }
    Some(switch_tells(case, Verdict::likely(Cause::SecondDhcp, because, &[had_one, offers].concat())?))
}

fn no_script_asked(case: &Case<'_>) -> Option<Verdict> {
    if case.silence() < ASKS {
        return None;
    }
    let evidence = case.steps(|what| {
        matches!(
            what,
            What::Answered { given: Given::Ack | Given::BootFile, .. } | What::TookElsewhere { .. }
        ) && what.is_answer_to(Stage::Ipxe)
    });
    let because =
        format!("for {} after its address iPXE asked for nothing by HTTP", seconds(case.boot_silence()));
    Verdict::likely(Cause::NoScriptAsked, because, &evidence)
}

fn script(case: &Case<'_>) -> Option<Verdict> {
    if let Some(found) = standing::held(case) {
        return Some(found);
    }
    let refused = case.last_position(|what| matches!(what, What::NoScript { .. }));
    if let Some(position) = refused
        && !case.comes_behind(position, |what| matches!(what, What::ScriptSent { .. }))
        && let Some(step) = case.boot.steps.get(position)
    {
        return Verdict::certain(Cause::NoScript, "that is what the machine was told", &[step]);
    }
    let scripts = case.steps(|what| matches!(what, What::ScriptSent { .. }));
    let times: u32 = scripts.iter().map(|step| step.count).sum();
    if case.facts.profile.is_none() && times >= SCRIPTS {
        let because = format!("no profile is chosen for it, and it has asked {times} times");
        return Verdict::certain(Cause::Waiting, because, &scripts);
    }
    if let Some(found) = looped(case).or_else(|| kernel_trouble(case)) {
        return Some(found);
    }
    if case.silence() < ASKS {
        return None;
    }
    if case.facts.profile.is_some() && case.facts.kernel.is_empty() {
        // A person chooses, and may take their time.
        return None;
    }
    if case.kernel_is_elsewhere() {
        return Verdict::certain(Cause::OutOfSight, format!("the kernel is {}", case.facts.kernel), &scripts);
    }
    let is_under_way = case.boot.steps.last().is_some_and(|step| matches!(step.what, What::FileAsked { .. }));
    if is_under_way {
        return None;
    }
    let because = format!("for {} after its script it asked for no file here", seconds(case.boot_silence()));
    Verdict::likely(Cause::KernelNotAsked, because, &scripts)
}

/// A file that the loader or the script names, and that it did not get.
pub(super) fn kernel_trouble(case: &Case<'_>) -> Option<Verdict> {
    if let Some(found) = files::cut(case).or_else(|| files::no_tls(case)) {
        return Some(found);
    }
    let is_missing = |what: &What| matches!(what, What::TftpMissing { .. } | What::FileMissing { .. });
    let position = case.last_position(is_missing)?;
    let by_http = matches!(case.boot.steps.get(position)?.what, What::FileMissing { .. });
    let goes_on = |what: &What| {
        // That the loader came by TFTP may be told after iPXE has asked for more.
        (what.sent().is_some() && !(by_http && matches!(what, What::TftpSent { .. })))
            || matches!(what, What::FileAsked { .. } | What::ScriptSent { .. } | What::DocumentSent { .. })
    };
    if case.comes_behind(position, goes_on) {
        return None;
    }
    let step = case.boot.steps.get(position)?;
    Verdict::certain(Cause::KernelMissing, "that is what the machine was told", &[step])
}
