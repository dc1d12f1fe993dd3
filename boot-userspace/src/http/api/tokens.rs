//! The tokens of the API: made for a person or a program, with a role and an end. Only their digests are kept.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::{Path as Name, State};
use axum::http::StatusCode;
use axum::response::Response;
use openssl::memcmp;
use openssl::rand::rand_bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tracing::error;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::host::replace::{PRIVATE, replace};
use crate::host::{clock, regular};
use crate::http::admin::{Failed, Problem, json, rfc3339};

/// The path of all tokens.
pub const TOKENS: &str = "/api/v1/tokens";
const TOKEN: &str = "/api/v1/tokens/{name}";
/// The file's name in `state_dir`.
const FILE: &str = "tokens.json";
/// Before the digits, so that a token is known for one wherever it turns up.
const MARK: &str = "xpxe_";
/// Random bytes of a token.
const LENGTH: usize = 32;
/// Bytes of a token's text.
pub(super) const LONGEST: usize = MARK.len() + 2 * LENGTH;
/// How many tokens there may be: each request is compared with all of them.
const MOST: usize = 1000;
/// Days.
const LONGEST_LIFE: u64 = 3650;
const DAY: u64 = 86_400;

/// What the owner of a token may do; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at everything.
    Read,
    /// Give machines orders: accept, allocate, release and so on.
    Operate,
    /// Add, change and remove machines and leases, and reload.
    Admin,
}

impl Role {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

/// A token as it is kept.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    name: String,
    role: Role,
    /// In Unix seconds.
    expires: u64,
    /// Of the token's text, in hexadecimal digits.
    sha256: String,
}

/// A token as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ShownToken {
    /// Its name.
    pub name: String,
    /// What its owner may do.
    pub role: Role,
    /// When it ends, in Unix seconds.
    pub expires: u64,
    /// The same for people (RFC 3339).
    pub expires_at: String,
    /// It has ended.
    pub is_expired: bool,
}

/// A token that was just made.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
pub struct NewToken {
    /// What the request's header has behind `Bearer`. It is shown this once.
    pub token: String,
    /// The token as it is shown from now on.
    #[serde(flatten)]
    pub shown: ShownToken,
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}

/// What somebody wants a token for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WantedToken {
    /// Its name: letters, digits, `-`, `_` and `.`, at most 64.
    pub name: String,
    /// What its owner may do.
    pub role: Role,
    /// For how many days, 1 to 3650.
    pub days: u64,
}

/// A token that was revoked.
#[derive(Serialize, utoipa::ToSchema)]
struct Revoked {
    /// Its name.
    revoked: String,
}

/// All tokens. Clones are the same.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// Or why they cannot be read.
    all: Mutex<Result<Vec<Stored>, String>>,
    /// Wakes those who have to know that some may have ended.
    changes: watch::Sender<()>,
}

/// Whom a token lets in.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) expires: u64,
}

impl Tokens {
    /// Those of this server. If they cannot be read, nobody is let in, and the log says why.
    #[must_use]
    pub fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let all = read(&path).map_err(|why| {
            format!(
                "the tokens of the API, {}, cannot be read: {why}; correct the file, or remove it",
                path.display()
            )
        });
        if let Err(why) = &all {
            error!("{why}");
        }
        Self(Arc::new(Inner { path, all: Mutex::new(all), changes: watch::Sender::default() }))
    }

    /// Whom this token lets in. `now` is in Unix seconds.
    pub(super) fn find(&self, token: &str, now: u64) -> Option<Found> {
        let digest = digest(token);
        let all = self.lock();
        let mut found = None;
        // All of them: how long it takes says nothing.
        for stored in all.as_ref().ok()? {
            let is_it = stored.sha256.len() == digest.len()
                && memcmp::eq(stored.sha256.as_bytes(), digest.as_bytes());
            if is_it && now < stored.expires {
                found = Some(stored);
            }
        }
        found.map(|stored| Found { name: stored.name.clone(), role: stored.role, expires: stored.expires })
    }

    fn add(&self, wanted: &WantedToken, now: u64) -> Result<NewToken, Failed> {
        let WantedToken { name, role, days } = wanted;
        let bad = |message: &str| Failed(StatusCode::UNPROCESSABLE_ENTITY, message.to_owned());
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
            return Err(bad("a token's name has 1 to 64 letters, digits, -, _ and ."));
        }
        if !(1..=LONGEST_LIFE).contains(days) {
            return Err(bad("a token is valid for 1 to 3650 days"));
        }
        let mut random = [0; LENGTH];
        rand_bytes(&mut random).map_err(|error| {
            Failed(StatusCode::INTERNAL_SERVER_ERROR, format!("OpenSSL gives no random bytes: {error}"))
        })?;
        let token = format!("{MARK}{}", hex(&random));
        let stored =
            Stored { name: name.clone(), role: *role, expires: now + days * DAY, sha256: digest(&token) };
        self.change(|all| {
            if all.iter().any(|other| other.name == *name) {
                let message = format!("there is a token {name} already: revoke it, or choose another name");
                return Err(Failed(StatusCode::CONFLICT, message));
            }
            if all.len() >= MOST {
                return Err(Failed(
                    StatusCode::CONFLICT,
                    format!("there are {MOST} tokens already: revoke some"),
                ));
            }
            all.push(stored.clone());
            Ok(())
        })?;
        Ok(NewToken { token, shown: shown(&stored, now) })
    }

    fn revoke(&self, name: &str) -> Result<(), Failed> {
        self.change(|all| {
            let before = all.len();
            all.retain(|stored| stored.name != name);
            match all.len() < before {
                true => Ok(()),
                false => Err(Failed(
                    StatusCode::NOT_FOUND,
                    format!("there is no token {name}; xpxe tokens list shows all"),
                )),
            }
        })
    }

    /// Writes a change before it counts.
    fn change(&self, change: impl FnOnce(&mut Vec<Stored>) -> Result<(), Failed>) -> Result<(), Failed> {
        let mut all = self.lock();
        let now = all.as_ref().map_err(|why| Failed(StatusCode::SERVICE_UNAVAILABLE, why.clone()))?;
        let mut new = now.clone();
        change(&mut new)?;
        write(&self.0.path, &new).map_err(|error| {
            let message =
                format!("{} cannot be written: {error}; nothing was changed", self.0.path.display());
            Failed(StatusCode::SERVICE_UNAVAILABLE, message)
        })?;
        *all = Ok(new);
        drop(all);
        self.0.changes.send_replace(());
        Ok(())
    }

    /// Wakes whenever tokens are made or revoked from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    fn list(&self, now: u64) -> Result<Vec<ShownToken>, Failed> {
        let all = self.lock();
        let all = all.as_ref().map_err(|why| Failed(StatusCode::SERVICE_UNAVAILABLE, why.clone()))?;
        Ok(all.iter().map(|stored| shown(stored, now)).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Result<Vec<Stored>, String>> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(stored: &Stored, now: u64) -> ShownToken {
    let Stored { name, role, expires, .. } = stored;
    ShownToken {
        name: name.clone(),
        role: *role,
        expires: *expires,
        expires_at: rfc3339(*expires),
        is_expired: now >= *expires,
    }
}

fn read(path: &Path) -> Result<Vec<Stored>, String> {
    match regular::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.to_string()),
    }
}

/// After a power cut there are all of them, or those before.
fn write(path: &Path, all: &[Stored]) -> io::Result<()> {
    replace(path, PRIVATE, &serde_json::to_vec_pretty(all)?)
}

fn digest(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The routes, for the Unix socket.
pub(super) fn router(tokens: Tokens) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(revoke)).with_state(tokens)
}

/// Every token, without what lets anybody in.
#[utoipa::path(
    get,
    path = TOKENS,
    operation_id = "listTokens",
    responses((status = 200, body = Vec<ShownToken>))
)]
async fn list(State(tokens): State<Tokens>) -> Result<Response, Failed> {
    work(move || Ok(json(StatusCode::OK, &tokens.list(clock::wall().as_secs())?))).await
}

/// Makes a token.
#[utoipa::path(
    post,
    path = TOKENS,
    operation_id = "addToken",
    request_body = WantedToken,
    responses(
        (status = 201, body = NewToken),
        (status = 409, body = Problem),
        (status = 422, body = Problem)
    )
)]
async fn add(State(tokens): State<Tokens>, body: Bytes) -> Result<Response, Failed> {
    let wanted: WantedToken = serde_json::from_slice(&body).map_err(|wrong| {
        Failed(StatusCode::BAD_REQUEST, format!("the body is not what is expected: {wrong}"))
    })?;
    work(move || Ok(json(StatusCode::CREATED, &tokens.add(&wanted, clock::wall().as_secs())?))).await
}

/// Ends a token at once.
#[utoipa::path(
    delete,
    path = TOKEN,
    operation_id = "revokeToken",
    params(("name" = String, Path, description = "Its name.")),
    responses((status = 200, body = Revoked), (status = 404, body = Problem))
)]
async fn revoke(State(tokens): State<Tokens>, Name(name): Name<String>) -> Result<Response, Failed> {
    work(move || tokens.revoke(&name).map(|()| json(StatusCode::OK, &Revoked { revoked: name }))).await
}

/// The disk may hang, and nobody else shall.
async fn work<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Result<T, Failed> {
    let worked = tokio::task::spawn_blocking(act).await;
    worked.map_err(|_| Failed(StatusCode::SERVICE_UNAVAILABLE, "xpxe is stopping".to_owned()))?
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::http::api::Pass;
    use crate::http::following::ended;

    fn wanted(name: &str, role: Role) -> WantedToken {
        WantedToken { name: name.to_owned(), role, days: 1 }
    }

    #[test]
    fn a_token_lets_in_until_it_ends_or_is_revoked_and_outlives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path());
        let NewToken { token, shown } = tokens.add(&wanted("alice", Role::Operate), 1000).ok().unwrap();
        assert_eq!((shown.expires, token.len()), (1000 + DAY, LONGEST));
        let file = fs::read_to_string(dir.path().join(FILE)).unwrap();
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert!(
            !file.contains(&token[MARK.len()..]) && mode & 0o777 == 0o600,
            "only the digest is kept: {file}"
        );
        let again = Tokens::open(dir.path());
        for tokens in [&tokens, &again] {
            let found = tokens.find(&token, 999 + DAY).unwrap();
            assert_eq!((found.name.as_str(), found.role), ("alice", Role::Operate));
            assert!(tokens.find(&token, 1000 + DAY).is_none(), "expired");
            assert!(tokens.find(&token[..token.len() - 1], 1000).is_none(), "not whole");
            assert!(tokens.find(&shown.name, 1000).is_none() && tokens.find("", 1000).is_none());
        }
        assert!(again.add(&wanted("alice", Role::Read), 1000).is_err(), "the name is taken");
        assert!(again.revoke("bob").is_err() && again.revoke("alice").is_ok());
        assert!(again.find(&token, 1000).is_none());
        assert!(Tokens::open(dir.path()).find(&token, 1000).is_none());
    }

    #[tokio::test]
    async fn who_follows_with_a_token_is_ended_when_it_is_revoked_and_not_by_another_change() {
        const SOON: Duration = Duration::from_secs(2);
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path());
        let now = clock::wall().as_secs();
        let NewToken { token, .. } = tokens.add(&wanted("alice", Role::Read), now).ok().unwrap();
        let pass = Pass::of(tokens.clone(), &token, "alice".to_owned());
        let following = tokio::spawn(ended(Some(pass)));
        tokio::pin!(following);
        tokio::task::yield_now().await;
        assert!(tokens.add(&wanted("bob", Role::Read), now).is_ok());
        assert!(timeout(Duration::from_millis(100), &mut following).await.is_err(), "by another's token");
        assert!(tokens.revoke("alice").is_ok());
        assert!(timeout(SOON, &mut following).await.is_ok(), "not before the next look");
    }

    #[test]
    fn a_file_that_cannot_be_read_lets_nobody_in_and_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "[{]").unwrap();
        let tokens = Tokens::open(dir.path());
        assert!(tokens.find("", 0).is_none());
        let Err(Failed(_, said)) = tokens.add(&wanted("alice", Role::Read), 0) else {
            panic!("written over")
        };
        assert!(said.contains("tokens.json") && said.contains("remove it"), "{said}");
        assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), "[{]");
    }

    #[test]
    fn neither_the_name_nor_the_length_of_life_is_anything() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path());
        for name in ["", "a b", "é", &"x".repeat(65)] {
            assert!(tokens.add(&wanted(name, Role::Read), 0).is_err(), "{name}");
        }
        for days in [0, 3651] {
            let wanted = WantedToken { days, ..wanted("a", Role::Read) };
            assert!(tokens.add(&wanted, 0).is_err(), "{days}");
        }
    }

    #[test]
    fn debug_shows_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let new = Tokens::open(dir.path()).add(&wanted("alice", Role::Read), 0).ok().unwrap();
        assert!(!format!("{new:?}").contains(MARK));
    }
}
