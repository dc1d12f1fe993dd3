//! What can happen: a closed set. Who adds a step gives it its words in the daemon's log, and nothing else has to change.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use boot_common::class::Class;
use boot_common::{Mac, Reason};
use ipnet::Ipv4Net;

use super::Kind;
use super::conflict::Conflict;
use super::dhcp::{
    Answer, Answered, Decline, Doubt, Fault, Given, LoaderProblem, NoSubnet, OtherServer, Recognition,
    Refusal, Through, TurnedAway,
};
use super::files::{Document, Http, PhoneHome, Script, Tftp, Unheard};
use super::images::Image;
use super::switch::SwitchFrame;
use crate::leases::pool::Pool;
use crate::leases::state::HoldCause;
use crate::lifecycle::{Done, Past, State};

/// One step of a boot, or what keeps machines from booting.
#[derive(Clone, Debug)]
pub enum Step {
    /// An answer with an address, a boot file or options has left.
    Answered(Answered),
    /// A REQUEST was refused, by a NAK.
    Refused(Refusal),
    /// A machine is known by another mark than its MAC.
    Recognised(Recognition),
    /// There is no loader for a machine, or none that does.
    Loader(LoaderProblem),
    /// Another DHCP server has a part in it.
    OtherServer(OtherServer),
    /// Another DHCP server names a boot file for a machine that this one names one for.
    OtherFile {
        /// The server.
        server: Ipv4Addr,
        /// The station that sent the answer, where that is known.
        station: Option<Mac>,
        /// The file, fit for a log.
        file: Box<str>,
    },
    /// A relay sends a machine's request to one address of this server, and the answer leaves from another one.
    ReplySource {
        /// The relay (giaddr).
        relay: Ipv4Addr,
        /// Where the request went.
        asked: Ipv4Addr,
        /// Where the answer comes from.
        from: Ipv4Addr,
        /// It is the first one of that relay within an hour.
        is_first: bool,
    },
    /// A switch at the other end of the interface tells of itself.
    Switch(Box<SwitchFrame>),
    /// A machine asks in another subnet than the configuration has it in.
    Stray {
        /// The address that the configuration has for it.
        reserved: Ipv4Addr,
        /// How its request came.
        through: Through,
        /// The subnet that it asks in.
        subnet: Ipv4Net,
    },
    /// A machine said that somebody else uses its address.
    Declined(Ipv4Addr, Decline),
    /// A machine gave its address back.
    Released(Ipv4Addr),
    /// A machine did not give its address back, though somebody says so in its name.
    NotBelieved(Given, Ipv4Addr, Doubt),
    /// An address that a machine was to get is somebody else's.
    AddressInUse {
        /// The address.
        address: Ipv4Addr,
        /// Who has it.
        user: String,
    },
    /// Addresses behind relays are not looked for, because the system does not permit it.
    CannotProbe,
    /// A message that has no answer, and somebody has to see to it.
    Dropped {
        /// Why.
        reason: Reason,
        /// What is to be done.
        fault: Fault,
        /// Who sent it.
        from: SocketAddrV4,
        /// Its length in bytes.
        length: usize,
    },
    /// A client that waits for an answer from here gets none; nothing is wrong with its message.
    Unanswered {
        /// Why.
        reason: Reason,
        /// The relay (giaddr); 0.0.0.0 without one.
        relay: Ipv4Addr,
    },
    /// A machine beside a proxy requests an address from another server, as it should.
    TookElsewhere {
        /// The address.
        address: Ipv4Addr,
        /// The server; 0.0.0.0 if its request names none.
        server: Ipv4Addr,
        /// What the machine is.
        class: Class,
    },
    /// A subnet has no address left for somebody.
    PoolEmpty(Pool, TurnedAway),
    /// A subnet has addresses again.
    PoolHasRoom(Pool),
    /// A machine is in no subnet.
    NoSubnet(NoSubnet),
    /// What TFTP does.
    Tftp(Tftp),
    /// Requests that the kernel half saw and the daemon did not.
    Unheard(Unheard),
    /// A boot script was asked for.
    Script {
        /// Who asked.
        client: IpAddr,
        /// The path as asked, fit for a log.
        path: String,
        /// What became of it.
        end: Script,
    },
    /// A document was asked for.
    Document {
        /// Who asked.
        client: IpAddr,
        /// The path as asked, fit for a log.
        path: String,
        /// What became of it.
        end: Document,
    },
    /// A machine said how its boot went.
    PhoneHome(IpAddr, PhoneHome),
    /// What HTTP does with files.
    Http(IpAddr, Http),
    /// What happens to images of the content store.
    Image(Box<Image>),
    /// A machine was told that there is no IPv6 router.
    RouterAdvertised,
    /// A machine asks in a loop.
    Flood {
        /// How many answers it got within a minute.
        answers: u64,
    },
    /// A machine of the registry is in another state.
    BecameState(Box<Past>),
    /// A machine's agent says how far it is.
    Progress {
        /// What it does, fit for a log.
        does: Box<str>,
        /// How much of that is done; none where nobody knows.
        percent: Option<u8>,
    },
    /// A machine of the registry is in its state for longer than it should be.
    Overdue {
        /// The state.
        state: State,
        /// For how many seconds it may be in it.
        limit: u64,
        /// What it waits for.
        waits: Box<str>,
    },
    /// A command to a machine's BMC has ended.
    Power(Box<Done>),
    /// A machine consists of something else than before, one sentence for each thing.
    InventoryChanged(Box<[String]>),
    /// A machine is one that was expected by its serial number.
    Expected {
        /// The serial number.
        serial: Box<str>,
        /// What it was called until now, if it was known already.
        before: Option<Box<str>>,
    },
    /// A machine has something that another one has, too.
    Conflict(Box<Conflict>),
    /// An operator took a machine's address.
    LeaseDeleted {
        /// The address.
        address: Ipv4Addr,
        /// Why nobody got it, if it was on hold and no lease.
        hold: Option<HoldCause>,
    },
    /// An operator brought leases.
    LeasesImported(usize),
}

impl Step {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Answered(answered) => match answered.answer {
                Answer::Offer => Kind::Offer,
                Answer::Ack | Answer::Options | Answer::BootFile => Kind::Ack,
                Answer::Bootp => Kind::Bootp,
            },
            Self::Refused(_) => Kind::Nak,
            Self::Recognised(_) | Self::Expected { .. } => Kind::Recognised,
            Self::Loader(_) => Kind::Loader,
            Self::OtherServer(_) | Self::OtherFile { .. } => Kind::OtherServer,
            Self::ReplySource { .. } => Kind::ReplySource,
            Self::Switch(_) => Kind::Switch,
            Self::Stray { .. } => Kind::Stray,
            Self::Declined(..) => Kind::Decline,
            Self::Released(_) => Kind::Release,
            Self::NotBelieved(..) => Kind::NotBelieved,
            Self::AddressInUse { .. } | Self::CannotProbe => Kind::Probe,
            Self::Dropped { .. } => Kind::Dropped,
            Self::Unanswered { .. } => Kind::Unanswered,
            Self::TookElsewhere { .. } => Kind::TookElsewhere,
            Self::PoolEmpty(..) | Self::PoolHasRoom(_) => Kind::Exhausted,
            Self::NoSubnet(_) => Kind::NoSubnet,
            Self::Tftp(_) | Self::Unheard(Unheard::Tftp { .. }) => Kind::Tftp,
            Self::Unheard(Unheard::Dhcp { .. }) => Kind::Dhcp,
            Self::Script { .. } => Kind::Script,
            Self::Document { .. } => Kind::Document,
            Self::PhoneHome(..) => Kind::PhoneHome,
            Self::Http(..) => Kind::Http,
            Self::Image(_) => Kind::Image,
            Self::RouterAdvertised => Kind::Ra,
            Self::Flood { .. } => Kind::Flood,
            Self::BecameState(_) => Kind::State,
            Self::Progress { .. } => Kind::Progress,
            Self::Overdue { .. } => Kind::Overdue,
            Self::Power(_) => Kind::Power,
            Self::InventoryChanged(_) => Kind::Inventory,
            Self::Conflict(_) => Kind::Conflict,
            Self::LeaseDeleted { .. } => Kind::Delete,
            Self::LeasesImported(_) => Kind::Import,
        }
    }
}
