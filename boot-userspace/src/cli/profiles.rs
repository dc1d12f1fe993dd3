//! `xpxe profiles`: what machines may boot, as the running daemon has it.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;

use crate::cli::ConfigFile;
use crate::cli::boots::escaped;
use crate::cli::daemon_api::ask;
use crate::cli::table;
use crate::http::catalog::{PROFILES, ShownProfile};

/// The verbs.
#[derive(Debug, clap::Args)]
pub(super) struct Profiles {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List every profile
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Show one profile with what it inherits
    Show {
        /// Its name
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
}

impl Profiles {
    pub(super) fn run(self) -> Result<ExitCode> {
        match self.verb {
            Verb::List { json, file } => {
                let answer = ask(&file, PROFILES)?;
                if json {
                    println!("{answer}");
                } else {
                    let all: Vec<ShownProfile> = serde_json::from_str(&answer)?;
                    table::print(["NAME", "BOOTS", "MACHINES", "INHERITS", "USED AS"], all.iter().map(row));
                }
            }
            Verb::Show { name, json, file } => {
                let answer = ask(&file, &format!("{PROFILES}/{}", escaped(&name)))?;
                if json {
                    println!("{answer}");
                } else {
                    print!("{}", whole(&serde_json::from_str(&answer)?));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(profile: &ShownProfile) -> [String; 5] {
    let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    [
        profile.name.clone(),
        or_none(boots(profile)),
        profile.machines.to_string(),
        or_none(profile.inherits.join(",")),
        or_none(roles(profile)),
    ]
}

fn boots(profile: &ShownProfile) -> String {
    match &profile.kernel {
        Some(kernel) if profile.kind == "kernel" => kernel.clone(),
        Some(kernel) => format!("{} {kernel}", profile.kind),
        None if profile.menu.is_empty() => String::new(),
        None => format!("menu {}", profile.menu.join(",")),
    }
}

/// What it is for.
fn roles(profile: &ShownProfile) -> String {
    let default = profile.is_default.then(|| "default".to_owned());
    let groups = profile.groups.iter().map(|group| format!("group {}", group.name));
    default.into_iter().chain(profile.lifecycle.iter().cloned()).chain(groups).collect::<Vec<_>>().join(", ")
}

fn whole(profile: &ShownProfile) -> String {
    let mut text = format!("{}\n", profile.name);
    let mut line = |what: &str, value: &str| {
        if !value.is_empty() {
            text += &format!("  {what:<10} {value}\n");
        }
    };
    line("inherits", &profile.inherits.join(", "));
    line("boots", &boots(profile));
    profile.initrd.iter().for_each(|initrd| line("initrd", initrd));
    line("args", &profile.args);
    for (arch, on) in &profile.arch {
        line(arch, &format!("{} {}", on.kernel, on.args));
        on.initrd.iter().for_each(|initrd| line("", &format!("initrd {initrd}")));
    }
    line("template", profile.template.as_deref().unwrap_or_default());
    line("boot file", profile.boot_file.as_deref().unwrap_or_default());
    line("documents", &profile.documents.join(", "));
    if profile.is_default {
        line("default", "machines boot it that have no other profile");
    }
    line("lifecycle", &profile.lifecycle.join(", "));
    for group in &profile.groups {
        line("group", &format!("{}: {}", group.name, group.matches));
    }
    line("machines", &profile.machines.to_string());
    text
}
