//! `xpxe events`: what happens, as it happens.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Result, bail};
use axum::body::Body;
use axum::http::Method;

use crate::cli::boots::{clock, escaped};
use crate::cli::daemon_api::{Lines, read, refusal, request, running};
use crate::cli::{ConfigFile, configuration};
use crate::http::boots::{EVENTS, Line};

/// The flags.
#[derive(Debug, clap::Args)]
pub(super) struct Events {
    /// Go on until interrupted; earlier events are in the log and in xpxe boots
    #[arg(long, required = true)]
    follow: bool,
    /// Only events of this machine
    #[arg(long, value_name = "MAC|NAME|IP")]
    machine: Option<String>,
    /// Only events of machines with this label
    #[arg(short = 'l', long, value_name = "KEY=VALUE")]
    label: Option<String>,
    /// Print JSON, one event a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: ConfigFile,
}

impl Events {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let config = configuration::load(&self.file.config)?;
        let mut path = format!("{EVENTS}?");
        for (key, value) in [("machine", &self.machine), ("label", &self.label)] {
            if let Some(value) = value {
                path += &format!("{key}={}&", escaped(value));
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let answer = running(&config).await?.send(request(Method::GET, &path, "")?).await?;
            if !answer.status().is_success() {
                let (status, body) = read(answer).await?;
                return refusal(status, &body).map_or(Ok(ExitCode::SUCCESS), Err);
            }
            self.print(answer.into_body()).await
        })
    }

    async fn print(&self, body: Body) -> Result<ExitCode> {
        let (mut lines, mut out) = (Lines::of(body), std::io::stdout());
        while let Some(line) = lines.next().await? {
            // Whoever reads has left.
            if writeln!(out, "{}", self.text(line)).and_then(|()| out.flush()).is_err() {
                return Ok(ExitCode::SUCCESS);
            }
        }
        bail!("xpxe has ended")
    }

    fn text(&self, line: String) -> String {
        if self.json {
            return line;
        }
        let Ok(Line { at, mac, name, by, step, says, .. }) = serde_json::from_str(&line) else {
            return line;
        };
        let name = name.or(mac).unwrap_or_else(|| "-".to_owned());
        format!("{}  {name:<17}  {by:<6}  {step:<12}  {}", clock(at), says.unwrap_or_default())
    }
}
