//! Lets requests pass whose token allows them.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use super::tokens::{Role, Tokens};
use super::{WHO, tokens};
use crate::host::clock;
use crate::host::secret::Secret;
use crate::http::admin::{Problem, json};
use crate::http::{Ends, shown};

/// How many requests are worked on at once; the others wait. Machines that boot need the processor, too.
const AT_ONCE: usize = 4;
/// How many of them may wait for BMCs: those use no processor, and whoever looks at the dashboard does not wait for them.
const WITH_BMCS: usize = 16;
/// How long a change may take, its body included.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of the text of an error.
const LONGEST_ERROR: usize = 4096;
/// How often the log tells of requests that were refused.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Who may come in.
pub struct Guard {
    tokens: Tokens,
    /// Those without a token may read what the dashboard shows.
    is_public: bool,
    reading: Semaphore,
    changing: Semaphore,
    with_bmcs: Semaphore,
    refused: AtomicU64,
    told: Mutex<Option<Duration>>,
}

/// What an answer that goes on for long asks now and again: whether who has been let in may still be.
#[derive(Clone)]
pub(in crate::http) struct Pass {
    tokens: Tokens,
    token: Secret,
    name: String,
}

impl Pass {
    pub(super) fn of(tokens: Tokens, token: &str, name: String) -> Self {
        Self { tokens, token: Secret::new(token.to_owned()), name }
    }

    /// What the token is called.
    pub(in crate::http) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the token has neither ended nor been revoked.
    pub(in crate::http) fn holds(&self) -> bool {
        self.tokens.find(self.token.reveal(), clock::wall().as_secs()).is_some()
    }

    /// Wakes when that may have changed.
    pub(in crate::http) fn changes(&self) -> watch::Receiver<()> {
        self.tokens.changes()
    }
}

/// Who has been let in.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The token's name; none without a token.
    pub(super) name: Option<String>,
    /// None: he may read what is public.
    pub(super) role: Option<Role>,
    /// When the token ends, in Unix seconds.
    pub(super) expires: Option<u64>,
}

impl Guard {
    /// With these tokens; `is_public`: reading what the dashboard shows needs none.
    #[must_use]
    pub fn new(tokens: Tokens, is_public: bool) -> Self {
        Self {
            tokens,
            is_public,
            reading: Semaphore::new(AT_ONCE),
            changing: Semaphore::new(AT_ONCE),
            with_bmcs: Semaphore::new(WITH_BMCS),
            refused: AtomicU64::new(0),
            told: Mutex::new(None),
        }
    }

    /// Who asks, if he may do that.
    fn admit(&self, request: &Request) -> Result<Caller, StatusCode> {
        let needed = needed(request.method(), request.uri().path());
        if !request.headers().contains_key(AUTHORIZATION) {
            let is_free = self.is_public && needed == Needed::Public;
            return is_free
                .then_some(Caller { name: None, role: None, expires: None })
                .ok_or(StatusCode::UNAUTHORIZED);
        }
        let token = bearer(request.headers()).ok_or(StatusCode::UNAUTHORIZED)?;
        let found = self.tokens.find(token, clock::wall().as_secs()).ok_or(StatusCode::UNAUTHORIZED)?;
        let least = match needed {
            Needed::Public => Role::Read,
            Needed::Role(role) => role,
        };
        if found.role < least {
            return Err(StatusCode::FORBIDDEN);
        }
        Ok(Caller { name: Some(found.name), role: Some(found.role), expires: Some(found.expires) })
    }

    /// Answers a request in its turn, which lasts until the answer begins: events go on for hours.
    async fn run(&self, request: Request, next: Next, is_change: bool) -> Response {
        if is_change && request.uri().path().ends_with("/power") {
            let Ok(_turn) = self.with_bmcs.try_acquire() else {
                let error = format!("{WITH_BMCS} commands wait for BMCs already; try again later");
                return json(StatusCode::SERVICE_UNAVAILABLE, &Problem { error });
            };
            return next.run(request).await;
        }
        let turns = if is_change { &self.changing } else { &self.reading };
        let Ok(_turn) = turns.acquire().await else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
        if !is_change {
            return next.run(request).await;
        }
        timeout(PATIENCE, next.run(request)).await.unwrap_or_else(|_| {
            let error =
                format!("the change took longer than {PATIENCE:?}; look whether it was made, and try again");
            json(StatusCode::REQUEST_TIMEOUT, &Problem { error })
        })
    }

    fn tell_refused(&self, client: Option<IpAddr>) {
        let refused = self.refused.fetch_add(1, Relaxed) + 1;
        let now = clock::boot();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|at| now < at + TOLD_EVERY) {
            return;
        }
        *told = Some(now);
        let from = client.map_or_else(String::new, |client| format!(", the last one of {client}"));
        warn!(
            "the API has refused {refused} requests since the start{from}: no token, a wrong or expired one, or one that may \
             not do that (xpxe tokens list)"
        );
    }
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needed {
    /// Any token, or none where reading is public.
    Public,
    /// A token of this role, or of one that may more.
    Role(Role),
}

/// What the dashboard shows; neither kernel arguments nor leases.
const PUBLIC: [&str; 7] =
    ["/api/v1/wall", "/api/v1/boots", "/api/v1/why", "/api/v1/events", "/api/v1/status", WHO, "/metrics"];

/// What is not named here is for administrators, so that no new route is open by mistake.
pub(super) fn needed(method: &Method, path: &str) -> Needed {
    if method == Method::GET || method == Method::HEAD {
        let is_below = |place: &str| {
            path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        return if PUBLIC.iter().any(|place| is_below(place)) {
            Needed::Public
        } else {
            Needed::Role(Role::Read)
        };
    }
    let of_machine = path.strip_prefix("/api/v1/machines/").map(|rest| rest.split('/').count());
    match of_machine {
        Some(2..) if method == Method::POST => Needed::Role(Role::Operate),
        _ => Needed::Role(Role::Admin),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && token.len() <= tokens::LONGEST).then(|| token.trim())
}

pub(super) async fn guard(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let client = request.extensions().get::<ConnectInfo<Ends>>().map(|ConnectInfo(ends)| ends.client.ip());
    let caller = match guard.admit(&request) {
        Ok(caller) => caller,
        Err(status) => {
            guard.tell_refused(client);
            return refusal(status);
        }
    };
    let (method, path) = (request.method().clone(), shown(request.uri().path()));
    let name = caller.name.clone().unwrap_or_default();
    if let Some(token) = bearer(request.headers()) {
        let pass = Pass::of(guard.tokens.clone(), token, name.clone());
        request.extensions_mut().insert(pass);
    }
    request.extensions_mut().insert(caller);
    let is_change = method != Method::GET && method != Method::HEAD;
    let mut response = guard.run(request, next, is_change).await;
    if is_change {
        let client = client.map_or_else(String::new, |client| format!(" at {client}"));
        info!("the owner of token {name}{client}: {method} {path}: {}", response.status());
    }
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The same whatever is wrong with the token.
fn refusal(status: StatusCode) -> Response {
    let error = match status {
        StatusCode::FORBIDDEN => "this token does not allow that",
        _ => "send a valid token: Authorization: Bearer TOKEN",
    };
    let mut response = json(status, &Problem { error: error.to_owned() });
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Errors of requests that no handler has seen (an unknown method, a query that is none) as the document has errors.
pub(super) async fn errors_as_json(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if !status.is_client_error() || kind == Some("application/json") {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, LONGEST_ERROR).await.unwrap_or_default();
    let error = said(status, &String::from_utf8_lossy(&text));
    let mut answer = json(status, &Problem { error });
    answer.headers_mut().extend(
        parts
            .headers
            .into_iter()
            .filter_map(|(name, value)| Some((name.filter(|name| *name == ALLOW)?, value))),
    );
    answer
}

/// What is wrong, and what to do, where a library has found it.
fn said(status: StatusCode, text: &str) -> String {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            "this path does not take that method: send one that the header Allow names".to_owned()
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            "the body is longer than this path takes: send less in one request".to_owned()
        }
        status if text.is_empty() => status.canonical_reason().unwrap_or("the request is wrong").to_owned(),
        _ => match text.strip_prefix("Failed to deserialize query string: ") {
            Some(what) => format!("a parameter cannot be read: {what}"),
            None => text.to_owned(),
        },
    }
}

pub(super) async fn nothing_there() -> Response {
    json(StatusCode::NOT_FOUND, &Problem { error: "the API has no such path".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_for_everybody_needs_the_role_that_may_do_it() {
        let (get, post) = (Method::GET, Method::POST);
        let (read, operate, admin) =
            (Needed::Role(Role::Read), Needed::Role(Role::Operate), Needed::Role(Role::Admin));
        for (method, path, wanted) in [
            (&get, "/api/v1/wall", Needed::Public),
            (&Method::HEAD, "/api/v1/why/alice", Needed::Public),
            (&get, "/metrics", Needed::Public),
            (&get, "/api/v1/wallpaper", read),
            (&get, "/api/v1/machines", read),
            (&get, "/api/v1/leases", read),
            (&get, "/anything", read),
            (&post, "/api/v1/machines/alice/accept", operate),
            (&post, "/api/v1/machines/alice/power/on", operate),
            (&post, "/api/v1/machines", admin),
            (&Method::DELETE, "/api/v1/machines/alice", admin),
            (&Method::PATCH, "/api/v1/machines/alice/x", admin),
            (&post, "/api/v1/reload", admin),
            (&post, "/api/v1/leases", admin),
            (&Method::OPTIONS, "/api/v1/wall", admin),
        ] {
            assert_eq!(needed(method, path), wanted, "{method} {path}");
        }
    }

    #[test]
    fn what_a_library_refuses_says_what_to_do() {
        for (status, text, says) in [
            (StatusCode::METHOD_NOT_ALLOWED, "", "header Allow"),
            (StatusCode::PAYLOAD_TOO_LARGE, "length limit exceeded", "send less in one request"),
            (
                StatusCode::BAD_REQUEST,
                "Failed to deserialize query string: limit: invalid digit found in string",
                "a parameter cannot be read: limit: invalid digit",
            ),
            (StatusCode::BAD_REQUEST, "Invalid URL", "Invalid URL"),
        ] {
            assert!(said(status, text).contains(says), "{}", said(status, text));
        }
    }
}
