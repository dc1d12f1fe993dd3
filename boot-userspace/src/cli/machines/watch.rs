//! `xpxe machines list --watch`: the machines, and then what becomes of them.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::sleep;

use super::api::Api;
use super::{Selected, show};
use crate::cli::ConfigFile;
use crate::cli::daemon_api::Lines;
use crate::cli::table::Table;
use crate::http::machines::{Gone, Line, Machine};

/// How long xpxe may take to answer again before it is asked once more.
const AGAIN: Duration = Duration::from_secs(1);

/// What people see.
struct Seen {
    table: Table<8>,
    /// How the machines of the registry are called that are shown, by their numbers.
    called: HashMap<u64, String>,
}

/// Goes on until interrupted, also over a restart of xpxe.
pub(super) async fn run(selected: &Selected, json: bool, file: &ConfigFile) -> Result<ExitCode> {
    let mut watch = Watch { selected, json, file, has_begun: false, is_lost: false };
    loop {
        let Err(error) = watch.follow().await else { continue };
        // What is wrong from the beginning does not pass.
        if !watch.has_begun {
            return Err(error);
        }
        if !std::mem::replace(&mut watch.is_lost, true) {
            eprintln!("xpxe: {error:#}; the machines are listed again when it answers");
        }
        sleep(AGAIN).await;
    }
}

struct Watch<'w> {
    selected: &'w Selected,
    json: bool,
    file: &'w ConfigFile,
    has_begun: bool,
    /// xpxe has ended, or does not answer.
    is_lost: bool,
}

impl Watch<'_> {
    /// Lists the machines, and tells what becomes of them until that list is no longer true.
    async fn follow(&mut self) -> Result<()> {
        let mut api = Api::open(self.file).await?;
        let (machines, from) = api.list_with_begin(self.selected).await?;
        let revision = from.revision;
        let mut lines = Lines::of(api.follow(self.selected, from).await?);
        self.has_begun = true;
        // It may have been started with another configuration, so this is as after a reload.
        if std::mem::replace(&mut self.is_lost, false) {
            let line = Line { revision, reloaded: true, ..Line::default() };
            match self.json {
                true => println!("{}", serde_json::to_string(&line)?),
                false => println!("xpxe answers again; the machines are:"),
            }
        }
        let mut seen = begin(machines, revision, self.json)?;
        while let Some(text) = lines.next().await? {
            let line: Line = serde_json::from_str(&text)?;
            if let Some(error) = &line.error {
                bail!("{error}");
            }
            match &mut seen {
                None => println!("{text}"),
                Some(seen) => seen.tell(&line),
            }
            if line.reloaded {
                return Ok(());
            }
        }
        bail!("xpxe has ended")
    }
}

fn begin(machines: Vec<Machine>, revision: u64, json: bool) -> Result<Option<Seen>> {
    if json {
        for machine in machines {
            let line = Line { revision, machine: Some(Box::new(machine)), ..Line::default() };
            println!("{}", serde_json::to_string(&line)?);
        }
        return Ok(None);
    }
    let table = show::list(&machines);
    let called = machines.iter().filter_map(|machine| Some((machine.id?, show::called(machine)))).collect();
    Ok(Some(Seen { table, called }))
}

impl Seen {
    fn tell(&mut self, line: &Line) {
        let Line { machine, gone, reloaded, .. } = line;
        if let Some(machine) = machine {
            self.called.extend(machine.id.map(|id| (id, show::called(machine))));
            println!("{}", self.table.line(&show::row(machine)));
        }
        // The API also tells of machines that were never among those that are shown.
        if let Some(Gone { id, deleted, .. }) = gone
            && let Some(called) = self.called.remove(id)
        {
            let what = if *deleted { "deleted" } else { "not selected any more" };
            let row = [called, what.to_owned()].into_iter().chain(std::iter::repeat_n("-".to_owned(), 6));
            let row: Vec<String> = row.collect();
            if let Ok(row) = <[String; 8]>::try_from(row) {
                println!("{}", self.table.line(&row));
            }
        }
        if *reloaded {
            println!("the configuration was read anew; the machines are:");
        }
    }
}
