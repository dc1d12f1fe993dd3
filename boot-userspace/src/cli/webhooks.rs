//! `xpxe webhooks`: how deliveries of events do, and what became of those that were given up.

use std::process::ExitCode;

use anyhow::Result;
use axum::http::Method;
use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;

use crate::cli::ConfigFile;
use crate::cli::boots::escaped;
use crate::cli::daemon_api::{ask, send};
use crate::http::webhooks::{DEAD, Done, ShownLetter, ShownWebhook, WEBHOOKS};

/// The verbs.
#[derive(Debug, clap::Args)]
pub(super) struct Webhooks {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the webhooks, and the dead letters: deliveries that were given up
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Have dead letters delivered after all
    Retry {
        /// The number of one, the name of a webhook for all of its, or all
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        which: String,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Forget dead letters
    Drop {
        /// The number of one, the name of a webhook for all of its, or all
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        which: String,
        #[command(flatten)]
        file: ConfigFile,
    },
}

impl Webhooks {
    pub(super) fn run(self) -> Result<ExitCode> {
        match self.verb {
            Verb::List { json, file } => {
                let (webhooks, dead) = (ask(&file, WEBHOOKS)?, ask(&file, DEAD)?);
                if json {
                    println!("{{\"webhooks\":{webhooks},\"dead\":{dead}}}");
                } else {
                    print!("{}", listed(&serde_json::from_str(&webhooks)?, &serde_json::from_str(&dead)?));
                }
            }
            Verb::Retry { which, file } => {
                let path = format!("{DEAD}/{}/retry", escaped(&which));
                let Done { count } = serde_json::from_str(&send(&file, Method::POST, &path, String::new())?)?;
                println!("{count} dead letters are delivered again");
            }
            Verb::Drop { which, file } => {
                let path = format!("{DEAD}/{}", escaped(&which));
                let Done { count } =
                    serde_json::from_str(&send(&file, Method::DELETE, &path, String::new())?)?;
                println!("{count} dead letters dropped");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn listed(webhooks: &Vec<ShownWebhook>, dead: &Vec<ShownLetter>) -> String {
    if webhooks.is_empty() {
        return "there are no webhooks: the configuration has no [[webhook]]\n".to_owned();
    }
    let mut text = String::new();
    for webhook in webhooks {
        let ShownWebhook { name, place, waiting, dead, delivered, failed_tries, lost, trouble } = webhook;
        text += &format!(
            "{name:<20} {place}: {delivered} delivered, {waiting} waiting, {dead} dead letters, {failed_tries} tries failed, {lost} lost\n"
        );
        if let Some(trouble) = trouble {
            text += &format!("{:<20} last try: {trouble}\n", "");
        }
    }
    for letter in dead {
        let ShownLetter { id, webhook, kind, machine, at, tries, why, .. } = letter;
        let machine = machine.as_deref().unwrap_or("-");
        text +=
            &format!("dead {id} {webhook} {kind} {machine} of {at}: {tries} tries, the last one: {why}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_how_each_webhook_does_and_names_every_dead_letter() {
        assert!(listed(&Vec::new(), &Vec::new()).contains("no [[webhook]]"));
        let webhook = ShownWebhook {
            name: "chat".to_owned(),
            place: "https://h.example".to_owned(),
            waiting: 1,
            dead: 1,
            delivered: 7,
            failed_tries: 3,
            lost: 0,
            trouble: Some("it answered 500".to_owned()),
        };
        let letter = ShownLetter {
            id: 42,
            webhook: "chat".to_owned(),
            kind: "state".to_owned(),
            machine: None,
            at: "2026-11-29T10:00:00Z".to_owned(),
            died_at: String::new(),
            tries: 2,
            why: "it answered 500".to_owned(),
        };
        let text = listed(&vec![webhook], &vec![letter]);
        for part in
            ["chat ", "7 delivered, 1 waiting", "last try: it answered 500", "dead 42 chat state - of 2026"]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
