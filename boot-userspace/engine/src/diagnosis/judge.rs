//! From a boot to one cause.

use super::case::{Case, Facts};
use super::causes::Cause;
use super::verdict::{Evidence, Sure, Verdict};
use super::{addresses, files, identity, loader, standing, system};

/// Why this boot ended as it did. None of a boot without steps.
#[must_use]
pub fn judge(case: &Case<'_>) -> Option<Verdict> {
    let found = identity::same_mac(case)
        .or_else(|| standing::ignored(case))
        // What the machine itself reports, or what shows that it is up, comes before what went wrong on the way.
        .or_else(|| system::finished(case))
        .or_else(|| identity::same_uuid(case))
        .or_else(|| loader::judge(case))
        .or_else(|| system::judge(case))
        .or_else(|| files::judge(case))
        .or_else(|| addresses::judge(case))
        .or_else(|| {
            let last = case.boot.steps.last()?;
            Verdict::certain(Cause::UnderWay, "nothing is wrong so far", &[last])
        })?;
    Some(standing::stuck(case, found))
}

/// The verdict of a machine that was never heard, since `since` (milliseconds since the Unix epoch). `keeps_all`: no boot had
/// to make room for others, and no step was missed.
#[must_use]
pub fn never_asked(facts: &Facts, since: u64, keeps_all: bool) -> Verdict {
    if let Some(found) = standing::silent(facts, since) {
        return found;
    }
    let name = facts.name.as_deref().unwrap_or("the machine");
    let says = format!("no message of {name} has come since then");
    let (sure, because) = if keeps_all {
        (Sure::Certain, "xpxe keeps every machine that asks, and this one is not among them")
    } else {
        (
            Sure::Likely,
            "no boot of it is kept, but boots of some machines made room for others', or were missed",
        )
    };
    let evidence = vec![Evidence { at: since, says }];
    Verdict { cause: Cause::NeverAsked, sure, because: because.to_owned(), evidence }
}
