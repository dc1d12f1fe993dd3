//! `xpxe boots`: what happened to machines, step by step.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;

use crate::cli::ConfigFile;
use crate::cli::daemon_api::ask;
use crate::http::admin::rfc3339;
use crate::http::boots::{BOOTS, ShownBoot, ShownStep};

/// The verbs.
#[derive(Debug, clap::Args)]
pub(super) struct Boots {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the last boot of every machine, or of some
    List {
        #[command(flatten)]
        selected: Selected,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Show the steps of a machine's boots; the daemon keeps its last eight
    Show {
        /// The machine
        #[arg(value_name = "MAC|NAME|IP", value_parser = NonEmptyStringValueParser::new())]
        machine: String,
        /// Only this boot: 1 is the last one, 2 the one before
        #[arg(long, value_name = "N")]
        boot: Option<usize>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
}

/// Which boots.
#[derive(Debug, clap::Args)]
struct Selected {
    /// That of this machine
    #[arg(long, value_name = "MAC|NAME|IP")]
    machine: Option<String>,
    /// Those that are open, or over
    #[arg(long, value_name = "open|over")]
    state: Option<String>,
    /// Those with this cause, as xpxe why names it
    #[arg(long)]
    cause: Option<String>,
    /// Those with an address in this network
    #[arg(long, value_name = "CIDR")]
    subnet: Option<String>,
}

/// So many boots are asked for at once where only some are wanted.
const AT_ONCE: usize = 1000;

impl Selected {
    fn boots(&self, file: &ConfigFile) -> Result<Vec<ShownBoot>> {
        let Self { machine, state, cause, subnet } = self;
        let given = [("machine", machine), ("state", state), ("cause", cause), ("subnet", subnet)];
        let queries: Vec<String> = given
            .into_iter()
            .filter_map(|(key, value)| Some(format!("&{key}={}", escaped(value.as_ref()?))))
            .collect();
        if queries.is_empty() {
            return Ok(serde_json::from_str(&ask(file, BOOTS)?)?);
        }
        let (mut boots, mut after): (Vec<ShownBoot>, _) = (Vec::new(), String::new());
        loop {
            let path = format!("{BOOTS}?limit={AT_ONCE}{after}{}", queries.concat());
            let page: Vec<ShownBoot> = serde_json::from_str(&ask(file, &path)?)?;
            let is_last = page.len() < AT_ONCE;
            boots.extend(page);
            match boots.last() {
                Some(last) if !is_last => after = format!("&after={}", last.mac),
                _ => return Ok(boots),
            }
        }
    }
}

impl Boots {
    pub(super) fn run(self) -> Result<ExitCode> {
        match self.verb {
            Verb::List { selected, json, file } => {
                let boots = selected.boots(&file)?;
                if json {
                    println!("{}", serde_json::to_string(&boots)?);
                } else {
                    print!("{}", listed(&boots));
                }
            }
            Verb::Show { machine, boot, json, file } => {
                let answer = ask(&file, &format!("{BOOTS}/{}", escaped(&machine)))?;
                let boots: Vec<ShownBoot> = serde_json::from_str(&answer)?;
                let all = boots.len();
                let boots: Vec<(usize, ShownBoot)> =
                    (1..).zip(boots).filter(|(nth, _)| boot.is_none_or(|boot| boot == *nth)).collect();
                if boots.is_empty() {
                    anyhow::bail!("{all} boots of {machine} are known");
                }
                if json {
                    let boots: Vec<&ShownBoot> = boots.iter().map(|(_, boot)| boot).collect();
                    println!("{}", serde_json::to_string(&boots)?);
                } else {
                    // The last one at the end, where the eye is.
                    boots.iter().rev().for_each(|(nth, boot)| print!("{}", told(*nth, boot)));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A machine's name in a path: whatever is typed, it is one part of it.
pub(super) fn escaped(text: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:".contains(byte);
    text.bytes()
        .map(|byte| if is_plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A time of day: `14:02:07.123`, in UTC.
pub(super) fn clock(millis: u64) -> String {
    let text = rfc3339(millis / 1000);
    format!("{}.{:03}", text.get(11..19).unwrap_or_default(), millis % 1000)
}

/// A date and a time of day, in UTC.
pub(super) fn date(millis: u64) -> String {
    rfc3339(millis / 1000)
}

fn listed(boots: &[ShownBoot]) -> String {
    let mut text = String::new();
    for boot in boots {
        let ShownBoot { mac, name, opened, verdict, .. } = boot;
        let name = name.as_deref().unwrap_or("-");
        let cause = verdict.as_ref().map_or("-", |verdict| verdict.cause.as_str());
        text += &format!("{mac}  {name:<20} {}  {cause}\n", date(*opened));
    }
    text
}

fn told(nth: usize, boot: &ShownBoot) -> String {
    let ShownBoot { mac, name, interface, opened, steps, more, verdict, .. } = boot;
    let name = name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
    let on = interface.as_ref().map_or_else(String::new, |interface| format!(" on {interface}"));
    let mut text = format!("boot {nth} of {mac}{name}{on}, begun {}\n", date(*opened));
    for ShownStep { at, last, count, by, says, .. } in steps {
        // What was done with it may be before its first word.
        let (sign, after) = if at < opened { ('-', opened - at) } else { ('+', at - opened) };
        let times = if *count > 1 {
            format!(
                " ({count} times, until +{}.{:03} s)",
                last.saturating_sub(*opened) / 1000,
                last.saturating_sub(*opened) % 1000
            )
        } else {
            String::new()
        };
        text += &format!("  {sign}{:>4}.{:03} s  {by:<6}  {says}{times}\n", after / 1000, after % 1000);
    }
    if *more > 0 {
        text += &format!("  and {more} steps more\n");
    }
    if let Some(verdict) = verdict {
        text += &format!("  => {}: {}\n", verdict.cause, verdict.says);
    }
    text
}
