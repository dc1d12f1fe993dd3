//! `xpxe tokens`: who may use the API over TCP, and how much.

use std::process::ExitCode;

use anyhow::Result;
use axum::http::Method;
use clap::builder::NonEmptyStringValueParser;
use clap::{Subcommand, ValueEnum};

use crate::cli::ConfigFile;
use crate::cli::boots::escaped;
use crate::cli::daemon_api::{ask, send};
use crate::http::api::{self, NewToken, ShownToken, TOKENS, WantedToken};

/// The verbs.
#[derive(Debug, clap::Args)]
pub(super) struct Tokens {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a token and print it, this once
    Add {
        /// Whom or what it is for: letters, digits, -, _ and .
        name: String,
        /// What its owner may do
        #[arg(long, value_enum, default_value_t = Role::Read)]
        role: Role,
        /// For how many days it is valid
        #[arg(long, value_name = "N", default_value_t = 90)]
        days: u64,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// List the tokens: their names, roles and ends
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// End a token at once
    Revoke {
        /// Its name
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
        #[command(flatten)]
        file: ConfigFile,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Look at everything
    Read,
    /// Give machines orders, too: accept, allocate, release and so on
    Operate,
    /// Change machines and leases, and reload, too
    Admin,
}

impl From<Role> for api::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Read => Self::Read,
            Role::Operate => Self::Operate,
            Role::Admin => Self::Admin,
        }
    }
}

impl Tokens {
    pub(super) fn run(self) -> Result<ExitCode> {
        match self.verb {
            Verb::Add { name, role, days, file } => {
                let wanted = WantedToken { name, role: role.into(), days };
                let answer = send(&file, Method::POST, TOKENS, serde_json::to_string(&wanted)?)?;
                let NewToken { token, shown } = serde_json::from_str(&answer)?;
                println!("{token}");
                eprintln!("valid until {}; it is not shown again", shown.expires_at);
            }
            Verb::List { json, file } => {
                let answer = ask(&file, TOKENS)?;
                if json {
                    println!("{answer}");
                } else {
                    print!("{}", listed(&serde_json::from_str::<Vec<ShownToken>>(&answer)?));
                }
            }
            Verb::Revoke { name, file } => {
                send(&file, Method::DELETE, &format!("{TOKENS}/{}", escaped(&name)), String::new())?;
                println!("revoked {name}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn listed(tokens: &[ShownToken]) -> String {
    let line = |ShownToken { name, role, expires_at, is_expired, .. }: &ShownToken| {
        let ended = if *is_expired { "  expired" } else { "" };
        format!("{name:<24} {:<8} {expires_at}{ended}\n", role.name())
    };
    tokens.iter().map(line).collect()
}
