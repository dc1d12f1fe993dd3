//! Some of the boots: those that fit, page by page.

use boot_common::Mac;
use ipnet::Ipv4Net;
use serde::Deserialize;

use super::judged::AT_ONCE;
use super::{Failed, History, ShownBoot};
use boot_engine::diagnosis::{Boot, Cause, Member};

/// How many boots a page has at most.
const LONGEST_PAGE: usize = 1000;

/// What somebody asks for. With none of these: the last boot of every machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Of this machine: its MAC, name or address.
    machine: Option<String>,
    /// `open` or `over`.
    state: Option<State>,
    /// With this cause.
    cause: Option<String>,
    /// Of machines with an address in this network: `10.1.0.0/16`.
    subnet: Option<String>,
    /// That began then or later, in milliseconds since the Unix epoch.
    since: u64,
    /// Of machines behind this MAC.
    after: Option<String>,
    /// At most so many; 0: as many as a page has, which is 1000.
    limit: usize,
}

/// Whether a boot goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    Open,
    Over,
}

/// The same as it was read.
pub(super) struct Filter {
    wanted: Wanted,
    subnet: Option<Ipv4Net>,
    after: Option<Mac>,
}

impl Wanted {
    /// Whether it is every boot.
    pub(super) fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(self) -> Result<Filter, String> {
        let subnet = self.subnet.as_ref().map(|text| {
            text.parse().map_err(|_| format!("{text:?} is no network; write one such as 10.1.0.0/16"))
        });
        let after = self
            .after
            .as_ref()
            .map(|text| text.parse().map_err(|_| format!("{text:?} is no MAC; after is one")));
        let is_known = |cause: &String| Cause::ALL.iter().any(|known| known.name() == cause);
        if let Some(cause) = self.cause.as_ref().filter(|cause| !is_known(cause)) {
            return Err(format!("{cause:?} is no cause: xpxe why names those that there are"));
        }
        Ok(Filter { subnet: subnet.transpose()?, after: after.transpose()?, wanted: self })
    }
}

impl Filter {
    /// As far as that shows without a verdict.
    fn fits(&self, boot: &Boot) -> bool {
        let is_in = |subnet: Ipv4Net| Member::address(boot).is_some_and(|address| subnet.contains(&address));
        boot.opened >= self.wanted.since
            && self.wanted.state.is_none_or(|state| (state == State::Over) == boot.is_over)
            && self.subnet.is_none_or(is_in)
    }

    fn fits_cause(&self, boot: &ShownBoot) -> bool {
        let is_it = |cause: &String| boot.verdict.as_ref().is_some_and(|verdict| verdict.cause == *cause);
        self.wanted.cause.as_ref().is_none_or(is_it)
    }

    fn most(&self) -> usize {
        if self.wanted.limit == 0 { LONGEST_PAGE } else { self.wanted.limit.min(LONGEST_PAGE) }
    }
}

impl History {
    /// The last boots of machines that fit, in the order of the MACs.
    pub(super) fn listed(&self, filter: &Filter) -> Result<Vec<ShownBoot>, Failed> {
        let mut macs = match &filter.wanted.machine {
            Some(which) => self.find(&self.boots.timelines(), which)?.0.into_iter().collect(),
            None => self.heard(),
        };
        if let Some(after) = filter.after {
            macs.retain(|mac| *mac > after);
        }
        let (around, mut page) = (self.around(), Vec::new());
        for some in macs.chunks(AT_ONCE) {
            for boots in self.copied(some) {
                if !boots.boots.first().is_some_and(|boot| filter.fits(boot)) {
                    continue;
                }
                let Some(boot) = self.shown(&around, &boots, 0) else { continue };
                if filter.fits_cause(&boot) {
                    page.push(ShownBoot { steps: Vec::new(), ..boot });
                }
                if page.len() == filter.most() {
                    return Ok(page);
                }
            }
        }
        Ok(page)
    }
}
