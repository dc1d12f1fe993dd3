//! `xpxe explain`: what a machine gets, and why.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use axum::http::Method;

use crate::cli::boots::escaped;
use crate::cli::daemon_api::{self, DaemonApi};
use crate::cli::{ConfigFile, configuration};
use crate::files::BootFiles;
use crate::http::admin;
use crate::http::leases::{LEASES, Lease};
use crate::http::machines::{MACHINES, Machine};
use crate::store;
use boot_engine::config::{self, Config};
use boot_engine::explain::{Row, Who, explain};
use boot_engine::lifecycle::State;
use boot_engine::policy::loaders;

/// The flags.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// The machine
    #[arg(value_name = "MAC|NAME")]
    machine: Who,
    #[command(flatten)]
    file: ConfigFile,
}

impl Explain {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let path = &self.file.config;
        let read = |name: &str| configuration::text_file(path, name);
        let (config, origins) = config::parse_with_origins(&configuration::sources(path)?, &read)?;
        let config = Arc::new(config);
        let files = BootFiles::configured(&config);
        let loaders = loaders(|firmware| {
            files.loader_for(firmware).map(str::to_owned).map_err(|missing| missing.to_string())
        });
        let written = store::boot_parameters::read(&config.state_dir)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let registered = runtime.block_on(registered(&config, &self.machine)).unwrap_or(None);
        let (config, stands) = match registered {
            Some(machine) => with_registered(config, &machine),
            None => (config, Vec::new()),
        };
        let mut rows = explain(&config, &origins, &self.machine, &loaders, &written)?;
        // Behind the machine itself: what it boots by its state comes before what its profile says.
        rows.0.splice(1..1, stands);
        let leases = runtime.block_on(leases(&config));
        rows.0.extend(self.live(&config, leases));
        print!("{rows}");
        Ok(ExitCode::SUCCESS)
    }

    /// What the running daemon knows of the machine.
    fn live(&self, config: &Config, leases: Result<Option<Vec<Lease>>>) -> Vec<Row> {
        let row = |value: String, why: &str| Row { what: "lease".to_owned(), value, why: why.to_owned() };
        let leases = match leases {
            Ok(Some(leases)) => leases,
            Ok(None) => return vec![row("not known".to_owned(), &daemon_api::absence(&config.state_dir))],
            Err(error) => return vec![row("not known".to_owned(), &format!("{error:#}"))],
        };
        let is_its = |lease: &Lease| match &self.machine {
            Who::Mac(mac) => lease.mac == mac.to_string(),
            Who::Name(name) => {
                let is_named =
                    |own: &Option<String>| own.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name));
                let machine = config.machines.iter().find(|machine| is_named(&machine.name));
                let has_mac = machine
                    .is_some_and(|machine| machine.macs.iter().any(|mac| mac.to_string() == lease.mac));
                has_mac || is_named(&lease.name)
            }
        };
        let its: Vec<Row> = leases
            .iter()
            .filter(|lease| is_its(lease))
            .map(|Lease { mac, address, state, expires_at, name, .. }| {
                let until = expires_at.as_ref().map_or_else(String::new, |at| format!(" until {at}"));
                let name = name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
                row(format!("{address} of {mac}{name}, {state}{until}"), "the running xpxe")
            })
            .collect();
        if its.is_empty() { vec![row("none".to_owned(), "the running xpxe")] } else { its }
    }
}

/// The machine as the running daemon has it in its registry; nothing if it has none, or no daemon runs.
async fn registered(config: &Config, who: &Who) -> Result<Option<Machine>> {
    let Some(mut daemon) = DaemonApi::open(&admin::socket(&config.state_dir)).await? else { return Ok(None) };
    let which = match who {
        Who::Mac(mac) => mac.to_string(),
        Who::Name(name) => name.clone(),
    };
    let path = format!("{MACHINES}/{}", escaped(&which));
    let answer = daemon.send(daemon_api::request(Method::GET, &path, "")?).await?;
    let (status, body) = daemon_api::read(answer).await?;
    if !status.is_success() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str::<Machine>(&body)?).filter(|machine| machine.source == "registry"))
}

/// The configuration with a machine of the registry in it, and how that one stands.
fn with_registered(config: Arc<Config>, machine: &Machine) -> (Arc<Config>, Vec<Row>) {
    let Some(status) = &machine.status else { return (config, Vec::new()) };
    let row = |what: &str, value: String, why: String| Row { what: what.to_owned(), value, why };
    let overdue = if status.overdue { ", which is too long" } else { "" };
    let mut rows = vec![
        row("state", format!("{} since {}{overdue}", status.state, status.since_at), status.reason.clone()),
        row("waits", status.waits.clone(), "the registry of the running xpxe".to_owned()),
    ];
    rows.extend(status.not_served.iter().map(|why| row("not served", why.clone(), String::new())));
    let boots = match status.state {
        state if status.not_served.is_some() && !matches!(state, State::Running | State::Ignored) => {
            "nothing: it waits until its record is served"
        }
        State::Allocated | State::Installing => "its profile",
        State::Accepted | State::Released => "the agent, if there is one (agent in [lifecycle])",
        State::Running => "from its disk, or its profile if that is in live of [lifecycle]",
        State::Discovered => "the profile discovery of [lifecycle], or it waits",
        State::Ignored => "nothing: it gets no answer",
        State::Ready | State::Maintenance | State::Failed => "nothing: it waits",
    };
    rows.push(row("boots now", boots.to_owned(), "by its state".to_owned()));
    let own = machine.spec.check(&config).unwrap_or_else(|_| machine.spec.readable(&config));
    let mut config = (*config).clone();
    let inventory = machine.inventory.clone().map(Arc::new);
    config.machines.push(Arc::new(config::Machine { inventory, ..own }));
    (Arc::new(config), rows)
}

/// Every lease; nothing if no daemon runs.
async fn leases(config: &Config) -> Result<Option<Vec<Lease>>> {
    let Some(mut daemon) = DaemonApi::open(&admin::socket(&config.state_dir)).await? else { return Ok(None) };
    let answer = daemon.send(daemon_api::request(Method::GET, LEASES, "")?).await?;
    let (status, body) = daemon_api::read(answer).await?;
    anyhow::ensure!(status.is_success(), "the daemon answered {status}");
    Ok(Some(serde_json::from_str(&body)?))
}
