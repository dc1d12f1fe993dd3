//! A cause, with the steps that show it.

use serde::Serialize;

use super::boot::Timed;
use super::causes::Cause;

/// How sure a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sure {
    /// The evidence allows no other cause.
    Certain,
    /// It is what the evidence shows most often.
    Likely,
}

/// A step that shows the cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// When it happened, in milliseconds since the Unix epoch.
    pub at: u64,
    /// What happened, in words.
    pub says: String,
}

impl From<&Timed> for Evidence {
    fn from(step: &Timed) -> Self {
        let times = if step.count > 1 { format!(" ({} times)", step.count) } else { String::new() };
        Self { at: step.at, says: format!("{}{times}", step.says()) }
    }
}

/// Why a machine did not boot, or how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The cause.
    pub cause: Cause,
    /// How sure that is.
    pub sure: Sure,
    /// Why it is so sure, or no surer: a sentence.
    pub because: String,
    /// The steps that show it, in their order; never empty, except of a machine that was never heard.
    pub evidence: Vec<Evidence>,
}

impl Verdict {
    pub(super) fn certain(cause: Cause, because: impl Into<String>, steps: &[&Timed]) -> Option<Self> {
        Self::new(cause, Sure::Certain, because.into(), steps)
    }

    pub(super) fn likely(cause: Cause, because: impl Into<String>, steps: &[&Timed]) -> Option<Self> {
        Self::new(cause, Sure::Likely, because.into(), steps)
    }

    /// The same with one more sign, which is no step of the boot.
    pub(super) fn with(mut self, at: u64, says: impl Into<String>) -> Self {
        self.evidence.push(Evidence { at, says: says.into() });
        self.evidence.sort_by_key(|evidence| evidence.at);
        self
    }

    /// The same with what was done with the machine before.
    #[must_use]
    pub fn after(self, steps: &[Timed]) -> Self {
        steps.iter().fold(self, |found, step| found.with(step.at, step.says()))
    }

    /// None without evidence.
    fn new(cause: Cause, sure: Sure, because: String, steps: &[&Timed]) -> Option<Self> {
        if steps.is_empty() {
            return None;
        }
        let mut evidence: Vec<Evidence> = steps.iter().map(|step| Evidence::from(*step)).collect();
        evidence.sort_by_key(|evidence| evidence.at);
        evidence.dedup();
        Some(Self { cause, sure, because, evidence })
    }

    /// The page that says more.
    #[must_use]
    pub fn page(&self) -> String {
        format!("docs/troubleshooting.md#{}", self.cause.name())
    }
}
