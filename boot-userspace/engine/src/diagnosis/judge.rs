//! From a boot to one cause.

use super::case::{Case, Facts};
use super::causes::Cause;
use super::verdict::{Evidence, Sure, Verdict};
use super::{addresses, files, loader, system};

/// Why this boot ended as it did. None of a boot without steps.
#[must_use]
pub fn judge(case: &Case<'_>) -> Option<Verdict> {
    // What the machine itself reports, or what shows that it is up, comes before what went wrong on the way.
    system::finished(case)
        .or_else(|| loader::judge(case))
        .or_else(|| system::judge(case))
        .or_else(|| files::judge(case))
        .or_else(|| addresses::judge(case))
        .or_else(|| {
            let last = case.boot.steps.last()?;
            Verdict::certain(Cause::UnderWay, "nothing is wrong so far", &[last])
        })
}

/// The verdict of a machine of the configuration that was never heard, since `since` (milliseconds since the Unix epoch).
#[must_use]
pub fn never_asked(facts: &Facts, since: u64) -> Verdict {
    let name = facts.name.as_deref().unwrap_or("the machine");
    let says = format!("no message of {name} has come since then");
    Verdict {
        cause: Cause::NeverAsked,
        sure: Sure::Certain,
        because: "xpxe keeps every machine that asks, and this one is not among them".to_owned(),
        evidence: vec![Evidence { at: since, says }],
    }
}
