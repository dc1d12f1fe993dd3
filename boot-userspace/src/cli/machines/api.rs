//! The daemon's API of machines, as the verbs use it.

use anyhow::{Result, anyhow, bail};
use axum::http::{Method, StatusCode};
use serde::de::DeserializeOwned;

use super::Selected;
use crate::cli::daemon_api::{self, DaemonApi};
use crate::cli::{ConfigFile, configuration};
use crate::daemon::request::{ImportItem, Imported};
use crate::files::percent;
use crate::http::admin;
use crate::http::machines::{
    Answered, Counted, IMPORT, MACHINES, Machine, Machines, Refused, STATUS, Written,
};
use boot_engine::registry::Spec;

/// How many machines are asked for at once.
const AT_ONCE: usize = 1000;

/// The running daemon.
pub(super) struct Api(DaemonApi);

impl Api {
    pub(super) async fn open(file: &ConfigFile) -> Result<Self> {
        let socket = admin::socket(&configuration::state_dir(&file.config)?);
        match DaemonApi::open(&socket).await? {
            Some(daemon) => Ok(Self(daemon)),
            None => bail!(
                "no xpxe answers at {}: start it; the registry of machines is kept by the running daemon",
                socket.display()
            ),
        }
    }

    pub(super) async fn list(&mut self, selected: &Selected) -> Result<Vec<Machine>> {
        self.pages(selected, false).await
    }

    /// Those of them that were never seen.
    pub(super) async fn never_seen(&mut self, selected: &Selected) -> Result<Vec<Machine>> {
        self.pages(selected, true).await
    }

    async fn pages(&mut self, selected: &Selected, never_seen: bool) -> Result<Vec<Machine>> {
        let (mut machines, mut after) = (Vec::new(), 0);
        loop {
            let mut path = format!("{MACHINES}?limit={AT_ONCE}&after={after}");
            if never_seen {
                path += "&never_seen=true";
            }
            for (key, value) in [("labels", &selected.labels), ("state", &selected.state)] {
                if let Some(value) = value {
                    path += &format!("&{key}={}", percent::encode(value));
                }
            }
            let page: Machines = self.call(Method::GET, &path, String::new()).await?;
            machines.extend(page.machines);
            match page.next {
                Some(next) => after = next,
                None => return Ok(machines),
            }
        }
    }

    pub(super) async fn show(&mut self, which: &str) -> Result<Machine> {
        self.call(Method::GET, &one(which), String::new()).await
    }

    pub(super) async fn add(&mut self, spec: Spec) -> Result<Machine> {
        let body = serde_json::to_string(&Written { version: None, spec })?;
        self.call(Method::POST, MACHINES, body).await
    }

    pub(super) async fn import(&mut self, items: &[ImportItem], dry_run: bool) -> Result<Imported> {
        let path = format!("{IMPORT}?dry_run={dry_run}");
        self.call(Method::POST, &path, serde_json::to_string(items)?).await
    }

    pub(super) async fn put(&mut self, which: &str, written: Written) -> Result<Machine> {
        self.call(Method::PUT, &one(which), serde_json::to_string(&written)?).await
    }

    pub(super) async fn delete(&mut self, which: &str) -> Result<Machine> {
        self.call(Method::DELETE, &one(which), String::new()).await
    }

    pub(super) async fn order(&mut self, which: &str, order: &str, reason: &str) -> Result<Machine> {
        let path = format!("{}/{order}?reason={}", one(which), percent::encode(reason));
        self.call(Method::POST, &path, String::new()).await
    }

    pub(super) async fn power(&mut self, which: &str, command: &str, boot: &str) -> Result<Answered> {
        let path = format!("{}/power?command={command}&boot={boot}", one(which));
        self.call(Method::POST, &path, String::new()).await
    }

    pub(super) async fn put_password(&mut self, which: &str, password: &str) -> Result<Machine> {
        self.call(Method::PUT, &format!("{}/bmc-password", one(which)), password.to_owned()).await
    }

    pub(super) async fn status(&mut self) -> Result<Counted> {
        self.call(Method::GET, STATUS, String::new()).await
    }

    async fn call<T: DeserializeOwned>(&mut self, method: Method, path: &str, body: String) -> Result<T> {
        let (status, body) = self.send(method, path, body).await?;
        read(status, &body)
    }

    async fn send(&mut self, method: Method, path: &str, body: String) -> Result<(StatusCode, String)> {
        daemon_api::read(self.0.send(daemon_api::request(method, path, body)?).await?).await
    }
}

fn one(which: &str) -> String {
    format!("{MACHINES}/{}", percent::encode(which))
}

fn read<T: DeserializeOwned>(status: StatusCode, body: &str) -> Result<T> {
    if status.is_success() {
        return Ok(serde_json::from_str(body)?);
    }
    match serde_json::from_str::<Refused>(body) {
        Ok(Refused { error, .. }) => Err(anyhow!(error)),
        Err(_) => bail!("the daemon answered {status}: {body}; if it is an older one, restart it"),
    }
}
