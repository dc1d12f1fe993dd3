//! The steps of a boot as a timeline keeps them: small, and the same in memory, on disk and in the API.

use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;

use boot_common::class::{Class, Stage};
use boot_common::tables::Hook;
use boot_common::{Mac, Reason};
use serde::{Deserialize, Serialize};

use crate::config::{in_either_order, parse_uuid, uuid_text};
use crate::events;
use crate::lifecycle::{Act, State};

/// Who did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// The kernel half, before the network stack.
    Xdp,
    /// The kernel half, at the entry of the network stack.
    Tc,
    /// The daemon.
    Daemon,
    /// A person.
    Operator,
}

impl From<events::By> for By {
    fn from(by: events::By) -> Self {
        match by {
            events::By::Hook(Hook::Xdp) => Self::Xdp,
            events::By::Hook(Hook::Tc) => Self::Tc,
            events::By::Hook(Hook::Daemon) => Self::Daemon,
            events::By::Operator => Self::Operator,
        }
    }
}

/// What a machine was given by DHCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Given {
    /// OFFER.
    Offer,
    /// ACK to a REQUEST.
    Ack,
    /// ACK to an INFORM.
    Options,
    /// A BOOTP answer.
    Bootp,
    /// The boot server's answer (port 4011), or another one without an address.
    BootFile,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum What {
    /// A DHCP answer left for the machine.
    Answered {
        /// The answer.
        given: Given,
        /// The client's class, as [`Class::key`].
        class: u8,
        /// The address; 0.0.0.0 if the answer has none.
        address: Ipv4Addr,
    },
    /// A DHCP message of the machine was not answered.
    Unanswered {
        /// Why.
        #[serde(with = "reason")]
        reason: Reason,
        /// The relay (giaddr); 0.0.0.0 without one.
        relay: Ipv4Addr,
    },
    /// A REQUEST was refused from here.
    Refused {
        /// Why.
        why: Box<str>,
    },
    /// The machine took another server's offer.
    ChoseOther {
        /// The other server.
        server: Ipv4Addr,
        /// The address it gives.
        address: Ipv4Addr,
        /// There was an offer from here, too.
        was_offered: bool,
    },
    /// Beside a proxy: the machine requested its address from the other server, as it should.
    TookElsewhere {
        /// The address.
        address: Ipv4Addr,
        /// The other server; 0.0.0.0 if the request names none.
        server: Ipv4Addr,
        /// The client's class, as [`Class::key`].
        class: u8,
    },
    /// Another server sent the machine a NAK.
    RefusedByOther {
        /// The other server.
        server: Ipv4Addr,
    },
    /// Another server offers or gives the machine an address.
    GivenByOther {
        /// The other server.
        server: Ipv4Addr,
        /// The address.
        address: Ipv4Addr,
    },
    /// Another server names a boot file for the machine.
    OtherFile {
        /// The other server.
        server: Ipv4Addr,
        /// The file.
        file: Box<str>,
    },
    /// The machine's relay writes to one address of this server, and the answer leaves from another one.
    ReplySource {
        /// The relay (giaddr).
        relay: Ipv4Addr,
        /// Where the request went.
        asked: Ipv4Addr,
        /// Where the answer comes from.
        from: Ipv4Addr,
    },
    /// The machine shows the UUID, or is at the switch port, of one whose reserved address another card has.
    SharedIdentity {
        /// The reserved address.
        address: Ipv4Addr,
        /// The card that has it.
        #[serde(with = "super::mac_text")]
        holder: Mac,
    },
    /// The machine has something that another one has, too.
    Conflict {
        /// What, with both parties, and what happens meanwhile.
        says: Box<str>,
    },
    /// The machine asks in another subnet than its reservation is in.
    Stray {
        /// The reserved address.
        reserved: Ipv4Addr,
        /// The subnet it asks in.
        subnet: Box<str>,
    },
    /// The address that the machine was to get is in use.
    AddressInUse {
        /// The address.
        address: Ipv4Addr,
        /// Who uses it; empty if only the machine itself says so.
        user: Box<str>,
    },
    /// There is no boot loader for the machine, or it lacks something.
    NoLoader {
        /// What is wrong, and what to do.
        why: Box<str>,
    },
    /// A file went out by TFTP.
    TftpSent {
        /// The file.
        file: Box<str>,
        /// Its size in bytes.
        bytes: u64,
        /// How long it took, in milliseconds.
        millis: u64,
        /// Whether the last acknowledgement came.
        confirmed: bool,
    },
    /// The machine asked for a file by TFTP that is not served.
    TftpMissing {
        /// The file.
        file: Box<str>,
        /// Why.
        why: Box<str>,
    },
    /// The machine stopped answering during a TFTP transfer.
    TftpStalled {
        /// The file.
        file: Box<str>,
        /// What it had by then, in bytes.
        bytes: u64,
        /// The file's size in bytes.
        size: u64,
        /// The block that it did not acknowledge; 0 is the answer to its options (OACK).
        block: u64,
    },
    /// The machine ended a TFTP transfer with an ERROR.
    TftpAborted {
        /// The file.
        file: Box<str>,
        /// The ERROR's code.
        code: u16,
        /// The ERROR's text.
        message: Box<str>,
    },
    /// A boot script, or a loader's configuration, was sent.
    ScriptSent {
        /// The UUID that the machine says it has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uuid: Option<Uuid>,
    },
    /// There is no boot script for the machine.
    NoScript {
        /// Why.
        why: Box<str>,
    },
    /// The machine asked for a file by HTTP, and it is being sent.
    FileAsked {
        /// The file.
        file: Box<str>,
    },
    /// A file went out by HTTP.
    FileSent {
        /// The file.
        file: Box<str>,
        /// How much was sent, in bytes.
        bytes: u64,
        /// How long it took, in milliseconds.
        millis: u64,
    },
    /// A file is not served by HTTP.
    FileMissing {
        /// The file, or the path.
        file: Box<str>,
        /// Why.
        why: Box<str>,
    },
    /// A file by HTTP did not reach its end.
    FileCut {
        /// The file.
        file: Box<str>,
        /// How much was sent, in bytes.
        bytes: u64,
        /// How much it asked for, in bytes; 0 if unknown.
        whole: u64,
        /// Whether the machine left; otherwise the daemon ended it.
        by_machine: bool,
        /// Why the daemon ended it; empty if the machine left.
        why: Box<str>,
    },
    /// The machine could not begin HTTPS.
    NoTls {
        /// Why.
        why: Box<str>,
    },
    /// A document (cloud-init, Kickstart, …) was sent.
    DocumentSent {
        /// Its path.
        path: Box<str>,
    },
    /// The machine asked for a document that there is none of.
    NoDocument {
        /// Its path.
        path: Box<str>,
        /// Why.
        why: Box<str>,
    },
    /// The machine said how its boot went.
    PhoneHome {
        /// It went well.
        success: bool,
        /// The machine's own text, on one line.
        says: Box<str>,
    },
    /// Its agent said how far it is.
    Progress {
        /// What it does.
        does: Box<str>,
        /// How much of that is done; none where nobody knows.
        percent: Option<u8>,
    },
    /// The registry has it in another state.
    BecameState {
        /// The state.
        state: State,
        /// Why.
        why: Box<str>,
    },
    /// It is in its state for longer than it should be.
    Overdue {
        /// The state.
        state: State,
        /// What it waits for.
        waits: Box<str>,
    },
    /// Its BMC was told something.
    Power {
        /// What.
        act: Act,
        /// Who had it told.
        by: Box<str>,
        /// Why the BMC has not done it; empty if it has.
        failed: Box<str>,
    },
    /// It consists of something else than before.
    InventoryChanged {
        /// What is different.
        differs: Box<str>,
    },
}

impl What {
    /// The class of the client that was answered, here or by the server that gives the addresses.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::Answered { class, .. } | Self::TookElsewhere { class, .. } => Class::from_key(*class),
            _ => None,
        }
    }

    /// Whether it is a DHCP answer to a client of this stage, or its request to the server that gives the addresses.
    #[must_use]
    pub fn is_answer_to(&self, stage: Stage) -> bool {
        self.class().is_some_and(|class| class.stage == stage)
    }

    /// The file that went out.
    #[must_use]
    pub fn sent(&self) -> Option<&str> {
        match self {
            Self::TftpSent { file, .. } | Self::FileSent { file, .. } => Some(file),
            _ => None,
        }
    }

    /// The relay that a message without an answer, or with one from another address, came by.
    pub(super) fn relay(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Unanswered { relay, .. } | Self::ReplySource { relay, .. } => {
                Some(*relay).filter(|relay| !relay.is_unspecified())
            }
            _ => None,
        }
    }

    /// Whether it is beside the boot: what was done with the machine, and not what the machine does to boot.
    #[must_use]
    pub fn is_beside(&self) -> bool {
        matches!(
            self,
            Self::Progress { .. }
                | Self::BecameState { .. }
                | Self::Overdue { .. }
                | Self::Power { .. }
                | Self::InventoryChanged { .. }
        )
    }

    /// Whether it has the machine start.
    pub(super) fn switches_on(&self) -> bool {
        matches!(self, Self::Power { act: Act::On | Act::Cycle, failed, .. } if failed.is_empty())
    }

    /// Whether a second one after the first is the same step again, which is counted and not listed. Amounts do not matter.
    pub(super) fn repeats(&self, first: &Self) -> bool {
        match (self, first) {
            (Self::TftpSent { file, .. }, Self::TftpSent { file: other, .. })
            | (Self::FileSent { file, .. }, Self::FileSent { file: other, .. }) => file == other,
            (Self::Progress { does, .. }, Self::Progress { does: other, .. }) => does == other,
            _ => self == first,
        }
    }
}

/// A machine's UUID as it was shown. In the other byte order (SMBIOS against RFC 4122) it is the same one.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uuid([u8; 16]);

impl PartialEq for Uuid {
    fn eq(&self, other: &Self) -> bool {
        in_either_order(self.0) == in_either_order(other.0)
    }
}

impl Eq for Uuid {}

impl Hash for Uuid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        in_either_order(self.0).hash(state);
    }
}

impl From<[u8; 16]> for Uuid {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<String> for Uuid {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_uuid(&text).map(Self::from)
    }
}

impl From<Uuid> for String {
    fn from(uuid: Uuid) -> Self {
        uuid_text(uuid.0)
    }
}

impl std::fmt::Display for Uuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&uuid_text(self.0))
    }
}

/// A [`Reason`] by its name.
mod reason {
    use boot_common::Reason;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(reason: &Reason, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(reason.name())
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Reason, D::Error> {
        let name = <std::borrow::Cow<'d, str>>::deserialize(from)?;
        let found = Reason::ALL.iter().find(|reason| reason.name() == name);
        found.copied().ok_or_else(|| D::Error::custom(format!("no reason {name}")))
    }
}
