//! `xpxe why`: one cause in plain words.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::ConfigFile;
use crate::cli::boots::{clock, date, escaped};
use crate::cli::daemon_api::ask;
use crate::http::boots::{ShownGroup, ShownMachine, WHY};

/// How many machines of a group are named.
const NAMED: usize = 12;

/// The flags.
#[derive(Debug, clap::Args)]
pub(super) struct Why {
    /// The machine
    #[arg(value_name = "MAC|NAME|IP", required_unless_present = "all", conflicts_with = "all")]
    machine: Option<String>,
    /// Every machine, grouped by cause, with what those of one cause share
    #[arg(long)]
    all: bool,
    /// Which boot: 1 is the last one, 2 the one before
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "all")]
    boot: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: ConfigFile,
}

impl Why {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let path = match &self.machine {
            Some(machine) => format!("{WHY}/{}?boot={}", escaped(machine), self.boot),
            None => WHY.to_owned(),
        };
        let answer = ask(&self.file, &path)?;
        if self.json {
            println!("{answer}");
        } else if self.machine.is_some() {
            print!("{}", told(&serde_json::from_str(&answer)?));
        } else {
            print!("{}", fleet(&serde_json::from_str::<Vec<ShownGroup>>(&answer)?));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn told(machine: &ShownMachine) -> String {
    let ShownMachine { mac, name, boot, boots, opened, verdict } = machine;
    let called = match (name, mac) {
        (Some(name), Some(mac)) => format!("{name} ({mac})"),
        (Some(one), None) | (None, Some(one)) => one.clone(),
        (None, None) => "the machine".to_owned(),
    };
    let which = match (boot, opened) {
        (Some(1), Some(opened)) => format!(", last boot, begun {}", date(*opened)),
        (Some(nth), Some(opened)) => format!(", boot {nth} of {boots}, begun {}", date(*opened)),
        _ => String::new(),
    };
    let mut text = format!("{called}{which}\n\n{}\n", verdict.says);
    text += &format!("  cause     {} ({}: {})\n", verdict.cause, verdict.sure, verdict.because);
    for (nth, evidence) in verdict.evidence.iter().enumerate() {
        let head = if nth == 0 { "evidence" } else { "" };
        text += &format!("  {head:<9} {}  {}\n", clock(evidence.at), evidence.says);
    }
    for (nth, line) in verdict.console.iter().enumerate() {
        let head = if nth == 0 { "console" } else { "" };
        text += &format!("  {head:<9} {line}\n");
    }
    if !verdict.remedy.is_empty() {
        text += &format!("  to do     {}\n  more      {}\n", verdict.remedy, verdict.page);
    }
    text
}

fn fleet(groups: &[ShownGroup]) -> String {
    if groups.is_empty() {
        return "No machine has asked to boot, and none is in the configuration.\n".to_owned();
    }
    let mut text = String::new();
    for group in groups {
        let ShownGroup { cause, says, remedy, count, since, shared, machines } = group;
        let word = if *count == 1 { "machine" } else { "machines" };
        text += &format!("{count} {word}: {cause}, since {}\n  {says}\n", date(*since));
        for share in shared {
            let (kind, value) = (&share.kind, &share.value);
            text += &format!("  {count} of the {} machines with {kind} {value}\n", share.of);
        }
        let named: Vec<&str> = machines.iter().take(NAMED).map(String::as_str).collect();
        let more = if machines.len() > NAMED {
            format!(" and {} more", machines.len() - NAMED)
        } else {
            String::new()
        };
        text += &format!("  {}{more}\n", named.join(", "));
        if !remedy.is_empty() {
            text += &format!("  to do: {remedy}\n");
        }
        text.push('\n');
    }
    text
}
