//! Causes while the boot file is fetched.

use super::beside::other_file;
use super::case::{Case, Reached};
use super::causes::Cause;
use super::steps::What;
use super::verdict::Verdict;

/// The first full block of a file.
const FIRST_BLOCK: u64 = 1;

pub(super) fn judge(case: &Case<'_>) -> Option<Verdict> {
    if case.reached() > Reached::FileAsked {
        return None;
    }
    stalled(case)
        .or_else(|| missing(case))
        .or_else(|| aborted(case))
        .or_else(|| cut(case))
        .or_else(|| no_tls(case))
}

/// TFTP that stopped: which packets came back tells what is lost.
pub(super) fn stalled(case: &Case<'_>) -> Option<Verdict> {
    let is_stall = |what: &What| matches!(what, What::TftpStalled { .. });
    let position = case.last_position(is_stall)?;
    let step = case.boot.steps.get(position)?;
    let What::TftpStalled { file, block, bytes, .. } = &step.what else { return None };
    if case.comes_behind(position, |what| what.sent() == Some(&**file)) {
        return None;
    }
    let all = case.steps(is_stall);
    let same = |what: &What| matches!(what, What::TftpStalled { block: other, .. } if other == block);
    let earlier = case.before.iter().flat_map(|boot| &boot.steps).filter(|step| same(&step.what)).count();
    let again =
        all.iter().filter(|step| same(&step.what)).map(|step| step.count).sum::<u32>() > 1 || earlier > 0;
    let (cause, because) = if *block == 0 {
        (Cause::TftpNoAnswer, "its request came, and nothing that this server sent was acknowledged")
    } else if *block == FIRST_BLOCK && *bytes == 0 {
        (Cause::TftpMtu, "it acknowledged the small answer to its options, and not the first full block")
    } else {
        (Cause::TftpStalled, "blocks came through, and then it acknowledged no more")
    };
    if again {
        Verdict::certain(cause, format!("{because}, more than once at the same block"), &all)
    } else {
        Verdict::likely(cause, because, &all)
    }
}

fn missing(case: &Case<'_>) -> Option<Verdict> {
    let is_missing = |what: &What| matches!(what, What::TftpMissing { .. } | What::FileMissing { .. });
    let position = case.last_position(is_missing)?;
    // Loaders try several names: it is the last one that counts.
    if case.comes_behind(position, |what| what.sent().is_some() || matches!(what, What::FileAsked { .. })) {
        return None;
    }
    let step = case.boot.steps.get(position)?;
    let (What::TftpMissing { file, .. } | What::FileMissing { file, .. }) = &step.what else { return None };
    if let Some(found) = other_file(case, Some(file), step) {
        return Some(found);
    }
    Verdict::certain(Cause::FileMissing, "that is what the machine was told", &[step])
}

fn aborted(case: &Case<'_>) -> Option<Verdict> {
    let position = case.last_position(|what| matches!(what, What::TftpAborted { .. }))?;
    if case.comes_behind(position, |what| what.sent().is_some()) {
        return None;
    }
    let step = case.boot.steps.get(position)?;
    Verdict::certain(Cause::TftpAborted, "the machine said so itself", &[step])
}

/// HTTP that did not reach its end.
pub(super) fn cut(case: &Case<'_>) -> Option<Verdict> {
    let position = case.last_position(|what| matches!(what, What::FileCut { .. }))?;
    let step = case.boot.steps.get(position)?;
    let What::FileCut { file, by_machine, .. } = &step.what else { return None };
    if case.comes_behind(position, |what| what.sent() == Some(&**file)) {
        return None;
    }
    let because = if *by_machine {
        "the machine closed the connection before it had everything"
    } else {
        "the transfer ended before its end"
    };
    Verdict::certain(Cause::FileCutOff, because, &[step])
}

pub(super) fn no_tls(case: &Case<'_>) -> Option<Verdict> {
    let position = case.last_position(|what| matches!(what, What::NoTls { .. }))?;
    if case.comes_behind(position, |what| what.sent().is_some() || matches!(what, What::ScriptSent { .. })) {
        return None;
    }
    let step = case.boot.steps.get(position)?;
    Verdict::certain(Cause::TlsFailed, "the handshake failed", &[step])
}
