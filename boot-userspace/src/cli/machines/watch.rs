//! `xpxe machines list --watch`: the machines, and then what becomes of them.

use std::collections::HashMap;
use std::process::ExitCode;

use anyhow::{Result, bail};

use super::api::Api;
use super::{Selected, show};
use crate::cli::ConfigFile;
use crate::cli::daemon_api::Lines;
use crate::cli::table::Table;
use crate::http::machines::{Gone, Line, Machine};

/// What people see.
struct Seen {
    table: Table<8>,
    /// How the machines of the registry are called that are shown, by their numbers.
    called: HashMap<u64, String>,
}

/// Goes on until interrupted, or until the daemon ends.
pub(super) async fn run(selected: &Selected, json: bool, file: &ConfigFile) -> Result<ExitCode> {
    loop {
        let mut api = Api::open(file).await?;
        let (machines, revision) = api.list_with_revision(selected).await?;
        let mut seen = begin(machines, revision, json)?;
        let mut lines = Lines::of(api.follow(selected, revision).await?);
        // A list that is no longer true is made again.
        loop {
            let Some(text) = lines.next().await? else { bail!("xpxe has ended") };
            let line: Line = serde_json::from_str(&text)?;
            match &mut seen {
                None => println!("{text}"),
                Some(seen) => seen.tell(&line),
            }
            if line.reloaded {
                break;
            }
            if let Some(error) = line.error {
                bail!(error);
            }
        }
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
