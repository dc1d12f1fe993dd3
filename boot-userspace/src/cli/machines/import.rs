//! `xpxe machines import`

use std::collections::HashSet;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::api::Api;
use super::{manifest, names};
use crate::cli::ConfigFile;

/// So many machines are one request.
const AT_ONCE: usize = 1000;

/// `xpxe machines import …`
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// JSON or CSV, as export prints them, or TOML with the keys of JSON
    #[arg(value_name = "FILE")]
    manifest: PathBuf,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: ConfigFile,
}

/// What is refused, in the order in which it is said.
struct Refused<'l> {
    list: &'l manifest::List,
    positions: HashSet<usize>,
    said: Vec<(String, String)>,
}

impl Refused<'_> {
    fn add(&mut self, position: usize, what: &str, error: &str) {
        let called = self.list.specs.get(position).map_or_else(String::new, names::called);
        eprintln!("xpxe: {called}: {what}: {error}");
        self.positions.insert(position);
        self.said.push((called, error.to_owned()));
    }
}

impl Import {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let Self { manifest, dry_run, json: as_json, file } = self;
        let list = manifest::read(&manifest)?;
        let mut api = Api::open(&file).await?;
        let (mut added, mut changed, mut unchanged) = (0, 0, 0);
        let mut refused = Refused { list: &list, positions: HashSet::new(), said: Vec::new() };
        for (position, what) in list.twice() {
            refused.add(position, "refused", &format!("{what} is twice in the list: write it once"));
        }
        let items = list.items()?.into_iter().enumerate();
        let (positions, items): (Vec<usize>, Vec<_>) =
            items.filter(|(position, _)| !refused.positions.contains(position)).unzip();
        let mut progress = Progress::of(items.len());
        for (positions, items) in positions.chunks(AT_ONCE).zip(items.chunks(AT_ONCE)) {
            let done = api.import(items, dry_run).await?;
            (added, changed, unchanged) =
                (added + done.added, changed + done.changed, unchanged + done.unchanged);
            progress.clear();
            for (position, error) in done.refused {
                let Some(position) = positions.get(position).copied() else { continue };
                refused.add(position, "refused", &error);
            }
            progress.add(items.len());
        }
        progress.clear();
        for (position, password) in list.passwords.iter().filter(|_| !dry_run) {
            let Some(spec) = list.specs.get(*position) else { continue };
            if refused.positions.contains(position) {
                continue;
            }
            if let Err(error) = api.put_password(&names::called(spec), password).await {
                refused.add(*position, "its password is refused", &format!("{error:#}"));
            }
        }
        let Refused { positions, said, .. } = refused;
        if as_json {
            let said: Vec<_> =
                said.iter().map(|(machine, error)| json!({"machine": machine, "error": error})).collect();
            let counts = json!({"added": added, "changed": changed, "unchanged": unchanged, "refused": said});
            println!("{counts}");
        } else {
            let (would, refused) = (if dry_run { "would have " } else { "" }, positions.len());
            println!("{would}added {added}, changed {changed}, unchanged {unchanged}, refused {refused}");
        }
        Ok(if positions.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// How far an import of several requests is, on a terminal.
struct Progress {
    all: usize,
    done: usize,
    is_shown: bool,
}

impl Progress {
    fn of(all: usize) -> Self {
        Self { all, done: 0, is_shown: all > AT_ONCE && stderr().is_terminal() }
    }

    fn add(&mut self, count: usize) {
        self.done += count;
        if self.is_shown {
            let percent = self.done.saturating_mul(100) / self.all.max(1);
            // A terminal that is gone is no reason to stop.
            write!(stderr(), "\r{} of {} machines, {percent} %", self.done, self.all).ok();
        }
    }

    fn clear(&self) {
        if self.is_shown {
            write!(stderr(), "\r\x1b[K").ok();
        }
    }
}
