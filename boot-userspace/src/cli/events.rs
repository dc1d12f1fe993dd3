//! `xpxe events`: what happens, as it happens.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Result, bail};
use axum::body::Body;
use axum::http::Method;
use hyper::body::Body as _;

use crate::cli::boots::{clock, escaped};
use crate::cli::daemon_api::{read, refusal, request, running};
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

    async fn print(&self, mut body: Body) -> Result<ExitCode> {
        let mut rest = Vec::new();
        let mut out = std::io::stdout();
        loop {
            let frame =
                std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await;
            let Some(frame) = frame else { bail!("xpxe has ended") };
            let Ok(bytes) = frame?.into_data() else { continue };
            rest.extend_from_slice(&bytes);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let Some(text) = self.text(line.trim_ascii()) else { continue };
                // Whoever reads has left.
                if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
    }

    fn text(&self, line: &[u8]) -> Option<String> {
        if line.is_empty() {
            return None;
        }
        let text = String::from_utf8_lossy(line).into_owned();
        if self.json {
            return Some(text);
        }
        let Ok(Line { at, mac, name, by, step, says, .. }) = serde_json::from_slice(line) else {
            return Some(text);
        };
        let name = name.or(mac).unwrap_or_else(|| "-".to_owned());
        Some(format!("{}  {name:<17}  {by:<6}  {step:<12}  {}", clock(at), says.unwrap_or_default()))
    }
}
