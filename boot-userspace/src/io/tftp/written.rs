//! Files that are in no directory: they are written for the machine that asks.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::files::{BootFiles, DocumentTokens, OpenError, OpenFile};
use crate::host::clock;
use crate::host::live::Live;
use boot_engine::boot::Server;
use boot_engine::boot::esxi::{self, boot_cfg};
use boot_engine::boot::link::{Signer, VALID};
use boot_engine::boot::loader_config::Way;
use boot_engine::boot::loader_file::Language;
use boot_engine::boot::plan::NoScript;
use boot_engine::boot::script::{Network, ScriptWriter, bootstrap};
use boot_engine::events::NotServed;
use boot_engine::machines::{Asker, Machines};
use boot_engine::tftp::{self, Peer};

use super::answer_to;

/// Writes them.
#[derive(Clone)]
pub struct Writer {
    /// What machines boot.
    pub scripts: Live<ScriptWriter>,
    /// HTTP's port, for what a loader cannot get by TFTP.
    pub http_port: u16,
    /// What secret documents are given for.
    pub tokens: Arc<DocumentTokens>,
}

/// What a name stands for.
pub(super) enum Found {
    File(OpenFile),
    Text(String),
}

/// Why it stands for nothing: what the client is told, and what the log says.
pub(super) struct Missing {
    pub(super) answer: tftp::OpenError,
    pub(super) why: Why,
}

/// The reason.
pub(super) enum Why {
    /// Of the file.
    File(NotServed),
    /// Of the machine that it would be written for.
    Machine(NoScript),
}

impl Writer {
    /// Finds what a client asks for. A file in the boot directory comes before one that is written.
    pub(super) fn find(
        &self,
        files: &BootFiles,
        machines: &Machines,
        name: &str,
        peer: Peer,
    ) -> Result<Found, Missing> {
        if files.wants_signature(name) {
            return Err(OpenError::Signed.into());
        }
        let missing = match files.open(name) {
            Ok(file) => return Ok(Found::File(file)),
            Err(missing @ OpenError::NotFound { .. }) => missing,
            Err(error) => return Err(error.into()),
        };
        if is_autoexec(name) {
            // It is the same for all: by its own identity each machine gets its own script with it.
            let server = SocketAddr::from((peer.local, self.http_port)).into();
            return Ok(Found::Text(bootstrap(&server, Network::Firmwares)));
        }
        let Some(file) = files.to_be_written(name) else { return Err(missing.into()) };
        let scripts = self.scripts.get();
        let client = IpAddr::from(*peer.client.ip());
        // What is given by signed links only is fetched by HTTP.
        let server = |asker: &Asker| {
            let signer = scripts.link_key().map(|key| Signer {
                key: key.clone(),
                holder: asker.client.as_ref().map(|client| client.mac),
                client,
                until: clock::wall().as_secs() + VALID,
            });
            Server::from(SocketAddr::from((peer.local, self.http_port))).signed_by(signer)
        };
        let mut asked = file.asked(client, machines, server);
        if scripts.planner().wants_token(&asked) {
            asked = self.tokens.issue_by_datagram(asked);
        }
        let offered = |asked: &_| scripts.planner().offered(asked);
        let text = match file.language {
            Language::Grub | Language::Pxelinux => file.text(&asked, Way::Tftp, offered),
            Language::Esxi => match file.esxi_plan(&asked, offered) {
                Some(Ok(plan)) => {
                    let own = files.text(&esxi::own_config(&plan), esxi::LARGEST)?;
                    Some(boot_cfg(&asked, Way::Tftp, &plan, &own))
                }
                Some(Err(refusal)) => Some(Err(refusal)),
                None => None,
            },
        };
        match text {
            Some(Ok(text)) => Ok(Found::Text(text)),
            Some(Err(refusal)) => Err(refusal.into()),
            None => Err(missing.into()),
        }
    }
}

/// The script that iPXE looks for beside its own binary before it asks DHCP: behind a shim, whoever has signed it, it finds its
/// server by that.
fn is_autoexec(name: &str) -> bool {
    name.rsplit(['/', '\\']).next().is_some_and(|name| name.eq_ignore_ascii_case("autoexec.ipxe"))
}

impl From<OpenError> for Missing {
    fn from(error: OpenError) -> Self {
        Self { answer: answer_to(&error), why: Why::File(error.into()) }
    }
}

impl From<NoScript> for Missing {
    fn from(refusal: NoScript) -> Self {
        let answer = match refusal {
            NoScript::Broken(_) => tftp::OpenError::Failed,
            NoScript::NotForYou(_) | NoScript::OfAnother { .. } => tftp::OpenError::Forbidden,
        };
        Self { answer, why: Why::Machine(refusal) }
    }
}
