//! Whether the server runs, and whether it can boot machines yet.

use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::State;
use axum::http::StatusCode;

use super::Site;

/// What `/readyz` says; clones share it. Not ready until [`Readiness::set_ready`].
#[derive(Clone, Debug)]
pub struct Readiness(Arc<RwLock<Result<(), String>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Err("starting".to_owned()))))
    }
}

impl Readiness {
    /// Machines can be booted from now on.
    pub fn set_ready(&self) {
        self.set(Ok(()));
    }

    /// Machines cannot be booted, and why.
    pub fn set_unready(&self, why: impl Into<String>) {
        self.set(Err(why.into()));
    }

    fn set(&self, state: Result<(), String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

pub(super) async fn alive() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(site): State<Site>) -> (StatusCode, String) {
    match &*site.readiness.0.read().unwrap_or_else(PoisonError::into_inner) {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}
