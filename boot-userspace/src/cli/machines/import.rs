//! `xpxe machines import`

use std::collections::HashSet;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::api::Api;
use super::{manifest, names};
use crate::cli::ConfigFile;

/// So many machines are one request at most,
const AT_ONCE: usize = 1000;
/// and so many bytes: the daemon takes 4 MiB.
const MOST_BYTES: usize = 3 << 20;
/// Of a program that an interrupt has ended, as shells have it.
const INTERRUPTED: u8 = 130;

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

impl Import {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let Self { manifest, dry_run, json: as_json, file } = self;
        let list = manifest::read(&manifest)?;
        let mut api = Api::open(&file).await?;
        let mut done = Done::of(&list);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let ended = tokio::select! {
            ended = done.send(&mut api, dry_run) => Some(ended),
            _ = interrupt.recv() => None,
        };
        done.progress.clear();
        let so_far = format!("{}; the same import again does the rest", done.progress.text());
        match ended {
            Some(Err(error)) if done.progress.done == 0 => Err(error),
            Some(Err(error)) => {
                done.print(as_json, dry_run);
                Err(error.context(so_far))
            }
            None => {
                done.print(as_json, dry_run);
                eprintln!("xpxe: interrupted: {so_far}");
                Ok(ExitCode::from(INTERRUPTED))
            }
            Some(Ok(())) => {
                done.print(as_json, dry_run);
                Ok(if done.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
        }
    }
}

/// What has become of a list so far.
struct Done<'l> {
    list: &'l manifest::List,
    added: usize,
    changed: usize,
    unchanged: usize,
    /// Those that the configuration has, as they are.
    configured: usize,
    /// The positions of those that are refused.
    refused: HashSet<usize>,
    /// Why, in the order in which it is said.
    said: Vec<(String, String)>,
    progress: Progress,
}

impl<'l> Done<'l> {
    fn of(list: &'l manifest::List) -> Self {
        Self {
            list,
            added: 0,
            changed: 0,
            unchanged: 0,
            configured: 0,
            refused: HashSet::new(),
            said: Vec::new(),
            progress: Progress { all: list.specs.len(), done: 0, is_shown: false },
        }
    }

    async fn send(&mut self, api: &mut Api, dry_run: bool) -> Result<()> {
        for (position, what) in self.list.twice() {
            self.refuse(position, "refused", &format!("{what} is twice in the list: write it once"));
        }
        let (mut positions, mut items) = (Vec::new(), Vec::new());
        for (position, item) in self.list.items()?.into_iter().enumerate() {
            if !self.refused.contains(&position) {
                positions.push(position);
                items.push(serde_json::to_string(&item)?);
            }
        }
        let requests = requests(&items);
        self.progress = Progress::of(items.len(), requests.len());
        let mut first = 0;
        for items in requests {
            let done = api.import(items, dry_run).await?;
            self.added += done.added;
            self.changed += done.changed;
            self.unchanged += done.unchanged;
            self.configured += done.configured;
            self.progress.clear();
            for (position, error) in done.refused {
                let Some(position) = positions.get(first + position).copied() else { continue };
                self.refuse(position, "refused", &error);
            }
            self.progress.add(items.len());
            first += items.len();
        }
        self.progress.clear();
        let list = self.list;
        for (position, password) in list.passwords.iter().filter(|_| !dry_run) {
            let Some(spec) = list.specs.get(*position) else { continue };
            if self.refused.contains(position) {
                continue;
            }
            if let Err(error) = api.put_password(&names::called(spec), password).await {
                self.refuse(*position, "its password is refused", &format!("{error:#}"));
            }
        }
        Ok(())
    }

    fn refuse(&mut self, position: usize, what: &str, error: &str) {
        let called = self.list.specs.get(position).map(names::called).filter(|called| !called.is_empty());
        let called = called.unwrap_or_else(|| format!("machine {}", position + 1));
        eprintln!("xpxe: {called}: {what}: {error}");
        self.refused.insert(position);
        self.said.push((called, error.to_owned()));
    }

    fn print(&self, as_json: bool, dry_run: bool) {
        let Self { added, changed, unchanged, configured, refused, said, .. } = self;
        if as_json {
            let said: Vec<_> =
                said.iter().map(|(machine, error)| json!({"machine": machine, "error": error})).collect();
            let counts = json!({
                "added": added,
                "changed": changed,
                "unchanged": unchanged,
                "configured": configured,
                "refused": said,
            });
            println!("{counts}");
        } else {
            let (would, refused) = (if dry_run { "would have " } else { "" }, refused.len());
            let configured = match configured {
                0 => String::new(),
                1 => "; 1 machine is the configuration's already".to_owned(),
                count => format!("; {count} machines are the configuration's already"),
            };
            println!(
                "{would}added {added}, changed {changed}, unchanged {unchanged}, refused {refused}{configured}"
            );
        }
    }
}

/// The requests that these machines make.
fn requests(mut rest: &[String]) -> Vec<&[String]> {
    let mut requests = Vec::new();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |item: &&String| {
            bytes += item.len() + 1;
            bytes <= MOST_BYTES
        };
        // One that alone is too long is for the daemon to refuse.
        let count = rest.iter().take(AT_ONCE).take_while(fits).count().max(1);
        let (request, behind) = rest.split_at(count);
        requests.push(request);
        rest = behind;
    }
    requests
}

/// How far an import of several requests is, on a terminal.
struct Progress {
    all: usize,
    done: usize,
    is_shown: bool,
}

impl Progress {
    fn of(all: usize, requests: usize) -> Self {
        Self { all, done: 0, is_shown: requests > 1 && stderr().is_terminal() }
    }

    fn add(&mut self, count: usize) {
        self.done += count;
        if self.is_shown {
            let percent = self.done.saturating_mul(100) / self.all.max(1);
            // A terminal that is gone is no reason to stop.
            write!(stderr(), "\r{}, {percent} %", self.text()).ok();
        }
    }

    fn text(&self) -> String {
        format!("{} of {} machines", self.done, self.all)
    }

    fn clear(&self) {
        if self.is_shown {
            write!(stderr(), "\r\x1b[K").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_neither_too_many_machines_nor_too_many_bytes() {
        let lengths = |items: &[String]| requests(items).into_iter().map(<[_]>::len).collect::<Vec<_>>();
        assert!(lengths(&[]).is_empty());
        assert_eq!(lengths(&vec!["{}".to_owned(); 2500]), [1000, 1000, 500]);
        let long = "x".repeat(4900);
        let counts = lengths(&vec![long; 1000]);
        assert_eq!(counts.iter().sum::<usize>(), 1000);
        assert!(counts.iter().all(|count| count * 4901 <= MOST_BYTES), "{counts:?}");
        let longer = "x".repeat(MOST_BYTES);
        assert_eq!(lengths(&["{}".to_owned(), longer, "{}".to_owned()]), [1, 1, 1]);
    }
}
