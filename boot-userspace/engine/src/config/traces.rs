//! `[traces]`: where the boots of machines are sent as traces.

use super::reader::Table;
use super::report::{At, Report, one};
use super::value;

/// `[traces]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// `otlp`: a collector that takes OTLP by HTTP; `/v1/traces` is added. Default: none, nothing is sent.
    pub otlp: Option<String>,
}

/// The section as it stands in the file.
#[derive(Default)]
pub(super) struct Written {
    otlp: Option<At<String>>,
}

/// The section in the file.
pub(super) fn read(top: &Table<'_>, report: &mut Report<'_>) -> Written {
    let Some(traces) = top.table("traces", &["otlp"], report) else { return Written::default() };
    Written { otlp: traces.required_text("otlp", "http://10.1.0.9:4318", report) }
}

impl Written {
    /// Adds what a further file says.
    pub(super) fn add(&mut self, more: Self, report: &mut Report<'_>) {
        one(&mut self.otlp, more.otlp, report);
    }
}

/// The settings. `boots`: whether boots are kept.
pub(super) fn check(from: &Written, boots: bool, report: &mut Report<'_>) -> Traces {
    let otlp = from.otlp.as_ref().and_then(|at| {
        at.read(report, |text| {
            if !boots {
                return Err("traces are made of boots that are kept; take boots = false out".to_owned());
            }
            let url = value::server(text, "http://10.1.0.9:4318")?;
            let url = url.trim_end_matches('/');
            Ok(url.strip_suffix("/v1/traces").unwrap_or(url).to_owned())
        })
    });
    Traces { otlp }
}
