//! `bootparameters` POST, PUT, PATCH and DELETE: what is written goes before the configuration ([`boot_engine::boot::parameters`]).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, HeaderName, ORIGIN};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use boot_engine::boot::parameters::{Act, Change, Parameters, Refused, Table, Target, Written, card, image};
use boot_engine::events::{Http, Machine, RefusedRequest, Step};
use openssl::rand::rand_bytes;
use tokio::time::timeout;

use super::super::super::shown;
use super::super::Call;
use super::{JSON, problem};
use crate::daemon::request::ParametersError;

/// Bytes of a request: the names of all machines of a large site.
const LARGEST: usize = 1 << 20;
/// So long it may take to come.
const WITHIN: Duration = Duration::from_secs(10);
const REFERRAL_TOKEN: HeaderName = HeaderName::from_static("bss-referral-token");

pub(super) async fn write(call: &Call<'_>, act: Act, body: Body) -> Response {
    if !call.may_write() {
        return refuse(call, "is not in bss_writers of [http]");
    }
    // A page that somebody looks at there may have his browser send this, whoever has written the page.
    if call.request.headers.contains_key(ORIGIN) || call.request.headers.contains_key("sec-fetch-site") {
        return refuse(call, "sends this from a browser; only programs may");
    }
    let bytes = match timeout(WITHIN, to_bytes(body, LARGEST)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => {
            let why = format!("the request has more than {LARGEST} bytes, or has broken off");
            return problem(StatusCode::PAYLOAD_TOO_LARGE, &why);
        }
        Err(_) => return problem(StatusCode::REQUEST_TIMEOUT, "the request did not come within 10 s"),
    };
    let change = match serde_json::from_slice::<Written>(&bytes) {
        Ok(written) => change(call, act, written),
        Err(error) => Err(Refused::Invalid(error.to_string())),
    };
    let change = match change {
        Ok(change) => change,
        Err(refused) => return answer_refused(act, &refused),
    };
    let token = change.parameters.token.clone();
    match call.site.boot_parameters.change(change, call.ends.client.ip()).await {
        Ok(()) => done(act, &token),
        Err(ParametersError::Refused(refused)) => answer_refused(act, &refused),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn refuse(call: &Call<'_>, because: &str) -> Response {
    let client = call.ends.client.ip();
    let (method, path) = (shown(call.request.method.as_str()), shown(call.path()));
    let status = StatusCode::FORBIDDEN;
    let refused = RefusedRequest::Status { method, path, status: status.as_u16() };
    let machine = call.site.machines.client_at(client).map(Machine::from);
    call.site.happened(machine, Step::Http(client, Http::Refused(refused)));
    let why = format!("{client} may not write boot parameters: it {because}");
    problem(status, &why)
}

/// What a request means.
fn change(call: &Call<'_>, act: Act, written: Written) -> Result<Change, Refused> {
    let Written { hosts, macs, nids, mut parameters } = written;
    let table = call.site.boot_parameters.table.get();
    let mut targets: Vec<Target> = hosts.into_iter().map(Target::host).collect();
    // A new set is for the first list that is not empty.
    let is_new = matches!(act, Act::Add | Act::Set);
    if !is_new || targets.is_empty() {
        targets.extend(cards(call, act, &table, &macs)?);
    }
    if !is_new || targets.is_empty() {
        targets.extend(numbers(call, act, &table, &nids));
    }
    let is_of_machines = !targets.is_empty();
    match act {
        Act::Remove => targets.extend(images(&parameters)),
        _ if !is_of_machines => targets.extend(image(&parameters)),
        _ => {}
    }
    let mut met = HashSet::new();
    targets.retain(|target| met.insert(target.called()));
    parameters.token = if is_new && is_of_machines { token()? } else { String::new() };
    Ok(Change { act, targets, parameters })
}

fn cards(call: &Call<'_>, act: Act, table: &Table, macs: &[String]) -> Result<Vec<Target>, Refused> {
    let target = |mac: &String| {
        let card = card(mac)?;
        let Target::Mac(mac) = card else { return Ok(card) };
        let known = call.site.machines.by_mac(mac);
        let name = known.and_then(|known| known.machine.name.as_deref().map(Target::host));
        Ok(kept_as(act, table, name, card))
    };
    macs.iter().map(target).collect()
}

/// Machines are gone through once for all numbers.
fn numbers(call: &Call<'_>, act: Act, table: &Table, nids: &[u32]) -> Vec<Target> {
    let mut names: HashMap<u32, Target> = HashMap::new();
    if !nids.is_empty() {
        let wanted: HashSet<u32> = nids.iter().copied().collect();
        for known in call.site.machines.all() {
            let nid = known.machine.labels.get("nid").and_then(|nid| nid.parse().ok());
            if let (Some(nid), Some(name)) = (nid, known.machine.name.as_deref())
                && wanted.contains(&nid)
            {
                names.entry(nid).or_insert_with(|| Target::host(name));
            }
        }
    }
    nids.iter().map(|nid| kept_as(act, table, names.get(nid).cloned(), Target::Nid(*nid))).collect()
}

/// By its name, where the machine has one: then all ways to mean it mean the same. What was written before it had one is changed where
/// it is.
fn kept_as(act: Act, table: &Table, name: Option<Target>, otherwise: Target) -> Target {
    let Some(name) = name else { return otherwise };
    let is_there = |target: &Target| table.of(target).is_some();
    match act {
        Act::Update | Act::Remove if !is_there(&name) && is_there(&otherwise) => otherwise,
        _ => name,
    }
}

fn images(parameters: &Parameters) -> Vec<Target> {
    let Parameters { kernel, initrd, .. } = parameters;
    let all = [(kernel, Target::Kernel(kernel.clone())), (initrd, Target::Initrd(initrd.clone()))];
    all.into_iter().filter(|(path, _)| !path.is_empty()).map(|(_, target)| target).collect()
}

/// A random UUID (RFC 9562 section 5.4).
fn token() -> Result<String, Refused> {
    let mut bytes = [0; 16];
    rand_bytes(&mut bytes)
        .map_err(|error| Refused::Invalid(format!("there is no random number: {error}")))?;
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    Ok(format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)))
}

fn done(act: Act, token: &str) -> Response {
    let status = if act == Act::Add { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = (status, [(CONTENT_TYPE, JSON)]).into_response();
    if let Ok(token) = HeaderValue::from_str(token)
        && !token.is_empty()
    {
        response.headers_mut().insert(REFERRAL_TOKEN, token);
    }
    response
}

/// As the service says it.
fn answer_refused(act: Act, refused: &Refused) -> Response {
    let (status, before) = match (refused, act) {
        (Refused::Full(_), _) => (StatusCode::INSUFFICIENT_STORAGE, ""),
        (Refused::Missing(_), Act::Update) => (StatusCode::NOT_FOUND, "Not Found: "),
        (Refused::Missing(_) | Refused::Nothing, _) => (StatusCode::BAD_REQUEST, ""),
        _ => (StatusCode::BAD_REQUEST, "Bad Request: "),
    };
    problem(status, &format!("{before}{refused}"))
}
