//! The API of boots: what happened to machines, why one did not boot, and events as they come. For operators, on the
//! daemon's Unix socket.

mod capture;
mod collector;
mod follow;
mod judged;
mod listed;
mod overview;
mod seen;
mod shown;
mod traces;
mod wall;

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::extract::{Path as Name, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use boot_common::Mac;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ConnectionStats;
use super::admin::{Failed, Problem, json};
use crate::daemon::request::{Ask, Boots, EventStream};
use crate::host::live::Live;
use boot_engine::boot::script::ScriptWriter;
use boot_engine::diagnosis::{Member, Timelines, grouped, never_asked};
use boot_engine::machines::{Known, Machines};

pub use capture::Watched;
pub use collector::{TraceCounts, send_traces};
pub use follow::Line;
use judged::{AT_ONCE, profile_trait};
use overview::Overview;
pub use overview::Overviews;
pub use seen::{LastBoot, NeverSeen, Seen};
pub use shown::{ShownBoot, ShownGroup, ShownMachine, ShownShare, ShownStep, ShownVerdict};
pub use wall::{FirstWindow, ShownWall, Tile, Wall};

/// The path of all boots.
pub const BOOTS: &str = "/api/v1/boots";
const BOOTS_OF: &str = "/api/v1/boots/{which}";
const CAPTURE: &str = "/api/v1/boots/{which}/capture";
const WHY_ONE: &str = "/api/v1/why/{which}";
/// The path of verdicts.
pub const WHY: &str = "/api/v1/why";
/// The path of events as they come.
pub const EVENTS: &str = "/api/v1/events";
/// The path of the wall.
pub const WALL: &str = "/api/v1/wall";

/// Where boots, machines and the configuration are.
#[derive(Clone)]
pub struct History {
    /// The boots.
    pub boots: Boots,
    /// What happens.
    pub events: EventStream,
    /// The machines of the configuration.
    pub machines: Machines,
    /// Has the configuration as it is now.
    pub scripts: Live<ScriptWriter>,
    /// Leads to who tells the kernel half.
    pub asks: mpsc::Sender<Ask>,
    /// Where it is worked: what takes long must not wait in front of a packet.
    pub worker: Handle,
    /// The wall as it was made last.
    pub wall: Wall,
    /// The answers about all machines that were made last.
    pub overviews: Overviews,
    /// How many machines were never seen, as it was counted last.
    pub never_seen: NeverSeen,
    /// Says when the daemon stops.
    pub connections: Arc<ConnectionStats>,
}

/// The routes.
pub fn router(history: History) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(capture::capture))
        .routes(routes!(why_all))
        .routes(routes!(why))
        .routes(routes!(follow::follow))
        .routes(routes!(wall::wall))
        .with_state(Arc::new(history))
}

type Shared = State<Arc<History>>;

/// `?boot=N`: 1 is the last one.
#[derive(Clone, Copy, Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct WhichBoot {
    /// Which of its boots: 1 is the last one.
    #[serde(default = "last")]
    boot: usize,
}

fn last() -> usize {
    1
}

/// The last boot of each machine, without its steps, or of some machines. Pages: `after` is the MAC of the last boot of the
/// page before, until a page is empty.
#[utoipa::path(
    get,
    path = BOOTS,
    operation_id = "listBoots",
    params(listed::Wanted),
    responses(
        (status = 200, body = Vec<ShownBoot>),
        (status = 404, body = Problem),
        (status = 409, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn list(State(history): Shared, Query(wanted): Query<listed::Wanted>) -> Result<Response, Failed> {
    if wanted.is_everything() {
        return of_all(history, Overview::Boots, History::list).await;
    }
    history.kept()?;
    let filter = wanted.read().map_err(|wrong| Failed(StatusCode::BAD_REQUEST, wrong))?;
    let (overviews, worker) = (history.overviews.clone(), history.worker.clone());
    overviews.in_turn(&worker, move || Ok(json(StatusCode::OK, &history.listed(&filter)?))).await
}

/// The boots of a machine, the last one first.
#[utoipa::path(
    get,
    path = BOOTS_OF,
    operation_id = "showBoots",
    params(("which" = String, Path, description = "Its MAC, name or address.")),
    responses(
        (status = 200, body = Vec<ShownBoot>),
        (status = 404, body = Problem),
        (status = 409, body = Problem)
    )
)]
async fn show(State(history): Shared, Name(which): Name<String>) -> Result<Response, Failed> {
    work(history, move |history| Ok(json(StatusCode::OK, &history.kept()?.show(&which)?))).await
}

/// The verdict of one boot.
#[utoipa::path(
    get,
    path = WHY_ONE,
    operation_id = "why",
    params(("which" = String, Path, description = "Its MAC, name or address."), WhichBoot),
    responses(
        (status = 200, body = ShownMachine),
        (status = 404, body = Problem),
        (status = 409, body = Problem)
    )
)]
async fn why(
    State(history): Shared,
    Name(which): Name<String>,
    Query(WhichBoot { boot }): Query<WhichBoot>,
) -> Result<Response, Failed> {
    work(history, move |history| Ok(json(StatusCode::OK, &history.kept()?.why(&which, boot)?))).await
}

/// The machines by cause, and what those of one cause share.
#[utoipa::path(
    get,
    path = WHY,
    operation_id = "whyAll",
    responses(
        (status = 200, body = Vec<ShownGroup>),
        (status = 409, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn why_all(State(history): Shared) -> Result<Response, Failed> {
    of_all(history, Overview::Why, |history| serde_json::to_vec(&history.why_all())).await
}

/// Answers with what `write` writes about all machines, or has written just now.
async fn of_all(
    history: Arc<History>,
    of: Overview,
    write: fn(&History) -> serde_json::Result<Vec<u8>>,
) -> Result<Response, Failed> {
    history.kept()?;
    let (overviews, worker) = (history.overviews.clone(), history.worker.clone());
    overviews.answer(of, &worker, move || write(&history)).await
}

async fn work<T: Send + 'static>(
    history: Arc<History>,
    act: impl FnOnce(&History) -> Result<T, Failed> + Send + 'static,
) -> Result<T, Failed> {
    let worker = history.worker.clone();
    let worked = worker.spawn_blocking(move || act(&history)).await;
    worked.map_err(|_| Failed(StatusCode::SERVICE_UNAVAILABLE, "xpxe is stopping".to_owned()))?
}

impl History {
    /// Of a server without machines that nobody has asked anything.
    #[cfg(test)]
    pub(in crate::http) fn empty() -> Self {
        Self {
            boots: Boots::default(),
            events: EventStream::new(|_| ()),
            machines: Machines::default(),
            scripts: Live::new(ScriptWriter::new(boot_engine::config::Config::empty()).unwrap()),
            asks: mpsc::channel(1).0,
            worker: Handle::current(),
            wall: Wall::default(),
            overviews: Overviews::default(),
            never_seen: NeverSeen::default(),
            connections: Arc::default(),
        }
    }

    /// Itself, if boots are kept.
    fn kept(&self) -> Result<&Self, Failed> {
        if self.scripts.get().planner().config().boots {
            return Ok(self);
        }
        let message =
            "no boots are kept: the configuration says boots = false; write boots = true and restart xpxe";
        Err(Failed(StatusCode::CONFLICT, message.to_owned()))
    }

    /// The last boot of each machine, as JSON.
    fn list(&self) -> serde_json::Result<Vec<u8>> {
        let around = self.around();
        let mut last = vec![b'['];
        for some in self.heard().chunks(AT_ONCE) {
            for boots in self.copied(some) {
                let Some(boot) = self.shown(&around, &boots, 0) else { continue };
                if last.len() > 1 {
                    last.push(b',');
                }
                serde_json::to_writer(&mut last, &ShownBoot { steps: Vec::new(), ..boot })?;
            }
        }
        last.push(b']');
        // It grows by doubling.
        last.shrink_to_fit();
        Ok(last)
    }

    /// Every boot of a machine, the last one first.
    fn show(&self, which: &str) -> Result<Vec<ShownBoot>, Failed> {
        let (Some(mac), _) = self.find(&self.boots.timelines(), which)? else { return Ok(Vec::new()) };
        let around = self.around();
        let boots = self.copied(&[mac]);
        let all =
            boots.iter().flat_map(|of| (0..of.boots.len()).filter_map(|nth| self.shown(&around, of, nth)));
        Ok(all.collect())
    }

    fn why(&self, which: &str, nth: usize) -> Result<ShownMachine, Failed> {
        let (mac, known) = self.find(&self.boots.timelines(), which)?;
        let of = mac.and_then(|mac| self.copied(&[mac]).pop());
        let Some((mac, of)) = mac.zip(of.filter(|of| !of.boots.is_empty())) else {
            let known = known.ok_or_else(|| nothing_of(which))?;
            return Ok(self.silent(&known));
        };
        let nth = nth.max(1);
        let count = of.boots.len();
        let Some(boot) = of.boots.get(nth - 1) else {
            let message = format!("only {count} boots of {which} are known: --boot 1 is the last one");
            return Err(Failed(StatusCode::NOT_FOUND, message));
        };
        let verdict = self.verdict(&self.around(), &of, nth - 1).ok_or_else(|| nothing_of(which))?;
        Ok(ShownMachine {
            mac: Some(mac.to_string()),
            name: self.machines.client(mac).name,
            boot: Some(nth),
            boots: count,
            opened: Some(boot.opened),
            verdict: verdict.into(),
        })
    }

    /// Whether every boot is kept that there was.
    fn keeps_all(&self) -> bool {
        self.boots.missed() == 0 && self.boots.timelines().evicted() == 0
    }

    /// The verdict of a machine that was never heard.
    fn silent(&self, known: &Known) -> ShownMachine {
        let mac = known.machine.macs.first().copied();
        let facts = self.facts(mac, Some(known), None);
        let verdict = never_asked(&facts, self.boots.since(), self.keeps_all());
        let verdict = match mac {
            Some(mac) => verdict.after(self.boots.timelines().ahead(mac)),
            None => verdict,
        };
        ShownMachine {
            mac: mac.map(|mac| mac.to_string()),
            name: known.machine.name.clone(),
            boot: None,
            boots: 0,
            opened: None,
            verdict: verdict.into(),
        }
    }

    fn why_all(&self) -> Vec<ShownGroup> {
        let (around, heard, keeps_all) = (self.around(), self.heard(), self.keeps_all());
        let mut members = Vec::new();
        for some in heard.chunks(AT_ONCE) {
            for (mac, of) in some.iter().zip(self.copied(some)) {
                let Some(boot) = of.boots.first() else { continue };
                let Some(verdict) = self.verdict(&around, &of, 0) else { continue };
                members.push(self.member(*mac, boot, verdict));
            }
        }
        for known in self.machines.all() {
            // One that is known by something else than its MAC may have been heard under any.
            let Some(mac) = known.machine.macs.first().copied() else { continue };
            if known.machine.macs.iter().any(|mac| heard.binary_search(mac).is_ok()) {
                continue;
            }
            let facts = self.facts(Some(mac), Some(&known), None);
            let verdict = never_asked(&facts, self.boots.since(), keeps_all);
            let traits = profile_trait(&facts);
            members.push(Member { mac, name: facts.name, verdict, traits, since: self.boots.since() });
        }
        grouped(members).into_iter().map(ShownGroup::from).collect()
    }

    /// A machine by its MAC, name or address: the MAC of its that booted last, and its place in the configuration.
    fn find(&self, timelines: &Timelines, which: &str) -> Result<(Option<Mac>, Option<Known>), Failed> {
        let by_mac = |mac: Mac| {
            let known = self.machines.by_mac(mac);
            let is_known = known.is_some() || timelines.boots(mac).next().is_some();
            is_known.then_some((Some(mac), known)).ok_or_else(|| nothing_of(which))
        };
        if let Ok(mac) = which.parse::<Mac>() {
            return by_mac(mac);
        }
        if let Ok(address) = which.parse::<Ipv4Addr>() {
            let at =
                self.machines.client_at(address).map(|client| client.mac).or_else(|| timelines.at(address));
            if let Some(mac) = at {
                return by_mac(mac);
            }
            let known = self.machines.by_reserved(address).ok_or_else(|| nothing_of(which))?;
            return Ok((newest(timelines, &known), Some(known)));
        }
        let is_named =
            |known: &Known| known.machine.name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(which));
        let known = self.machines.all().into_iter().find(is_named).ok_or_else(|| nothing_of(which))?;
        let recognised = || {
            let is_its = |mac: &Mac| self.machines.by_mac(*mac).is_some_and(|other| other.id == known.id);
            timelines.macs().into_iter().find(is_its)
        };
        Ok((newest(timelines, &known).or_else(recognised), Some(known)))
    }
}

/// The MAC that booted last, of those that the configuration names.
fn newest(timelines: &Timelines, known: &Known) -> Option<Mac> {
    let opened = |mac: &Mac| timelines.boots(*mac).next_back().map(|boot| boot.opened);
    known.machine.macs.iter().copied().max_by_key(opened)
}

fn nothing_of(which: &str) -> Failed {
    let message = format!("no machine {which} is in the configuration, and none has asked to boot");
    Failed(StatusCode::NOT_FOUND, message)
}
