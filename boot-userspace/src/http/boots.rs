//! The API of boots: what happened to machines, why one did not boot, and events as they come. For operators, on the
//! daemon's Unix socket.

mod follow;
mod shown;
mod wall;

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path as Name, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use boot_common::Mac;
use serde::Deserialize;
use tokio::runtime::Handle;

use super::admin::{Failed, json};
use crate::daemon::request::{Boots, EventStream};
use crate::host::clock;
use crate::host::live::Live;
use boot_engine::boot::choice::Booting;
use boot_engine::boot::script::ScriptWriter;
use boot_engine::diagnosis::{
    Boot, Case, Facts, Member, Network, Timelines, Verdict, grouped, judge, never_asked,
};
use boot_engine::machines::{Known, Machines};

pub use follow::Line;
pub use shown::{ShownBoot, ShownGroup, ShownMachine, ShownStep, ShownVerdict};
pub use wall::{FirstWindow, ShownWall, Tile, Wall};

/// The path of all boots.
pub const BOOTS: &str = "/api/v1/boots";
/// The path of verdicts.
pub const WHY: &str = "/api/v1/why";
/// The path of events as they come.
pub const EVENTS: &str = "/api/v1/events";
/// The path of the wall.
pub const WALL: &str = "/api/v1/wall";
/// The boots of how many machines are copied at once.
const AT_ONCE: usize = 1000;

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
    /// Where it is worked: what takes long must not wait in front of a packet.
    pub worker: Handle,
    /// The wall as it was made last.
    pub wall: Wall,
}

/// The routes.
pub fn router(history: History) -> Router {
    Router::new()
        .route(BOOTS, get(list))
        .route("/api/v1/boots/{which}", get(show))
        .route(WHY, get(why_all))
        .route("/api/v1/why/{which}", get(why))
        .route(EVENTS, get(follow::follow))
        .route(WALL, get(wall::wall))
        .with_state(Arc::new(history))
}

type Shared = State<Arc<History>>;

/// `?boot=N`: 1 is the last one.
#[derive(Clone, Copy, Debug, Deserialize)]
struct WhichBoot {
    #[serde(default = "last")]
    boot: usize,
}

fn last() -> usize {
    1
}

async fn list(State(history): Shared) -> Result<Response, Failed> {
    work(history, |history| Ok(json(StatusCode::OK, &history.list()))).await
}

async fn show(State(history): Shared, Name(which): Name<String>) -> Result<Response, Failed> {
    work(history, move |history| Ok(json(StatusCode::OK, &history.show(&which)?))).await
}

async fn why(
    State(history): Shared,
    Name(which): Name<String>,
    Query(WhichBoot { boot }): Query<WhichBoot>,
) -> Result<Response, Failed> {
    work(history, move |history| Ok(json(StatusCode::OK, &history.why(&which, boot)?))).await
}

async fn why_all(State(history): Shared) -> Result<Response, Failed> {
    work(history, |history| Ok(json(StatusCode::OK, &history.why_all()))).await
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
    /// The last boot of each machine.
    fn list(&self) -> Vec<ShownBoot> {
        let (macs, network) = self.heard();
        let mut last = Vec::new();
        for some in macs.chunks(AT_ONCE) {
            for (mac, boots) in some.iter().zip(self.copied(some)) {
                let boots: Vec<&Boot> = boots.iter().collect();
                let name = self.machines.client(*mac).name;
                let shown = self.shown(&network, name, &boots);
                last.extend(shown.map(|boot| ShownBoot { steps: Vec::new(), ..boot }));
            }
        }
        last
    }

    /// Every machine with boots, in the order of the MACs, and the network beside them.
    fn heard(&self) -> (Vec<Mac>, Network) {
        let timelines = self.boots.timelines();
        let mut macs = timelines.macs();
        macs.retain(|mac| timelines.boots(*mac).next().is_some());
        (macs, timelines.network().clone())
    }

    /// The boots of each of these machines, the last one first. They are copied, so that what is heard meanwhile need
    /// not wait until they are judged.
    fn copied(&self, macs: &[Mac]) -> Vec<Vec<Boot>> {
        let timelines = self.boots.timelines();
        macs.iter().map(|mac| timelines.boots(*mac).rev().cloned().collect()).collect()
    }

    /// Every boot of a machine, the last one first.
    fn show(&self, which: &str) -> Result<Vec<ShownBoot>, Failed> {
        let timelines = self.boots.timelines();
        let (Some(mac), _) = self.find(&timelines, which)? else { return Ok(Vec::new()) };
        let boots: Vec<&Boot> = timelines.boots(mac).rev().collect();
        let name = self.machines.client(mac).name;
        let shown = |nth: usize| self.shown(timelines.network(), name.clone(), boots.get(nth..)?);
        Ok((0..boots.len()).filter_map(shown).collect())
    }

    fn why(&self, which: &str, nth: usize) -> Result<ShownMachine, Failed> {
        let timelines = self.boots.timelines();
        let (mac, known) = self.find(&timelines, which)?;
        let boots: Vec<&Boot> = mac.into_iter().flat_map(|mac| timelines.boots(mac).rev()).collect();
        let Some(mac) = mac.filter(|_| !boots.is_empty()) else {
            let known = known.ok_or_else(|| nothing_of(which))?;
            return Ok(self.silent(&known));
        };
        let nth = nth.max(1);
        let Some((boot, before)) = boots.get(nth - 1..).and_then(|boots| boots.split_first()) else {
            let message =
                format!("only {} boots of {which} are known: --boot 1 is the last one", boots.len());
            return Err(Failed(StatusCode::NOT_FOUND, message));
        };
        let verdict = self.verdict(timelines.network(), boot, before);
        let verdict = verdict.ok_or_else(|| nothing_of(which))?;
        Ok(ShownMachine {
            mac: Some(mac.to_string()),
            name: self.machines.client(mac).name,
            boot: Some(nth),
            boots: boots.len(),
            opened: Some(boot.opened),
            verdict: verdict.into(),
        })
    }

    /// The verdict of a machine that was never heard.
    fn silent(&self, known: &Known) -> ShownMachine {
        let facts = self.facts(known.machine.macs.first().copied(), Some(known), None);
        ShownMachine {
            mac: known.machine.macs.first().map(Mac::to_string),
            name: known.machine.name.clone(),
            boot: None,
            boots: 0,
            opened: None,
            verdict: never_asked(&facts, self.boots.since()).into(),
        }
    }

    fn why_all(&self) -> Vec<ShownGroup> {
        let (heard, network) = self.heard();
        let mut members = Vec::new();
        for some in heard.chunks(AT_ONCE) {
            for (mac, boots) in some.iter().zip(self.copied(some)) {
                let boots: Vec<&Boot> = boots.iter().collect();
                let Some((boot, before)) = boots.split_first() else { continue };
                let Some(verdict) = self.verdict(&network, boot, before) else { continue };
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
            let verdict = never_asked(&facts, self.boots.since());
            let traits = profile_trait(&facts);
            members.push(Member { mac, name: facts.name, verdict, traits, since: self.boots.since() });
        }
        grouped(members).into_iter().map(ShownGroup::from).collect()
    }

    fn member(&self, mac: Mac, boot: &Boot, verdict: Verdict) -> Member {
        let known = self.machines.by_mac(mac);
        let address = Member::address(boot);
        let facts = self.facts(Some(mac), known.as_ref(), address);
        let mut traits = profile_trait(&facts);
        let writer = self.scripts.get();
        let subnets = &writer.planner().config().subnets;
        if let Some(address) = address
            && let Some(subnet) = subnets.iter().find(|subnet| subnet.cidr.contains(&address))
        {
            traits.push(("subnet", subnet.cidr.to_string()));
        }
        if let Some(port) = self.machines.seen_port(mac) {
            traits
                .push(("switch port", String::from_utf8_lossy(&port.circuit_id).escape_debug().to_string()));
        }
        Member { mac, name: facts.name, verdict, traits, since: boot.opened }.with_traits_of(boot)
    }

    /// The first one of these boots; the others are those before it.
    fn shown(&self, network: &Network, name: Option<String>, boots: &[&Boot]) -> Option<ShownBoot> {
        let (boot, before) = boots.split_first()?;
        Some(ShownBoot::new(boot, name, self.verdict(network, boot, before)))
    }

    fn verdict(&self, network: &Network, boot: &Boot, before: &[&Boot]) -> Option<Verdict> {
        let known = self.machines.by_mac(boot.mac);
        let facts = self.facts(Some(boot.mac), known.as_ref(), Member::address(boot));
        let now = u64::try_from(clock::now().wall.as_millis()).unwrap_or(u64::MAX);
        judge(&Case { boot, before, facts: &facts, network, now })
    }

    fn facts(&self, mac: Option<Mac>, known: Option<&Known>, address: Option<Ipv4Addr>) -> Facts {
        let writer = self.scripts.get();
        let port = mac.and_then(|mac| self.machines.seen_port(mac));
        let booting = Booting {
            machine: known.map(|known| &*known.machine),
            mac,
            switch_port: port.as_ref(),
            address,
            ..Booting::default()
        };
        Facts::of(writer.planner().config(), &booting)
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

fn profile_trait(facts: &Facts) -> Vec<(&'static str, String)> {
    facts.profile.iter().map(|profile| ("profile", profile.clone())).collect()
}

fn nothing_of(which: &str) -> Failed {
    let message = format!("no machine {which} is in the configuration, and none has asked to boot");
    Failed(StatusCode::NOT_FOUND, message)
}
