//! The daemon's API of machines, as the verbs use it.

use anyhow::{Error, Result, anyhow, bail};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde::de::DeserializeOwned;

use super::Selected;
use crate::cli::daemon_api::{self, DaemonApi};
use crate::cli::{ConfigFile, configuration};
use crate::daemon::request::Imported;
use crate::files::percent;
use crate::http::admin;
use crate::http::machines::{
    Answered, Counted, IMPORT, MACHINES, Machine, Machines, Refused, STATUS, Written,
};
use boot_engine::registry::Spec;

/// How many machines are asked for at once.
const AT_ONCE: usize = 1000;

/// What a list says of itself: the last change that is in it, and which configuration was served.
#[derive(Clone, Copy)]
pub(super) struct Begin {
    pub(super) revision: u64,
    epoch: u64,
}

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
        Ok(self.pages(selected, "").await?.0)
    }

    /// Those of them that were never seen.
    pub(super) async fn never_seen(&mut self, selected: &Selected) -> Result<Vec<Machine>> {
        Ok(self.pages(selected, "&never_seen=true").await?.0)
    }

    /// The machines, and from where on to follow them.
    pub(super) async fn list_with_begin(&mut self, selected: &Selected) -> Result<(Vec<Machine>, Begin)> {
        self.pages(selected, "").await
    }

    async fn pages(&mut self, selected: &Selected, more: &str) -> Result<(Vec<Machine>, Begin)> {
        let (mut machines, mut after, mut first) = (Vec::new(), 0, None);
        loop {
            let path = format!("{MACHINES}?limit={AT_ONCE}&after={after}{more}{}", queries(selected));
            let page: Machines = self.call(Method::GET, &path, String::new()).await?;
            machines.extend(page.machines);
            // What changes while pages are read is told from the first one on.
            let begin = *first.get_or_insert(Begin { revision: page.revision, epoch: page.epoch });
            match page.next {
                Some(next) => after = next,
                None => return Ok((machines, begin)),
            }
        }
    }

    /// What becomes of them from there on, a line for each change.
    pub(super) async fn follow(mut self, selected: &Selected, from: Begin) -> Result<Body> {
        let Begin { revision, epoch } = from;
        let path = format!("{MACHINES}?watch=true&since={revision}&epoch={epoch}{}", queries(selected));
        let answer = self.0.send(daemon_api::request(Method::GET, &path, "")?).await?;
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        let (status, body) = daemon_api::read(answer).await?;
        Err(refused(status, &body))
    }

    pub(super) async fn show(&mut self, which: &str) -> Result<Machine> {
        self.call(Method::GET, &one(which)?, String::new()).await
    }

    pub(super) async fn add(&mut self, spec: Spec) -> Result<Machine> {
        let body = serde_json::to_string(&Written { version: None, spec })?;
        self.call(Method::POST, MACHINES, body).await
    }

    /// Adds and changes these machines, each written as an [`ImportItem`](crate::daemon::request::ImportItem).
    pub(super) async fn import(&mut self, items: &[String], dry_run: bool) -> Result<Imported> {
        let path = format!("{IMPORT}?dry_run={dry_run}");
        self.call(Method::POST, &path, format!("[{}]", items.join(","))).await
    }

    pub(super) async fn put(&mut self, which: &str, written: Written) -> Result<Machine> {
        self.call(Method::PUT, &one(which)?, serde_json::to_string(&written)?).await
    }

    pub(super) async fn delete(&mut self, which: &str) -> Result<Machine> {
        self.call(Method::DELETE, &one(which)?, String::new()).await
    }

    pub(super) async fn order(&mut self, which: &str, order: &str, reason: &str) -> Result<Machine> {
        let path = format!("{}/{order}?reason={}", one(which)?, percent::encode(reason));
        self.call(Method::POST, &path, String::new()).await
    }

    pub(super) async fn power(&mut self, which: &str, command: &str, boot: &str) -> Result<Answered> {
        let path = format!("{}/power?command={command}&boot={boot}", one(which)?);
        self.call(Method::POST, &path, String::new()).await
    }

    pub(super) async fn put_password(&mut self, which: &str, password: &str) -> Result<Machine> {
        self.call(Method::PUT, &format!("{}/bmc-password", one(which)?), password.to_owned()).await
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

/// Without a name it would be another path.
fn one(which: &str) -> Result<String> {
    if which.trim().is_empty() {
        bail!("the name of a machine is empty: write a name, MAC address, UUID or number (id:42)");
    }
    Ok(format!("{MACHINES}/{}", percent::encode(which)))
}

fn queries(selected: &Selected) -> String {
    let given = [("labels", &selected.labels), ("state", &selected.state)];
    let given = given.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    given.map(|(key, value)| format!("&{key}={}", percent::encode(value))).collect()
}

fn read<T: DeserializeOwned>(status: StatusCode, body: &str) -> Result<T> {
    if status.is_success() {
        return Ok(serde_json::from_str(body)?);
    }
    Err(refused(status, body))
}

fn refused(status: StatusCode, body: &str) -> Error {
    match serde_json::from_str::<Refused>(body) {
        Ok(Refused { error, .. }) => anyhow!(error),
        Err(_) => anyhow!("the daemon answered {status}: {body}; if it is an older one, restart it"),
    }
}
