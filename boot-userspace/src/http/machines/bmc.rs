//! What a machine's BMC is told, and its password.

use axum::body::Bytes;
use axum::extract::{Path, Query as Parameters};
use axum::http::StatusCode;

use super::power::{self, Answered};
use super::shown::{Machine, Refused};
use super::{Answer, Failed, Quoted, Registry, Shared, json};
use crate::daemon::request::RegistryAsk;
use crate::host::secret::Secret;

const POWER: &str = "/api/v1/machines/{which}/power";
const PASSWORD: &str = "/api/v1/machines/{which}/bmc-password";
/// Bytes of a password.
const LONGEST_PASSWORD: usize = 1024;

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
pub(super) async fn switch(
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
pub(super) async fn put_password(
    Registry(shared): Registry,
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
    shared.change(|reply| RegistryAsk::Password(which, version, password, reply)).await
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
pub(super) async fn delete_password(
    Registry(shared): Registry,
    Path(which): Path<String>,
    Parameters(Quoted { version }): Parameters<Quoted>,
) -> Answer {
    shared.change(|reply| RegistryAsk::Password(which, version, None, reply)).await
}
