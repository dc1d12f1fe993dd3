//! `xpxe leases`: through the running daemon or, without one, on its store by the daemon's own rules.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, StatusCode};
use clap::Subcommand;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::ConfigFile;
use crate::cli::configuration;
use crate::cli::daemon_api::{self, DaemonApi};
use crate::cli::lease_files::{self, Format, Source};
use crate::cli::table;
use crate::daemon::{Daemon, log};
use crate::files::percent;
use crate::host::clock;
use crate::host::clock::now;
use crate::host::lock::with_pid;
use crate::host::size::human_size;
use crate::http::admin::{self, Problem};
use crate::http::leases::{self, ImportResult, LEASES, Lease};
use crate::store::{self, Copy, Store, StoreError};
use boot_engine::Engine;
use boot_engine::config::Config;
use boot_engine::leases::Which;
use boot_engine::machines::Machines;
use boot_engine::policy::Policy;

/// `xpxe leases …`
#[derive(Debug, clap::Args)]
pub struct Leases {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List every address that a machine has or that is on hold
    List {
        #[command(flatten)]
        selected: Selected,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Show every lease of a machine, or the machine that has an address
    Show {
        /// A machine's MAC address or an IP address
        #[arg(value_name = "MAC|IP")]
        which: Which,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// End the lease of an address, or every lease of a machine; frees an address on hold
    Delete {
        /// A machine's MAC address or an IP address
        #[arg(value_name = "MAC|IP")]
        which: Which,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Import the leases of another server; the exit status is 1 if one cannot be read or is refused
    Import {
        /// The other server's lease file
        #[arg(value_name = "FILE")]
        leases: PathBuf,
        /// The format of the file
        #[arg(long, value_enum, default_value = "auto")]
        format: Format,
        /// Report the result of the import, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Import nothing unless every lease can be imported
        #[arg(long)]
        strict: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
}

/// Which leases.
#[derive(Debug, Default, clap::Args)]
struct Selected {
    /// Those in these states, with commas between them: offered, leased, released, reserved, resting
    #[arg(long, value_name = "STATES")]
    state: Option<String>,
    /// Those in this network
    #[arg(long, value_name = "CIDR")]
    subnet: Option<String>,
    /// Those of this machine
    #[arg(long, value_name = "MAC|NAME")]
    machine: Option<String>,
}

impl Selected {
    fn path(&self) -> String {
        let given = [("state", &self.state), ("subnet", &self.subnet), ("machine", &self.machine)];
        let given = given.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        let queries: Vec<String> =
            given.map(|(key, value)| format!("{key}={}", percent::encode(value))).collect();
        if queries.is_empty() { LEASES.to_owned() } else { format!("{LEASES}?{}", queries.join("&")) }
    }
}

impl Leases {
    pub(super) fn run(self) -> Result<ExitCode> {
        self.run_with_warnings(std::io::stderr)
    }

    /// Without a daemon this process opens the store, and prints its warnings about lost leases.
    fn run_with_warnings(self, to: impl for<'w> MakeWriter<'w> + Send + Sync + 'static) -> Result<ExitCode> {
        let _warnings = tracing::subscriber::set_default(log::warnings(to));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.verb.run())
    }
}

impl Verb {
    async fn run(self) -> Result<ExitCode> {
        match self {
            Self::List { selected, json, file } => {
                let mut api = Api::open(&file, Purpose::Look).await?;
                let leases = api.call(Method::GET, &selected.path(), "").await?;
                print(&leases, json, serde_json::from_str(&leases)?);
            }
            Self::Show { which, json, file } => {
                let path = format!("{LEASES}/{which}");
                let leases = Api::open(&file, Purpose::Look).await?.call(Method::GET, &path, "").await?;
                print(&leases, json, serde_json::from_str(&leases)?);
            }
            Self::Delete { which, file } => {
                let path = format!("{LEASES}/{which}");
                let leases = Api::open(&file, Purpose::Change).await?.call(Method::DELETE, &path, "").await?;
                let leases: Vec<Lease> = serde_json::from_str(&leases)?;
                for Lease { mac, address, state, .. } in leases {
                    match state.as_str() {
                        "resting" => println!("ended the hold on {address}"),
                        _ => println!("deleted the lease of {address} to {mac}"),
                    }
                }
            }
            Self::Import { leases, format, dry_run, strict, file } => {
                return import(&leases, format, How { dry_run, strict }, &file).await;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// How an import goes.
#[derive(Clone, Copy)]
struct How {
    dry_run: bool,
    strict: bool,
}

async fn import(path: &Path, format: Format, how: How, file: &ConfigFile) -> Result<ExitCode> {
    let name = path.display();
    let source = Source::read(path, format);
    let source =
        source.map_err(|(path, error)| anyhow!(error).context(format!("cannot read {}", path.display())))?;
    let config = configuration(file)?;
    let parsed = lease_files::parse(&source, format, &config.subnets, clock::wall().as_secs());
    let parsed = parsed.map_err(|wrong| anyhow!("{name}: {wrong}"))?;
    let (places, leases): (Vec<_>, Vec<_>) = parsed.leases.into_iter().unzip();
    let purpose = if how.dry_run { Purpose::Look } else { Purpose::Import };
    let mut api = Api::open(file, purpose).await?;
    let body = serde_json::to_string(&leases)?;
    let mut dry_run = how.dry_run || how.strict;
    let mut results = posted(&mut api, dry_run, &body).await?;
    let (known, reserved): (Vec<_>, Vec<_>) =
        parsed.reservations.iter().partition(|(_, reservation)| reservation.is_in(&config));
    let is_well = |results: &[ImportResult]| {
        parsed.bad.is_empty() && reserved.is_empty() && results.iter().all(|result| result.reason.is_none())
    };
    if dry_run && !how.dry_run && is_well(&results) {
        dry_run = false;
        results = posted(&mut api, dry_run, &body).await?;
    }
    for (place, why) in &parsed.bad {
        println!("{place}: unreadable: {why}");
    }
    for (place, why) in &parsed.skipped {
        println!("{place}: skipped: {why}");
    }
    for (place, result) in places.iter().zip(&results) {
        if let Some(why) = &result.reason {
            println!("{place}: refused: {why}");
        }
    }
    for (place, reservation) in &known {
        println!("{place}: skipped: {} is in the configuration already", reservation.label);
    }
    for (place, reservation) in &reserved {
        let says = "is a reservation, which is no lease: write the [[machine]] below into the configuration";
        println!("{place}: refused: {} {says}", reservation.label);
    }
    let count = |outcome: &str| results.iter().filter(|result| result.outcome == outcome).count();
    let (imported, unchanged, refused) =
        (count("imported"), count("unchanged"), count("refused") + reserved.len());
    let verb = if dry_run { "would import" } else { "imported" };
    let skipped = parsed.skipped.len() + known.len();
    let unreadable = match parsed.bad.len() {
        0 => String::new(),
        bad => format!(", unreadable {bad}"),
    };
    println!("{verb} {imported}, unchanged {unchanged}, skipped {skipped}, refused {refused}{unreadable}");
    for (_, reservation) in &reserved {
        print!("\n{reservation}");
    }
    Ok(if is_well(&results) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A daemon may run without a configuration file.
fn configuration(file: &ConfigFile) -> Result<Config> {
    if file.config == Path::new(super::CONFIG) && !file.config.exists() {
        return Ok(Config::empty());
    }
    Ok(configuration::load(&file.config)?)
}

async fn posted(api: &mut Api, dry_run: bool, body: &str) -> Result<Vec<ImportResult>> {
    let path = format!("{LEASES}?dry_run={dry_run}");
    let results = api.call(Method::POST, &path, body.to_owned()).await?;
    Ok(serde_json::from_str(&results)?)
}

/// Prints the daemon's answer, as JSON or as a table.
fn print(answer: &str, json: bool, leases: Vec<Lease>) {
    if json {
        println!("{answer}");
        return;
    }
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows = leases.into_iter().map(|lease| {
        let hold = lease.hold_cause.unwrap_or_default();
        [
            lease.address.to_string(),
            lease.mac,
            or_none(lease.name),
            lease.state,
            or_none(lease.expires_at),
            hold,
        ]
    });
    table::print(["ADDRESS", "MAC", "NAME", "STATE", "EXPIRES", "HOLD"], rows);
}

/// The purpose of a command; it matters if no daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Look,
    Change,
    /// A change that may come before xpxe has ever run.
    Import,
}

/// The answering side of the API.
enum Api {
    /// The daemon.
    Daemon(DaemonApi),
    /// Without a running daemon: one in this process, without sockets and kernel half, on the store, or on a copy of it
    /// where nothing is to be changed.
    Store { router: Router, _copy: Option<Copy> },
}

impl Api {
    async fn open(file: &ConfigFile, purpose: Purpose) -> Result<Self> {
        let config = configuration(file)?;
        if let Some(daemon) = DaemonApi::open(&admin::socket(&config.state_dir)).await? {
            return Ok(Self::Daemon(daemon));
        }
        Self::stored(config, purpose).await
    }

    async fn stored(config: Config, purpose: Purpose) -> Result<Self> {
        if purpose != Purpose::Import && !config.state_dir.exists() {
            bail!("there is no {}: xpxe has not run with this configuration yet", config.state_dir.display());
        }
        if purpose != Purpose::Look && config.pin_dir.exists() {
            eprintln!(
                "xpxe: pinned kernel programs keep answering as before until xpxe is started or detached (xpxe detach)"
            );
        }
        let only_looks = purpose == Purpose::Look;
        let take = if only_looks { store::lock_to_copy } else { store::lock };
        let lock = take(&config.state_dir).map_err(|error| match error {
            StoreError::InUse { pid, .. } => anyhow!(
                "xpxe{} runs, and does not answer on {}: it starts or ends, or the socket was deleted; try again, or restart xpxe",
                with_pid(pid),
                admin::socket(&config.state_dir).display()
            ),
            other => other.into(),
        })?;
        eprintln!("xpxe: the daemon is not running: this is its store in {}", config.state_dir.display());
        let (store, copy) = if only_looks {
            let copy = Copy::of(&config.state_dir, lock).await?;
            (copy.store.clone(), Some(copy))
        } else {
            (Store::open_alone(&config.state_dir, lock).await?, None)
        };
        let leases = store.leases().await?;
        let machines = Machines::new(config.machines.iter().cloned())?;
        let policy = Policy::new(config, machines, Vec::new(), |_| Err(String::new()));
        let engine = Engine::new(policy, &leases, now());
        let daemon = Daemon::new(engine, store, HashSet::new(), None, log::events());
        let router = leases::router(daemon.asks()).into();
        tokio::spawn(daemon.run(Vec::new(), None));
        Ok(Self::Store { router, _copy: copy })
    }

    /// The answer's body; a refusal is an error with the reason that the API gives.
    async fn call(&mut self, method: Method, path: &str, body: impl Into<Body>) -> Result<String> {
        let request = daemon_api::request(method, path, body)?;
        let answer = match self {
            Self::Daemon(daemon) => daemon.send(request).await?,
            Self::Store { router, .. } => TowerToHyperService::new(router.clone()).call(request).await?,
        };
        let (status, body) = daemon_api::read(answer).await?;
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_str(&body) {
            Ok(Problem { error }) => bail!(error),
            Err(_) if status == StatusCode::PAYLOAD_TOO_LARGE => bail!(
                "these are too many leases for one import, which may have {}: split the lease file",
                human_size(leases::LARGEST_IMPORT as u64)
            ),
            Err(_) => bail!("the daemon answered {status}: {body}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Seek as _};

    use super::*;

    /// The warnings of a verb with this store.
    fn warned(database: &[u8], verb: impl FnOnce(ConfigFile) -> Verb) -> String {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("state");
        fs::create_dir(&state_dir).unwrap();
        fs::write(state_dir.join("xpxe.db"), database).unwrap();
        let config = dir.path().join("xpxe.toml");
        let text = format!("state_dir = {state_dir:?}\n[[interface]]\nname = 'eth1'\ndhcp = 'proxy'\n");
        fs::write(&config, text).unwrap();
        let mut log = tempfile::tempfile().unwrap();
        // The verb's result does not matter here.
        Leases { verb: verb(ConfigFile { config }) }.run_with_warnings(log.try_clone().unwrap()).ok();
        let mut said = String::new();
        log.rewind().unwrap();
        log.read_to_string(&mut said).unwrap();
        said
    }

    #[test]
    fn a_store_that_has_lost_its_leases_is_said_to_have() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { Store::open(dir.path()).await.unwrap().close().await });
        let whole = fs::read(dir.path().join("xpxe.db")).unwrap();
        let list = |file| Verb::List { selected: Selected::default(), json: true, file };
        let show = |file| Verb::Show { which: "10.1.1.1".parse().unwrap(), json: true, file };
        for said in [warned(&whole, list), warned(&whole, show)] {
            assert_eq!(said, "");
        }
        for said in [warned(b"", list), warned(b"", show)] {
            assert!(said.contains("xpxe.db was there and is empty"), "{said:?}");
        }
    }
}
