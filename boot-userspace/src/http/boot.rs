//! Boot scripts: the fixed first one, and the one for the machine that asks.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use boot_agent_protocol::{Task, Then};
use boot_common::Mac;

use boot_engine::boot::Server;
pub use boot_engine::boot::documents::{Document, NoDocument};
use boot_engine::boot::link::{LinkKey, Signer, VALID};
pub use boot_engine::boot::plan::{Asked, NoScript, Offer, Plan};
use boot_engine::boot::script::{self, Network, ScriptWriter};
use boot_engine::config::{Config, parse_uuid};
use boot_engine::events::{Machine, Script, Step};
use boot_engine::machines::{Asker, Client};

use super::{Ends, Site, shown};
use crate::host::clock;
use crate::host::live::Live;

/// Longest value taken from a query; what is longer is cut.
const LONGEST_VALUE: usize = 255;

/// Writes boot scripts.
pub trait Scripts {
    /// The script that is the same for all machines: it tells iPXE to ask for its own.
    fn bootstrap(&self, asked: &Asked, network: Network) -> String {
        script::bootstrap(&asked.server, network)
    }

    /// What the links in scripts have to be signed with, if they have to.
    fn link_key(&self) -> Option<LinkKey> {
        None
    }

    /// The script of one machine.
    fn script(&self, asked: &Asked) -> Result<String, NoScript>;

    /// Whether what a machine boots has to have a token, for its secret documents.
    fn wants_token(&self, _: &Asked) -> bool {
        false
    }

    /// The document of one machine with this name.
    fn document(&self, asked: &Asked, name: &str) -> Result<Document, NoDocument>;

    /// Whether who asks is the machine that is meant.
    fn check_asker(&self, asked: &Asked) -> Result<(), NoScript>;

    /// Whether the address that asks is the machine's own, and not only nobody else's.
    fn has_its_address(&self, _: &Asked) -> bool {
        true
    }

    /// What the agent on one machine does next.
    fn agent_task(&self, _: &Asked) -> Task {
        Task::End { then: Then::Reboot, why: "there is nothing to do".to_owned() }
    }

    /// Where somebody else is asked what one machine boots, if it is for somebody else to say.
    fn elsewhere(&self, _: &Asked) -> Option<String> {
        None
    }

    /// The kernel that one machine boots, for the fronts, which start nothing else.
    fn plan(&self, asked: &Asked) -> Result<Plan, NoScript>;

    /// What one machine may boot, for boot loaders that are no iPXE.
    fn offered(&self, asked: &Asked) -> Result<Offer, NoScript> {
        self.plan(asked).map(Offer::Plan)
    }

    /// The configuration that both are of.
    fn config(&self) -> Arc<Config>;
}

impl Scripts for ScriptWriter {
    fn link_key(&self) -> Option<LinkKey> {
        Self::link_key(self).cloned()
    }

    fn script(&self, asked: &Asked) -> Result<String, NoScript> {
        Self::script(self, asked)
    }

    fn document(&self, asked: &Asked, name: &str) -> Result<Document, NoDocument> {
        self.planner().document(asked, name)
    }

    fn wants_token(&self, asked: &Asked) -> bool {
        self.planner().wants_token(asked)
    }

    fn check_asker(&self, asked: &Asked) -> Result<(), NoScript> {
        self.planner().check_asker(asked)
    }

    fn has_its_address(&self, asked: &Asked) -> bool {
        self.planner().has_its_address(asked)
    }

    fn agent_task(&self, asked: &Asked) -> Task {
        self.planner().agent_task(asked)
    }

    fn elsewhere(&self, asked: &Asked) -> Option<String> {
        self.planner().elsewhere(asked)
    }

    fn plan(&self, asked: &Asked) -> Result<Plan, NoScript> {
        self.planner().plan(asked).and_then(Plan::of_kernel)
    }

    fn offered(&self, asked: &Asked) -> Result<Offer, NoScript> {
        self.planner().offered(asked)
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(self.planner().config())
    }
}

impl Scripts for Live<ScriptWriter> {
    fn link_key(&self) -> Option<LinkKey> {
        self.get().link_key().cloned()
    }

    fn script(&self, asked: &Asked) -> Result<String, NoScript> {
        self.get().script(asked)
    }

    fn document(&self, asked: &Asked, name: &str) -> Result<Document, NoDocument> {
        self.get().planner().document(asked, name)
    }

    fn wants_token(&self, asked: &Asked) -> bool {
        self.get().planner().wants_token(asked)
    }

    fn check_asker(&self, asked: &Asked) -> Result<(), NoScript> {
        self.get().planner().check_asker(asked)
    }

    fn has_its_address(&self, asked: &Asked) -> bool {
        self.get().planner().has_its_address(asked)
    }

    fn agent_task(&self, asked: &Asked) -> Task {
        self.get().planner().agent_task(asked)
    }

    fn elsewhere(&self, asked: &Asked) -> Option<String> {
        self.get().planner().elsewhere(asked)
    }

    fn plan(&self, asked: &Asked) -> Result<Plan, NoScript> {
        self.get().planner().plan(asked).and_then(Plan::of_kernel)
    }

    fn offered(&self, asked: &Asked) -> Result<Offer, NoScript> {
        self.get().planner().offered(asked)
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(self.get().planner().config())
    }
}

pub(super) async fn bootstrap(
    State(site): State<Arc<Site>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let client = site.machines.client_at(ends.client.ip());
    bootstrap_for(&site, ends, &method, &uri, &headers, client)
}

/// The first script, for a client that was looked up already.
pub(super) fn bootstrap_for(
    site: &Site,
    ends: Ends,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    client: Option<Client>,
) -> Response {
    // It is the same for all, so no machine is looked up for it.
    let asked = read_query(site, ends, uri, headers, |_, _| Asker { client, ..Asker::default() });
    // iPXE looks for it before it has a network of its own.
    let is_autoexec = uri.path().ends_with("/autoexec.ipxe");
    let network = if is_autoexec { Network::Firmwares } else { Network::Own };
    let script = site.scripts.bootstrap(&asked, network);
    answer(site, &asked, method, uri.path(), Ok(script))
}

pub(super) async fn script(
    State(site): State<Arc<Site>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let from = ends.client.ip();
    let mut asked = read_query(&site, ends, &uri, &headers, |mac, uuid| site.machines.asker(from, mac, uuid));
    let uuid = asked.uuid.as_deref().and_then(|uuid| parse_uuid(uuid).ok());
    if hear_serial(&site, &asked).await {
        // It may be another machine by now, or be held.
        asked.asker = site.machines.asker(from, asked.mac, uuid);
    }
    let asked = site.told(site.for_ipxe(asked, &method)).await;
    if asked.asker.known.is_none()
        && let Some(mac) = asked.mac
    {
        site.registry.sighted(mac, uuid);
    }
    let script = site.scripts.script(&asked);
    answer(&site, &asked, &method, uri.path(), script)
}

/// Has it seen to that the machine which asks says a serial number that somebody has written, and says whether that was so. What
/// is said from an address of which nobody knows that it is the machine's counts for nothing: anybody can say it.
async fn hear_serial(site: &Site, asked: &Asked) -> bool {
    let (Some(mac), Some(serial)) = (asked.mac, asked.serial.as_deref()) else { return false };
    let is_itself = asked.asker.client.as_ref().is_some_and(|client| client.mac == mac);
    let known = asked.asker.known.as_ref().map(|known| known.id);
    let is_heard =
        is_itself && site.machines.is_serial_news(serial, known) && site.scripts.check_asker(asked).is_ok();
    if is_heard {
        site.registry.heard_serial(mac, serial).await;
    }
    is_heard
}

/// Sends a script, or says why there is none.
pub(super) fn answer(
    site: &Site,
    asked: &Asked,
    method: &Method,
    path: &str,
    script: Result<String, NoScript>,
) -> Response {
    tell(site, asked, method, path, &script);
    let (status, text) = match script {
        Ok(script) => (StatusCode::OK, script),
        // An error would be tried again for ever.
        Err(NoScript::NotForYou(why)) => (StatusCode::OK, script::not_from_here(&why)),
        Err(another @ NoScript::OfAnother { .. }) => (StatusCode::FORBIDDEN, another.to_string() + "\n"),
        Err(NoScript::Broken(why)) => (StatusCode::INTERNAL_SERVER_ERROR, why),
    };
    (status, [(CONTENT_TYPE, "text/plain"), (CACHE_CONTROL, "no-store")], text).into_response()
}

/// Tells what becomes of a request for a script, or for what a front sends in its place.
pub(super) fn tell(
    site: &Site,
    asked: &Asked,
    method: &Method,
    path: &str,
    script: &Result<String, NoScript>,
) {
    // The name is that of the client, whose MAC may not be the one that it says.
    let known = asked.asker.client.clone().filter(|client| asked.mac == Some(client.mac));
    let machine = known.map(Machine::from).or(asked.mac.map(Machine::from));
    let end = match script {
        Ok(_) if method == Method::HEAD => Script::Measured,
        Ok(script) => Script::Sent {
            bytes: script.len(),
            uuid: asked.uuid.as_deref().and_then(|uuid| parse_uuid(uuid).ok()),
        },
        Err(no_script) => Script::None(no_script.clone()),
    };
    site.happened(machine, Step::Script { client: asked.client_ip, path: shown(path), end });
}

/// What a client says, with who that is: `look_up` gets the MAC and the UUID that it says.
pub(super) fn read_query(
    site: &Site,
    ends: Ends,
    uri: &Uri,
    headers: &HeaderMap,
    look_up: impl FnOnce(Option<Mac>, Option<[u8; 16]>) -> Asker,
) -> Asked {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).unwrap_or_default();
    let value = |name: &str| {
        let (_, value) = pairs.iter().find(|(key, value)| key == name && !value.is_empty())?;
        Some(value.chars().filter(|c| !c.is_control()).take(LONGEST_VALUE).collect::<String>())
    };
    // What no card has is no machine's.
    let said = value("mac").and_then(|mac| mac.parse::<Mac>().ok()).filter(|mac| mac.is_station());
    let uuid = value("uuid");
    let asker = look_up(said, uuid.as_deref().and_then(|uuid| parse_uuid(uuid).ok()));
    let server = server(site, ends, headers, &asker);
    Asked {
        uuid,
        mac: said.or_else(|| Some(asker.client.as_ref()?.mac)),
        asker,
        domain: value("domain"),
        hostname: value("hostname"),
        serial: value("serial"),
        arch: value("arch"),
        platform: value("platform"),
        chosen: value("chosen"),
        client_ip: ends.client.ip(),
        server,
        told: None,
    }
}

/// This server as the client has reached it, with links for that client.
pub(super) fn server(site: &Site, ends: Ends, headers: &HeaderMap, asker: &Asker) -> Server {
    let signer = site.scripts.link_key().map(|key| Signer {
        key,
        holder: asker.client.as_ref().map(|client| client.mac),
        client: ends.client.ip(),
        until: clock::wall().as_secs() + VALID,
    });
    reached(ends, headers).pinned(ends.server, ends.key).signed_by(signer)
}

/// Over HTTPS it goes by the name that the client used: by the address it would not believe the certificate.
fn reached(ends: Ends, headers: &HeaderMap) -> Server {
    if !ends.is_tls {
        return ends.server.into();
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    host.and_then(Server::https).unwrap_or_else(|| Server::https_at(ends.server))
}
