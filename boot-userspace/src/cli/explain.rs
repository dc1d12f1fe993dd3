//! `xpxe explain`: what a machine gets, and why.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use axum::http::Method;

use crate::cli::daemon_api::{self, DaemonApi};
use crate::cli::{ConfigFile, configuration};
use crate::files::BootFiles;
use crate::http::admin::{self, LEASES, Lease};
use crate::store;
use boot_engine::config::{self, Config};
use boot_engine::explain::{Row, Who, explain};
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
        let mut rows = explain(&config, &origins, &self.machine, &loaders, &written)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
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

/// Every lease; nothing if no daemon runs.
async fn leases(config: &Config) -> Result<Option<Vec<Lease>>> {
    let Some(mut daemon) = DaemonApi::open(&admin::socket(&config.state_dir)).await? else { return Ok(None) };
    let answer = daemon.send(daemon_api::request(Method::GET, LEASES, "")?).await?;
    let (status, body) = daemon_api::read(answer).await?;
    anyhow::ensure!(status.is_success(), "the daemon answered {status}");
    Ok(Some(serde_json::from_str(&body)?))
}
