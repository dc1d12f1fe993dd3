//! `/api/v1/machines`: the registry of machines.

mod bmc;
mod import;
mod power;
mod schema;
mod shown;
mod watch;

use std::convert::Infallible;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query as Parameters};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::daemon::request::{Page, RegistryAsk, RegistryError, RegistryHandle, Reply, View, merge};
use crate::http::admin::json;
use crate::http::api::Pass;
use crate::http::boots::History;
use crate::http::following::Follower;
use boot_engine::lifecycle::Order;
use boot_engine::registry::{Query, Spec};
pub use import::IMPORT;
pub use power::{Answered, Last, Power};
pub use shown::{Counted, Machine, Machines, Refused, Status, Written};
pub(super) use watch::counts as follower_counts;
pub use watch::{Gone, Line};

/// The path of all machines.
pub const MACHINES: &str = "/api/v1/machines";
const MACHINE: &str = "/api/v1/machines/{which}";
const ORDER: &str = "/api/v1/machines/{which}/{order}";
/// The path of how many there are.
pub const STATUS: &str = "/api/v1/status";
/// Bytes of what is written of a machine.
const LARGEST_BODY: usize = 256 << 10;
/// Characters of the reason of an order: it is in the machine's history and on its console.
const LONGEST_REASON: usize = 256;

/// The routes. `history` knows what was seen of machines; what takes long is done by its worker, so that it does not wait in front of a packet.
pub fn router(registry: RegistryHandle, history: History) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, put, patch, delete))
        .routes(routes!(order))
        .routes(routes!(bmc::switch))
        .routes(routes!(bmc::put_password, bmc::delete_password))
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
    /// Tell what becomes of them, until the client leaves; without `after` and `limit`.
    #[serde(deserialize_with = "flag")]
    #[param(value_type = bool)]
    watch: bool,
    /// With `watch`: what has changed behind this revision, and what changes then. Without it: from now on.
    since: Option<u64>,
    /// With `watch`: `epoch` of the list that was made. If another configuration is served by now, that is told at once.
    epoch: Option<u64>,
}

/// `?watch` is `?watch=true`.
fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    match String::deserialize(from)?.as_str() {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(D::Error::custom(format!("{other:?} is neither true nor false"))),
    }
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
    /// Why, for `maintain`: one line.
    #[param(max_length = 256)]
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

    /// Changes a machine, and answers with what it is then, or was before it was removed.
    async fn change(&self, ask: impl FnOnce(Reply<View>) -> RegistryAsk) -> Answer {
        let view = self.registry.ask(ask).await?;
        Ok(json(StatusCode::OK, &Machine::from(&view)))
    }

    /// Writes a whole spec. Whoever is refused because somebody was faster gets both.
    async fn put(&self, which: String, version: Option<u64>, spec: Spec) -> Answer {
        let yours = spec.clone();
        let put = self.registry.ask(|reply| RegistryAsk::Put(which, version, spec, reply)).await;
        let view = put.map_err(|error| Failed { yours: Some(yours.into()), ..Failed::from(error) })?;
        Ok(json(StatusCode::OK, &Machine::from(&view)))
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

/// A page of the machines, those of the configuration first; with `watch` what becomes of those of the registry, a JSON
/// object a line. Empty lines are signs of life.
#[utoipa::path(
    get,
    path = MACHINES,
    operation_id = "listMachines",
    params(Asked),
    responses(
        (
            status = 200,
            content(
                (Machines = "application/json"),
                (Line = "application/x-ndjson"),
                (Line = "text/event-stream")
            )
        ),
        (status = 409, body = Refused),
        (status = 410, body = Refused)
    )
)]
async fn list(
    Registry(shared): Registry,
    Parameters(asked): Parameters<Asked>,
    follower: Follower,
) -> Answer {
    if asked.never_seen {
        let unknown = |why| Failed { status: StatusCode::CONFLICT, ..Failed::bad(why) };
        shared.history.knows_seen().map_err(unknown)?;
    }
    let states = asked.state.split(',').map(str::trim).filter(|state| !state.is_empty());
    let states = states.map(str::parse).collect::<Result<_, String>>().map_err(Failed::bad)?;
    let labels = Query::read_labels(&asked.labels).map_err(Failed::bad)?;
    let query = Query { states, labels, after: asked.after, limit: asked.limit };
    if asked.watch {
        if asked.after > 0 || asked.limit > 0 || asked.never_seen {
            return Err(Failed::bad("watch goes without after, limit and never_seen".to_owned()));
        }
        return watch::begin(shared, (query, asked.since, asked.epoch), follower).await;
    }
    if asked.since.is_some() || asked.epoch.is_some() {
        return Err(Failed::bad("since and epoch go with watch only: write watch=true, too".to_owned()));
    }
    // Before the machines: a configuration that is read between both is told of.
    let epoch = watch::epoch(&shared.registry).await?;
    let page = shared.registry.ask(|reply| RegistryAsk::List(query, reply)).await?;
    let (history, never_seen) = (shared.history.clone(), asked.never_seen);
    let write = move || {
        let Page { machines, next, revision } = page;
        let machines = Machine::listed(&machines, &history, never_seen);
        Ok(json(StatusCode::OK, &Machines { machines, next, revision, epoch }))
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
    shared.put(which, version, spec).await
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
    shared.put(which, Some(version), spec).await
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
    Registry(shared): Registry,
    Path(which): Path<String>,
    Parameters(Quoted { version }): Parameters<Quoted>,
) -> Answer {
    shared.change(|reply| RegistryAsk::Delete(which, version, reply)).await
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
    Registry(shared): Registry,
    Path((which, order)): Path<(String, String)>,
    Parameters(Ordered { version, reason }): Parameters<Ordered>,
) -> Answer {
    let Ok(word) = serde_json::from_value(order.clone().into()) else {
        let error = format!(
            "{order:?} is no order: accept, ignore, allocate, release, wipe, reinstall, maintain or resume"
        );
        return Err(Failed { status: StatusCode::NOT_FOUND, ..Failed::bad(error) });
    };
    if reason.contains(char::is_control) || reason.chars().count() > LONGEST_REASON {
        return Err(Failed::bad(format!("reason is one line of at most {LONGEST_REASON} characters")));
    }
    let order = match word {
        Word::Accept => Order::Accept,
        Word::Ignore => Order::Ignore,
        Word::Allocate => Order::Allocate,
        Word::Release => Order::Release,
        Word::Wipe => Order::Wipe,
        Word::Reinstall => Order::Reinstall,
        Word::Maintain => Order::Maintain(reason),
        Word::Resume => Order::Resume,
    };
    shared.change(|reply| RegistryAsk::Order(which, version, order, reply)).await
}

/// How many machines are in which state.
#[utoipa::path(get, path = STATUS, operation_id = "status", responses((status = 200, body = Counted)))]
async fn status(Registry(shared): Registry) -> Answer {
    let census = shared.registry.ask(RegistryAsk::Count).await?;
    let (history, nowhere) = (shared.history.clone(), census.nowhere.clone());
    let never_seen = shared.work(move || Ok(history.count_never_seen(&nowhere))).await?;
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
            | RegistryError::Unreadable { .. }
            | RegistryError::Order(_) => StatusCode::CONFLICT,
            RegistryError::Untold(_) => StatusCode::GONE,
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
