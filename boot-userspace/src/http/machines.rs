//! `/api/v1/machines`: the registry of machines.

mod import;
mod power;
mod schema;
mod shown;

use std::convert::Infallible;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query as Parameters};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::daemon::request::{Page, RegistryAsk, RegistryError, RegistryHandle, View, merge};
use crate::host::secret::Secret;
use crate::http::api::Pass;
use crate::http::boots::History;
use boot_engine::lifecycle::Order;
use boot_engine::registry::{Query, Spec};
pub use import::IMPORT;
pub use power::{Answered, Last, Power};
pub use shown::{Counted, Machine, Machines, Refused, Status, Written};

/// The path of all machines.
pub const MACHINES: &str = "/api/v1/machines";
const MACHINE: &str = "/api/v1/machines/{which}";
const ORDER: &str = "/api/v1/machines/{which}/{order}";
const POWER: &str = "/api/v1/machines/{which}/power";
const PASSWORD: &str = "/api/v1/machines/{which}/bmc-password";
/// The path of how many there are.
pub const STATUS: &str = "/api/v1/status";
/// Bytes of what is written of a machine.
const LARGEST_BODY: usize = 256 << 10;
/// Bytes of a BMC's password.
const LONGEST_PASSWORD: usize = 1024;

/// The routes. `history` knows what was seen of machines; what takes long is done by its worker, so that it does not wait in front of a packet.
pub fn router(registry: RegistryHandle, history: History) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, put, patch, delete))
        .routes(routes!(order))
        .routes(routes!(switch))
        .routes(routes!(put_password, delete_password))
        .routes(routes!(status))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .merge(import::routes())
        .merge(schema::routes())
        .with_state(Shared { registry, history })
}

/// The parameters of a list.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// Of these states, with commas between them.
    state: String,
    /// With these labels: `role=worker,rack`.
    labels: String,
    /// Those behind this number.
    after: u64,
    /// At most so many; 0: as many as a page has.
    limit: usize,
    /// Only those that were never seen. A page may have fewer then, though there is a `next` one.
    never_seen: bool,
}

/// The parameters of a change.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
struct Quoted {
    /// Only if the machine still has this version.
    version: Option<u64>,
}

/// Why somebody orders something.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
struct Ordered {
    /// Only if the machine still has this version.
    version: Option<u64>,
    /// Why, for `maintain`.
    reason: String,
}

/// Who keeps the machines, and who knows what was seen of them.
#[derive(Clone)]
struct Shared {
    registry: RegistryHandle,
    history: History,
}

impl Shared {
    async fn work<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, Failed> {
        let worked = self.history.worker.spawn_blocking(act).await;
        worked.map_err(|_| Failed::from(RegistryError::Stopping))?
    }

    async fn read<T: DeserializeOwned + Send + 'static>(&self, body: Bytes) -> Result<T, Failed> {
        self.work(move || {
            serde_json::from_slice(&body)
                .map_err(|wrong| Failed::bad(format!("the body is not what is expected: {wrong}")))
        })
        .await
    }
}

/// Who keeps the machines, asked in the name of whoever has the token of the request.
struct Registry(Shared);

impl FromRequestParts<Shared> for Registry {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Infallible> {
        let Shared { registry, history } = shared.clone();
        let registry = match parts.extensions.get::<Pass>() {
            Some(pass) => registry.by(pass.name()),
            None => registry,
        };
        Ok(Self(Shared { registry, history }))
    }
}

type Answer = Result<Response, Failed>;

/// A page of the machines, those of the configuration first.
#[utoipa::path(
    get,
    path = MACHINES,
    operation_id = "listMachines",
    params(Asked),
    responses((status = 200, body = Machines), (status = 409, body = Refused))
)]
async fn list(Registry(shared): Registry, Parameters(asked): Parameters<Asked>) -> Answer {
    if asked.never_seen {
        let unknown = |why| Failed { status: StatusCode::CONFLICT, ..Failed::bad(why) };
        shared.history.knows_seen().map_err(unknown)?;
    }
    let states = asked.state.split(',').map(str::trim).filter(|state| !state.is_empty());
    let states = states.map(str::parse).collect::<Result<_, String>>().map_err(Failed::bad)?;
    let labels = Query::read_labels(&asked.labels).map_err(Failed::bad)?;
    let query = Query { states, labels, after: asked.after, limit: asked.limit };
    let Page { machines, next } = shared.registry.ask(|reply| RegistryAsk::List(query, reply)).await?;
    let (history, never_seen) = (shared.history.clone(), asked.never_seen);
    let write = move || {
        let machines = Machine::listed(&machines, &history, never_seen);
        Ok(json(StatusCode::OK, &Machines { machines, next }))
    };
    shared.work(write).await
}

/// One machine.
#[utoipa::path(
    get,
    path = MACHINE,
    operation_id = "showMachine",
    params(("which" = String, Path, description = "Its name, MAC, UUID or number (id:42).")),
    responses((status = 200, body = Machine), (status = 404, body = Refused))
)]
async fn show(Registry(shared): Registry, Path(which): Path<String>) -> Answer {
    let view = shared.registry.ask(|reply| RegistryAsk::Show(which, reply)).await?;
    let history = shared.history.clone();
    shared.work(move || Ok(json(StatusCode::OK, &Machine::whole(&view, &history)))).await
}

/// Adds a machine.
#[utoipa::path(
    post,
    path = MACHINES,
    operation_id = "addMachine",
    request_body = Written,
    responses(
        (status = 201, body = Machine),
        (status = 409, body = Refused),
        (status = 422, body = Refused)
    )
)]
async fn create(Registry(shared): Registry, body: Bytes) -> Answer {
    let written: Written = shared.read(body).await?;
    let view = shared.registry.ask(|reply| RegistryAsk::Create(written.spec, reply)).await?;
    Ok(json(StatusCode::CREATED, &Machine::from(&view)))
}

/// Writes the whole spec.
#[utoipa::path(
    put,
    path = MACHINE,
    operation_id = "changeMachine",
    params(("which" = String, Path, description = "Its name, MAC, UUID or number (id:42).")),
    request_body = Written,
    responses(
        (status = 200, body = Machine),
        (status = 404, body = Refused),
        (status = 409, body = Refused),
        (status = 422, body = Refused)
    )
)]
async fn put(Registry(shared): Registry, Path(which): Path<String>, body: Bytes) -> Answer {
    let Written { version, spec } = shared.read(body).await?;
    let yours = spec.clone();
    let put = shared.registry.ask(|reply| RegistryAsk::Put(which, version, spec, reply)).await;
    let view = put.map_err(|error| Failed { yours: Some(yours.into()), ..Failed::from(error) })?;
    Ok(json(StatusCode::OK, &Machine::from(&view)))
}

/// A merge patch (RFC 7396) of `spec`, with the version beside it.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Patch {
    /// The version that was read. Without one, the one that there is now.
    version: Option<u64>,
    /// The keys that change; null removes one.
    spec: serde_json::Map<String, serde_json::Value>,
}

/// Changes a part of the spec.
#[utoipa::path(
    patch,
    path = MACHINE,
    operation_id = "patchMachine",
    params(("which" = String, Path, description = "Its name, MAC, UUID or number (id:42).")),
    request_body = Patch,
    responses(
        (status = 200, body = Machine),
        (status = 404, body = Refused),
        (status = 409, body = Refused),
        (status = 422, body = Refused)
    )
)]
async fn patch(Registry(shared): Registry, Path(which): Path<String>, body: Bytes) -> Answer {
    let Patch { version, spec: changes } = shared.read(body).await?;
    let view = shared.registry.ask(|reply| RegistryAsk::Show(which.clone(), reply)).await?;
    let View::Registered { record, .. } = view else {
        return Err(RegistryError::Configured(which).into());
    };
    // What was patched is what was read.
    let version = version.unwrap_or(record.version);
    let patched = move || -> Result<Spec, Failed> {
        let bad = |error: serde_json::Error| Failed::bad(error.to_string());
        let mut spec = serde_json::to_value(&record.spec).map_err(bad)?;
        merge(&mut spec, serde_json::Value::Object(changes));
        serde_json::from_value(spec).map_err(bad)
    };
    let spec = shared.work(patched).await?;
    let yours = spec.clone();
    let put = shared.registry.ask(|reply| RegistryAsk::Put(which, Some(version), spec, reply)).await;
    let view = put.map_err(|error| Failed { yours: Some(yours.into()), ..Failed::from(error) })?;
    Ok(json(StatusCode::OK, &Machine::from(&view)))
}

/// Removes a machine. The answer is the machine as it was.
#[utoipa::path(
    delete,
    path = MACHINE,
    operation_id = "deleteMachine",
    params(("which" = String, Path, description = "Its name, MAC, UUID or number (id:42)."), Quoted),
    responses(
        (status = 200, body = Machine),
        (status = 404, body = Refused),
        (status = 409, body = Refused)
    )
)]
async fn delete(
    Registry(Shared { registry, .. }): Registry,
    Path(which): Path<String>,
    Parameters(Quoted { version }): Parameters<Quoted>,
) -> Answer {
    let view = registry.ask(|reply| RegistryAsk::Delete(which, version, reply)).await?;
    Ok(json(StatusCode::OK, &Machine::from(&view)))
}

/// What can be ordered of a machine.
#[derive(Clone, Copy, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Word {
    Accept,
    Ignore,
    Allocate,
    Release,
    Wipe,
    Reinstall,
    Maintain,
    Resume,
}

/// Orders something of a machine.
#[utoipa::path(
    post,
    path = ORDER,
    operation_id = "orderMachine",
    params(
        ("which" = String, Path, description = "Its name, MAC, UUID or number (id:42)."),
        ("order" = inline(Word), Path, description = "What."),
        Ordered
    ),
    responses(
        (status = 200, body = Machine),
        (status = 404, body = Refused),
        (status = 409, body = Refused)
    )
)]
async fn order(
    Registry(Shared { registry, .. }): Registry,
    Path((which, order)): Path<(String, String)>,
    Parameters(Ordered { version, reason }): Parameters<Ordered>,
) -> Answer {
    let Ok(word) = serde_json::from_value(order.clone().into()) else {
        let error = format!(
            "{order:?} is no order: accept, ignore, allocate, release, wipe, reinstall, maintain or resume"
        );
        return Err(Failed { status: StatusCode::NOT_FOUND, ..Failed::bad(error) });
    };
    let order = match word {
        Word::Accept => Order::Accept,
        Word::Ignore => Order::Ignore,
        Word::Allocate => Order::Allocate,
        Word::Release => Order::Release,
        Word::Wipe => Order::Wipe,
        Word::Reinstall => Order::Reinstall,
        Word::Maintain if reason.contains(char::is_control) => {
            return Err(Failed::bad("reason is one line, without control characters".to_owned()));
        }
        Word::Maintain => Order::Maintain(reason),
        Word::Resume => Order::Resume,
    };
    let view = registry.ask(|reply| RegistryAsk::Order(which, version, order, reply)).await?;
    Ok(json(StatusCode::OK, &Machine::from(&view)))
}

/// Switches a machine by its BMC, or asks whether it is on.
#[utoipa::path(
    post,
    path = POWER,
    operation_id = "switchMachine",
    params(
        ("which" = String, Path, description = "Its name, MAC, UUID or number (id:42)."),
        power::Asked
    ),
    responses(
        (status = 200, body = Answered),
        (status = 404, body = Refused),
        (status = 409, body = Refused),
        (status = 502, body = Refused)
    )
)]
async fn switch(
    Registry(Shared { registry, .. }): Registry,
    Path(which): Path<String>,
    Parameters(asked): Parameters<power::Asked>,
) -> Answer {
    let asked = asked.read().map_err(Failed::bad)?;
    let powered = registry.ask(|reply| RegistryAsk::Power(which, asked, reply)).await?;
    Ok(json(StatusCode::OK, &Answered::from(powered)))
}

/// Stores the password of a BMC, encrypted; no answer has it.
#[utoipa::path(
    put,
    path = PASSWORD,
    operation_id = "setBmcPassword",
    params(("which" = String, Path, description = "Its name, MAC, UUID or number (id:42)."), Quoted),
    request_body(content = String, content_type = "text/plain"),
    responses(
        (status = 200, body = Machine),
        (status = 404, body = Refused),
        (status = 409, body = Refused)
    )
)]
async fn put_password(
    Registry(Shared { registry, .. }): Registry,
    Path(which): Path<String>,
    Parameters(Quoted { version }): Parameters<Quoted>,
    body: Bytes,
) -> Answer {
    let is_fit =
        |text: &&str| !text.is_empty() && text.len() <= LONGEST_PASSWORD && !text.contains(char::is_control);
    // What it is says no answer.
    let Some(text) = std::str::from_utf8(&body).ok().filter(is_fit) else {
        return Err(Failed::bad("a password is one line of at most 1024 bytes".to_owned()));
    };
    let password = Some(Secret::new(text.to_owned()));
    let view = registry.ask(|reply| RegistryAsk::Password(which, version, password, reply)).await?;
    Ok(json(StatusCode::OK, &Machine::from(&view)))
}

/// Removes the password of a BMC.
#[utoipa::path(
    delete,
    path = PASSWORD,
    operation_id = "deleteBmcPassword",
    params(("which" = String, Path, description = "Its name, MAC, UUID or number (id:42)."), Quoted),
    responses(
        (status = 200, body = Machine),
        (status = 404, body = Refused),
        (status = 409, body = Refused)
    )
)]
async fn delete_password(
    Registry(Shared { registry, .. }): Registry,
    Path(which): Path<String>,
    Parameters(Quoted { version }): Parameters<Quoted>,
) -> Answer {
    let view = registry.ask(|reply| RegistryAsk::Password(which, version, None, reply)).await?;
    Ok(json(StatusCode::OK, &Machine::from(&view)))
}

/// How many machines are in which state.
#[utoipa::path(get, path = STATUS, operation_id = "status", responses((status = 200, body = Counted)))]
async fn status(Registry(shared): Registry) -> Answer {
    let census = shared.registry.ask(RegistryAsk::Count).await?;
    let history = shared.history.clone();
    let never_seen = shared.work(move || Ok(history.count_never_seen())).await?;
    Ok(json(StatusCode::OK, &Counted { never_seen, ..Counted::from(census) }))
}

/// An error as HTTP has it.
struct Failed {
    status: StatusCode,
    error: String,
    current: Option<Box<Machine>>,
    yours: Option<Box<Spec>>,
}

impl Failed {
    fn bad(error: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error, current: None, yours: None }
    }
}

impl From<RegistryError> for Failed {
    fn from(error: RegistryError) -> Self {
        let status = match &error {
            RegistryError::Unknown(_) => StatusCode::NOT_FOUND,
            RegistryError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            RegistryError::Outdated(_)
            | RegistryError::Conflict(_)
            | RegistryError::Configured(_)
            | RegistryError::Order(_) => StatusCode::CONFLICT,
            RegistryError::Bmc(_) => StatusCode::BAD_GATEWAY,
            RegistryError::Store(_) | RegistryError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        let current = match &error {
            RegistryError::Outdated(record) => Some(Box::new(Machine::of(record, None, None, None))),
            _ => None,
        };
        Self { status, error: error.to_string(), current, yours: None }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let Self { status, error, current, yours } = self;
        // Both versions, so that an operator can compare them.
        let yours = yours.filter(|_| current.is_some());
        json(status, &Refused { error, current, yours })
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(failure) => (StatusCode::INTERNAL_SERVER_ERROR, failure.to_string()).into_response(),
    }
}
