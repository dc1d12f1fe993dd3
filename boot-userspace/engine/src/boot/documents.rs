//! The documents of each machine: what its installer or its operating system fetches.

use std::net::Ipv4Addr;

use super::choice::Choice;
use super::plan::{Asked, NoScript, Planner, written_plan};
use super::stage::{Stage, stage};
use super::token::NoSecret;
use super::variables;
use crate::config::{DhcpRole, DocumentFile, DocumentKind, Unknown, Variables};
use crate::lifecycle::State;
use crate::machines::Asker;

/// A document for one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its kind.
    pub kind: DocumentKind,
    /// What is in it.
    pub text: String,
    /// It is given once per boot.
    pub is_secret: bool,
}

/// Why there is no document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDocument {
    /// The configuration has none for this machine. Says what to write.
    #[error("{0}")]
    Nothing(String),
    /// The machine has another address than the one that asks.
    #[error("{machine} has another address: its documents are for itself only; the server's log says more")]
    OfAnother {
        /// Its name, or its MAC.
        machine: String,
        /// The address it has. Not for the one that asks.
        address: Ipv4Addr,
    },
    /// It is secret, and not for this request.
    #[error("{0}")]
    Secret(NoSecret),
    /// It should exist and could not be written.
    #[error("{0}")]
    Broken(String),
}

impl From<NoScript> for NoDocument {
    fn from(no_script: NoScript) -> Self {
        match no_script {
            NoScript::NotForYou(why) => Self::Nothing(why),
            NoScript::OfAnother { machine, address } => Self::OfAnother { machine, address },
            NoScript::Broken(why) => Self::Broken(why),
        }
    }
}

impl Planner {
    /// The document with this name (the last part of its URL) of the machine that asks.
    ///
    /// # Errors
    /// There is none, it is not for who asks, or a template is broken.
    pub fn document(&self, asked: &Asked, name: &str) -> Result<Document, NoDocument> {
        self.check_asker(asked)?;
        let who = asked.called();
        if asked.machine().is_none() && self.config().default.unknown != Unknown::Boot {
            return Err(NoDocument::Nothing(format!("{who} is not in the configuration")));
        }
        self.check_state(asked)?;
        let choice = self.choice(asked);
        let Some(&DocumentFile { kind, ref file, is_secret }) = find(asked, &choice, name) else {
            return self.built_in(asked, &choice, name);
        };
        let broken = |why: String| NoDocument::Broken(format!("{name} of {who} cannot be written: {why}"));
        let args = match (&choice.written, choice.profile) {
            (Some(written), _) => Some(written_plan(asked, String::new(), written).args),
            (None, profile) => profile.map(|(_, profile)| self.args(asked, &choice, profile)).transpose()?,
        };
        let variables = Variables { args, ..variables::of(self.config(), asked, &choice) };
        let text = self.templates().render(file, &variables).map_err(|fault| broken(fault.to_string()))?;
        Ok(Document { kind, text, is_secret })
    }

    /// A machine that nobody has accepted or allocated gets nothing of what its profile has for it; what its agent's profile has, it
    /// gets. One whose record is not served has no profile.
    fn check_state(&self, asked: &Asked) -> Result<(), NoDocument> {
        let Some(life) = asked.life() else { return Ok(()) };
        if life.is_unserved {
            return Err(NoDocument::Nothing(format!("{} gets no documents: {}", asked.called(), life.says)));
        }
        let is_idle = matches!(
            life.state,
            State::Discovered | State::Accepted | State::Ready | State::Released | State::Ignored
        );
        if is_idle && !matches!(stage(self.config(), asked), Ok(Stage::Other(_))) {
            let (who, state) = (asked.called(), life.state);
            return Err(NoDocument::Nothing(format!("{who} is {state}: it gets no documents in this state")));
        }
        Ok(())
    }

    /// Whether a script for who asks has to have a token: it is for a machine that may have secret documents, or for the agent.
    #[must_use]
    pub fn wants_token(&self, asked: &Asked) -> bool {
        let has_secrets = self.has_secrets()
            && (asked.machine().is_some() || self.config().default.unknown == Unknown::Boot)
            && self.check_state(asked).is_ok();
        (has_secrets || self.boots_agent(asked))
            && self.check_asker(asked).is_ok()
            && self.has_its_address(asked)
    }

    /// Whether the address that asks is the machine's by a lease, or cannot be: where another server gives the addresses, or
    /// something stands between. A machine that has none yet is anybody's to name.
    #[must_use]
    pub fn has_its_address(&self, asked: &Asked) -> bool {
        let Asker { client, known, is_itself, .. } = &asked.asker;
        // What was only said makes nobody a known machine: its UUID is no secret.
        let is_its = match known {
            Some(_) => *is_itself,
            None => client.as_ref().is_some_and(|client| asked.mac == Some(client.mac)),
        };
        let http = &self.config().http;
        !self.config().interfaces.iter().any(|interface| interface.dhcp == DhcpRole::Server)
            || is_its
            || http.shared_addresses.iter().any(|net| net.contains(&asked.client_ip))
    }

    /// What cloud-init fetches beside its user-data, without which it takes nothing, or asks again and again.
    fn built_in(&self, asked: &Asked, choice: &Choice<'_>, name: &str) -> Result<Document, NoDocument> {
        let kinds = [DocumentKind::UserData, DocumentKind::NetworkConfig, DocumentKind::VendorData];
        let is_cloud_inits = kinds.iter().any(|kind| find(asked, choice, kind.name()).is_some());
        let Variables { machine, .. } = variables::of(self.config(), asked, choice);
        let kind = DocumentKind::ALL.into_iter().find(|kind| kind.name() == name);
        match kind.filter(|_| is_cloud_inits) {
            Some(kind @ DocumentKind::MetaData) => {
                let id = machine.mac.map_or_else(|| machine.name.clone(), |mac| mac.replace(':', "-"));
                let text = format!("instance-id: \"i-{id}\"\nlocal-hostname: \"{}\"\n", machine.name);
                Ok(Document { kind, text, is_secret: false })
            }
            Some(kind @ (DocumentKind::VendorData | DocumentKind::UserData)) => {
                Ok(Document { kind, text: String::new(), is_secret: false })
            }
            _ => Err(NoDocument::Nothing(format!(
                "there is no {name} for {}: write it in documents of its [[machine]], of a [[group]] or of its profile",
                asked.called()
            ))),
        }
    }
}

/// The machine's document before that of the last group before that of the profile.
fn find<'a>(asked: &'a Asked, choice: &Choice<'a>, name: &str) -> Option<&'a DocumentFile> {
    let own = asked.machine().and_then(|machine| machine.documents.as_deref());
    let groups = choice.groups.iter().rev().map(|group| &group.documents);
    let profile = choice.profile.map(|(_, profile)| &profile.documents);
    own.into_iter().chain(groups).chain(profile).find_map(|documents| documents.get(name))
}
