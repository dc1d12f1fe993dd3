//! `xpxe reload`: has the running daemon read its configuration anew.

use std::process::ExitCode;

use anyhow::{Result, bail};
use axum::http::{Method, StatusCode};

use crate::cli::daemon_api::{self, DaemonApi};
use crate::cli::{ConfigFile, configuration};
use crate::http::admin::{self, NotReloaded, Problem, RELOAD, Reloaded};

/// The flags.
#[derive(Debug, clap::Args)]
pub(super) struct Reload {
    #[command(flatten)]
    file: ConfigFile,
}

impl Reload {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.reload())
    }

    async fn reload(&self) -> Result<ExitCode> {
        // The daemon reads its own file; this one only says where its socket is, so it may be broken.
        let state_dir = configuration::state_dir(&self.file.config)?;
        let Some(mut daemon) = DaemonApi::open(&admin::socket(&state_dir)).await? else {
            // Without its mistakes, the file may name another socket.
            if let Err(problems) = configuration::load(&self.file.config) {
                println!("{problems}");
            }
            bail!(
                "{}. Without the socket SIGHUP has it reload (systemctl reload xpxe), and the log says what has changed",
                daemon_api::absence(&state_dir)
            );
        };
        let answer = daemon.send(daemon_api::request(Method::POST, RELOAD, "")?).await?;
        let (status, body) = daemon_api::read(answer).await?;
        match status {
            StatusCode::OK => {
                print(&serde_json::from_str(&body)?);
                Ok(ExitCode::SUCCESS)
            }
            StatusCode::UNPROCESSABLE_ENTITY => {
                let NotReloaded { errors } = serde_json::from_str(&body)?;
                errors.iter().for_each(|error| println!("{error}"));
                eprintln!("xpxe: not reloaded: the daemon keeps the running configuration");
                Ok(ExitCode::FAILURE)
            }
            StatusCode::NOT_FOUND => {
                bail!("the xpxe that is running is an older one, which cannot reload: restart it")
            }
            _ => match serde_json::from_str(&body) {
                Ok(Problem { error }) => bail!(error),
                Err(_) => bail!("the daemon answered {status}: {body}"),
            },
        }
    }
}

fn print(Reloaded { changed, waiting, not_served }: &Reloaded) {
    if changed.is_empty() {
        println!("nothing that is served has changed");
    }
    changed.iter().for_each(|change| println!("{change}"));
    for key in waiting {
        println!("waits for a restart of xpxe: {key}");
    }
    for machine in not_served {
        println!("not served any more: {machine}");
    }
}
