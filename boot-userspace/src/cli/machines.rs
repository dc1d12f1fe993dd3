//! `xpxe machines` and `xpxe status`: the registry of machines, through the running daemon.

mod ansible;
mod api;
mod fields;
mod import;
mod manifest;
mod names;
mod omni;
mod power;
mod show;
mod watch;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Subcommand, ValueEnum};

use crate::cli::ConfigFile;
use crate::http::machines::{Machine, Written};
use api::Api;
use fields::Fields;

/// `xpxe machines …`
#[derive(Debug, clap::Args)]
pub(super) struct Machines {
    #[command(subcommand)]
    verb: Verb,
}

/// `xpxe status`
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the machines, those of the configuration first
    List {
        #[command(flatten)]
        selected: Selected,
        /// Only machines that have shown no sign of themselves yet
        #[arg(long, conflicts_with = "watch")]
        never_seen: bool,
        /// Go on until interrupted, with a line for each machine that has changed
        #[arg(long)]
        watch: bool,
        /// Print JSON; with --watch an object a line, as the API has them
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Show one machine with its history
    Show {
        /// Its name, MAC address, UUID or number
        which: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Add a machine
    Add {
        #[command(flatten)]
        fields: Fields,
        /// Print the machine as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Change what is said of a machine; what is not named stays
    Set {
        /// Its name, MAC address, UUID or number
        which: String,
        #[command(flatten)]
        fields: Fields,
        /// Only if the machine still has this version
        #[arg(long)]
        version: Option<u64>,
        /// Print the machine as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Remove a machine; it is an unknown one from then on
    Delete(Ordered),
    /// Accept a machine: it is wiped, then it is ready; the opposite of ignore, too
    Accept(Ordered),
    /// Give a machine no answer any more
    Ignore(Ordered),
    /// Have a machine run its profile
    Allocate(Ordered),
    /// Take a machine back: it is wiped, then it is ready
    Release(Ordered),
    /// Wipe a machine, whatever it does now
    Wipe(Ordered),
    /// Install a machine anew
    Reinstall(Ordered),
    /// Leave a machine alone, with a reason for its console
    Maintain(Ordered),
    /// End the maintenance of a machine: it is what it was before
    Resume(Ordered),
    /// Switch machines on or off through their BMCs, or ask whether they are on
    Power(power::Power),
    /// Print the machines for other programs
    Export {
        #[command(flatten)]
        selected: Selected,
        /// The format
        #[arg(long, value_enum, default_value = "json")]
        format: Format,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Add the machines of a file, and change those that are there already; the exit status is 1 if one is refused
    Import(import::Import),
}

/// What means this machine, though a name or a number may be another one's.
fn by_number(machine: &Machine) -> String {
    format!("{BY_NUMBER}{}", machine.id.unwrap_or(0))
}

/// Before a number. No name has a colon.
const BY_NUMBER: &str = "id:";

/// Which machines.
#[derive(Debug, Default, clap::Args)]
struct Selected {
    /// Those with these labels: role=worker,rack
    #[arg(short = 'l', long = "selector", value_name = "LABELS")]
    labels: Option<String>,
    /// Those in these states, with commas between them
    #[arg(long, value_name = "STATES")]
    state: Option<String>,
}

/// Whom an order is for.
#[derive(Debug, clap::Args)]
struct Ordered {
    /// Names, MAC addresses, UUIDs or numbers (id:42)
    which: Vec<String>,
    #[command(flatten)]
    selected: Selected,
    /// Why: for the console of a machine under maintenance
    #[arg(long, default_value = "")]
    reason: String,
    /// Name the machines, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON: an object a line for each machine, with its state or why it is refused
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: ConfigFile,
}

/// What export prints.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// What import reads, with everything
    Json,
    /// What import reads: name, mac, uuid, ip, profile, labels
    Csv,
    /// An inventory, with a group for each label and each state
    Ansible,
    /// A file for file_sd_configs
    PrometheusSd,
    /// Labels by UUID for omnictl apply -f
    Omni,
}

impl Selected {
    /// Whether an order may go to what they select. Without a word in it, a selector selects every machine: no order is for
    /// all of them because a variable of a script was empty.
    fn check(&self, named: &[String]) -> Result<()> {
        if named.iter().any(|name| name.trim().is_empty()) {
            bail!(
                "one of the names is empty, and nothing is done: write names, MAC addresses, UUIDs or numbers (id:42)"
            );
        }
        if !named.is_empty() {
            return Ok(());
        }
        let given = [("-l", &self.labels), ("--state", &self.state)];
        if given.iter().all(|(_, words)| words.is_none()) {
            bail!("name machines, or select them by -l LABELS or --state STATES");
        }
        for (key, words) in given {
            let is_blank = |words: &String| words.split(',').all(|word| word.trim().is_empty());
            if words.as_ref().is_some_and(is_blank) {
                bail!("{key} is empty, and that would select every machine; say which ones, or leave it out");
            }
        }
        Ok(())
    }
}

impl Selected {
    /// The machines that are named, or else those that it selects: what means each, and how it is called. Those of the
    /// configuration have no number.
    async fn machines(&self, named: Vec<String>, api: &mut Api) -> Result<Vec<(String, String)>> {
        if named.is_empty() {
            let selected = api.list(self).await?.into_iter().map(|machine| {
                let called = show::called(&machine);
                (machine.id.map_or_else(|| called.clone(), |_| by_number(&machine)), called)
            });
            return Ok(selected.collect());
        }
        Ok(named.into_iter().map(|name| (name.clone(), name)).collect())
    }
}

impl Status {
    pub(super) fn run(self) -> Result<ExitCode> {
        block_on(async {
            let counted = Api::open(&self.file).await?.status().await?;
            if self.json {
                println!("{}", serde_json::to_string(&counted)?);
            } else {
                show::status(&counted);
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

impl Machines {
    pub(super) fn run(self) -> Result<ExitCode> {
        block_on(self.verb.run())
    }
}

fn block_on(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

impl Verb {
    async fn run(self) -> Result<ExitCode> {
        match self {
            Self::List { selected, watch: true, json, file, .. } => {
                return watch::run(&selected, json, &file).await;
            }
            Self::List { selected, never_seen, watch: false, json, file } => {
                let mut api = Api::open(&file).await?;
                let machines =
                    if never_seen { api.never_seen(&selected).await? } else { api.list(&selected).await? };
                if json {
                    println!("{}", serde_json::to_string(&machines)?);
                } else {
                    show::list(&machines);
                }
            }
            Self::Show { which, json, file } => {
                let machine = Api::open(&file).await?.show(&which).await?;
                if json {
                    println!("{}", serde_json::to_string(&machine)?);
                } else {
                    show::whole(&machine);
                }
            }
            Self::Add { fields, json, file } => {
                let (spec, password) = fields.of_new()?;
                let mut api = Api::open(&file).await?;
                let mut added = api.add(spec).await?;
                if let Some(password) = password {
                    added = api.put_password(&by_number(&added), &password).await?;
                }
                let said = || format!("added {}, which is {}", show::called(&added), show::state(&added));
                println!("{}", if json { serde_json::to_string(&added)? } else { said() });
            }
            Self::Set { which, fields, version, json, file } => {
                let mut api = Api::open(&file).await?;
                let Machine { mut spec, version: read, .. } = api.show(&which).await?;
                let password = fields.put_into(&mut spec)?;
                let mut changed = api.put(&which, Written { version: version.or(read), spec }).await?;
                if let Some(password) = password {
                    changed = api.put_password(&by_number(&changed), &password).await?;
                }
                let version = changed.version.unwrap_or(0);
                let said = || format!("changed {}: version {version}", show::called(&changed));
                println!("{}", if json { serde_json::to_string(&changed)? } else { said() });
            }
            Self::Delete(ordered) => return ordered.run(None).await,
            Self::Accept(ordered) => return ordered.run(Some("accept")).await,
            Self::Ignore(ordered) => return ordered.run(Some("ignore")).await,
            Self::Allocate(ordered) => return ordered.run(Some("allocate")).await,
            Self::Release(ordered) => return ordered.run(Some("release")).await,
            Self::Wipe(ordered) => return ordered.run(Some("wipe")).await,
            Self::Reinstall(ordered) => return ordered.run(Some("reinstall")).await,
            Self::Maintain(ordered) => return ordered.run(Some("maintain")).await,
            Self::Resume(ordered) => return ordered.run(Some("resume")).await,
            Self::Power(power) => return power.run().await,
            Self::Export { selected, format, file } => {
                let machines = Api::open(&file).await?.list(&selected).await?;
                let (unreadable, machines): (Vec<_>, Vec<_>) =
                    machines.into_iter().partition(Machine::is_unreadable);
                print!("{}", manifest::export(&machines, format)?);
                if !unreadable.is_empty() {
                    let left_out: Vec<_> = unreadable.iter().map(by_number).collect();
                    let left_out = left_out.join(", ");
                    eprintln!("xpxe: left out, since what is stored of them cannot be read: {left_out}");
                    return Ok(ExitCode::FAILURE);
                }
            }
            Self::Import(import) => return import.run().await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Ordered {
    /// Without an order, they are removed. Says of each what has become of it, and goes on behind one that is refused.
    async fn run(self, order: Option<&str>) -> Result<ExitCode> {
        let Self { which, selected, reason, dry_run, json, file } = self;
        selected.check(&which)?;
        let mut api = Api::open(&file).await?;
        let is_selected = which.is_empty();
        let verb = order.unwrap_or("delete");
        let mut are_well = true;
        for (which, called) in selected.machines(which, &mut api).await? {
            // Those of the configuration have no state.
            if is_selected && !which.starts_with(BY_NUMBER) {
                continue;
            }
            if dry_run {
                let called = show::called(&api.show(&which).await?);
                tell(json, &called, &format!("would {verb} {called}"), ("would", verb));
                continue;
            }
            let done = match order {
                Some(order) => api.order(&which, order, &reason).await,
                None => api.delete(&which).await,
            };
            match done {
                Ok(machine) => {
                    let state = if order.is_some() { show::state(&machine) } else { "deleted".to_owned() };
                    let called = show::called(&machine);
                    tell(json, &called, &format!("{called}: {state}"), ("state", &state));
                }
                Err(error) => {
                    are_well = false;
                    refuse(json, &called, &error);
                }
            }
        }
        Ok(if are_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// What has become of a machine: a line for people, or an object for programs.
fn tell(json: bool, called: &str, line: &str, (key, value): (&str, &str)) {
    match json {
        true => println!("{}", serde_json::json!({"machine": called, key: value})),
        false => println!("{line}"),
    }
}

fn refuse(json: bool, called: &str, error: &anyhow::Error) {
    match json {
        true => println!("{}", serde_json::json!({"machine": called, "error": format!("{error:#}")})),
        false => eprintln!("xpxe: {called}: {error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_for_every_machine_only_if_each_is_named() {
        let check = |labels: Option<&str>, state: Option<&str>| {
            let (labels, state) = (labels.map(str::to_owned), state.map(str::to_owned));
            Selected { labels, state }.check(&[]).map_err(|error| error.to_string())
        };
        assert_eq!(check(Some("role=worker"), None), Ok(()));
        assert_eq!(check(None, Some("ready,failed")), Ok(()));
        for (labels, state, says) in [
            (None, None, "name machines"),
            (Some(""), None, "-l is empty"),
            (Some(" , "), Some("failed"), "-l is empty"),
            (None, Some(""), "--state is empty"),
            (Some("role=worker"), Some(","), "--state is empty"),
        ] {
            let said = check(labels, state).unwrap_err();
            assert!(said.starts_with(says), "{said}");
        }
        let named = |names: &[&str]| {
            Selected::default().check(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert!(named(&["alice"]).is_ok());
        let said = named(&["alice", " "]).unwrap_err().to_string();
        assert!(said.starts_with("one of the names is empty"), "{said}");
    }
}
