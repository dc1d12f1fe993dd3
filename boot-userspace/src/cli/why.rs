//! `xpxe why`: one cause in plain words.

use std::process::ExitCode;

use anyhow::Result;
use clap::builder::NonEmptyStringValueParser;

use crate::cli::ConfigFile;
use crate::cli::boots::{clock, date, escaped};
use crate::cli::daemon_api::ask;
use crate::http::boots::{ShownGroup, ShownMachine, WHY};
use boot_engine::diagnosis::Shared;

/// How many machines of a group are named.
const NAMED: usize = 12;

/// The flags.
#[derive(Debug, clap::Args)]
pub(super) struct Why {
    #[command(flatten)]
    whom: Whom,
    /// Which boot: 1 is the last one, 2 the one before
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "all")]
    boot: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: ConfigFile,
}

/// One machine, or all.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// The machine
    #[arg(value_name = "MAC|NAME|IP", value_parser = NonEmptyStringValueParser::new())]
    machine: Option<String>,
    /// Every machine, grouped by cause, with what those of one cause share
    #[arg(long)]
    all: bool,
}

impl Why {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let path = match &self.whom.machine {
            Some(machine) => format!("{WHY}/{}?boot={}", escaped(machine), self.boot),
            None => WHY.to_owned(),
        };
        let answer = ask(&self.file, &path)?;
        if self.json {
            println!("{answer}");
        } else if self.whom.machine.is_some() {
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
        let ShownGroup { cause, says, did, remedy, count, since, shared, machines } = group;
        let word = if *count == 1 { "machine" } else { "machines" };
        text += &format!("{count} {word}: {cause}, since {}\n  {says}\n", date(*since));
        for share in shared {
            let value = match &*share.kind {
                "card maker" => maker(&share.value).unwrap_or_else(|| share.value.clone()),
                _ => share.value.clone(),
            };
            let place = Shared::place(&share.kind, &value);
            text += &format!(
                "  {} of {} machines {place} {did} since {}\n",
                share.members,
                share.of,
                date(*since)
            );
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

/// Debian's package ieee-data, where it is installed.
const MAKERS: &str = "/usr/share/ieee-data/oui.txt";

/// Who makes cards whose MAC begins like this, if the list of makers is there.
fn maker(prefix: &str) -> Option<String> {
    named_in(&std::fs::read_to_string(MAKERS).ok()?, prefix).map(|name| format!("{name} ({prefix})"))
}

/// A line is `00163E     (base 16)\t\tXensource, Inc.`
fn named_in<'l>(list: &'l str, prefix: &str) -> Option<&'l str> {
    let wanted = prefix.replace(':', "").to_uppercase();
    let line = list.lines().find(|line| line.starts_with(&wanted) && line.contains("(base 16)"))?;
    Some(line.split_once("(base 16)")?.1.trim()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
