//! What happens where machines get their addresses.

use std::fmt;
use std::net::Ipv4Addr;

use boot_common::Mac;
use boot_common::class::{Class, Firmware};
use boot_common::wire::BootpFixed;
use ipnet::Ipv4Net;

use crate::boot::BootFile;

/// What a machine was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The kind of answer.
    pub answer: Answer,
    /// What the machine is.
    pub class: Class,
    /// Its address; unspecified: none from here.
    pub address: Ipv4Addr,
    /// What its own message said, where the daemon has read that.
    pub said: Said,
    /// What it is to boot. Looked up only if somebody reads the event: [`Engine::complete`](crate::Engine::complete).
    pub boot: Option<Box<BootFile>>,
}

/// What a DHCP message says beside its question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The relay that it came by (giaddr); none: directly, or that is not known.
    pub relay: Option<Ipv4Addr>,
    /// For how many seconds its client has asked (`secs`), as it says; 0: that is not known.
    pub secs: u16,
}

impl Said {
    /// By a message's header. Some clients write `secs` in the wrong byte order.
    #[must_use]
    pub fn by(bootp: &BootpFixed) -> Self {
        let relay = Ipv4Addr::from(bootp.giaddr);
        let secs = bootp.secs.get();
        let secs = if secs.to_be_bytes()[1] == 0 { secs.swap_bytes() } else { secs };
        Self { relay: (!relay.is_unspecified()).then_some(relay), secs }
    }
}

/// The answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// OFFER.
    Offer,
    /// ACK to a REQUEST.
    Ack,
    /// ACK to an INFORM.
    Options,
    /// BOOTP.
    Bootp,
    /// The boot server's ACK, or another one without an address.
    BootFile,
}

/// Why a REQUEST is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It names no address.
    NamesNone,
    /// What it has is another machine's by the configuration now.
    Reserved(Ipv4Addr),
    /// It has another one.
    Has {
        /// What it asks for.
        wanted: Ipv4Addr,
        /// What it has.
        has: Ipv4Addr,
    },
    /// It is of another network: of a subnet of ours, perhaps.
    AnotherNetwork(Ipv4Addr, Option<Ipv4Net>),
    /// It was its address, and cannot be any more.
    WasIts(Ipv4Addr),
    /// It was not offered to it.
    NotOffered(Ipv4Addr),
    /// Nobody gave it to it.
    NotGiven(Ipv4Addr),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NamesNone => f.write_str("its REQUEST names no address: option 50 and ciaddr are empty"),
            Self::Reserved(address) => write!(f, "{address} is reserved for another machine now"),
            Self::Has { wanted, has } => write!(f, "it asks for {wanted}, but has {has}"),
            Self::AnotherNetwork(wanted, Some(subnet)) => write!(
                f,
                "{wanted} is in {subnet}, not in this network: the machine has moved, or its switch port is in the wrong VLAN"
            ),
            Self::AnotherNetwork(wanted, None) => write!(f, "{wanted} is not in this network"),
            Self::WasIts(wanted) => write!(
                f,
                "it may not keep {wanted}: the address was declined, found in use, or no longer fits the configuration"
            ),
            Self::NotOffered(wanted) => write!(f, "this server did not offer it {wanted}"),
            Self::NotGiven(wanted) => {
                write!(f, "it has no lease of {wanted}, and the subnet is authoritative")
            }
        }
    }
}

/// How a machine is known by another mark than its MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// As one of the configuration's.
    Known,
    /// As none any more: it is at a switch port that the configuration does not name.
    AtAnotherPort,
    /// Its address is still another one's by a lease.
    StillLeased {
        /// The address that is reserved for it.
        address: Ipv4Addr,
        /// Who has it.
        holder: Mac,
    },
    /// Its address was another one's until now.
    TakenFrom {
        /// The address that is reserved for it.
        address: Ipv4Addr,
        /// Who had it.
        holder: Mac,
    },
}

/// What is wrong with a loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoaderProblem {
    /// There is none.
    Missing {
        /// What is missing, and what provides it.
        what: String,
        /// Nobody was told so within an hour.
        is_first: bool,
    },
    /// The iPXE that machines of this firmware are sent for a full one lacks something.
    Reduced {
        /// The firmware.
        firmware: Firmware,
        /// HTTP is what it lacks, otherwise a kernel's format.
        lacks_http: bool,
    },
}

/// What another DHCP server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherServer {
    /// A machine has taken its offer.
    Chosen {
        /// The server.
        server: Ipv4Addr,
        /// The address that it gives.
        address: Ipv4Addr,
        /// There was an offer from here, too.
        was_offered: bool,
    },
    /// It has refused a machine.
    Refused {
        /// The server.
        server: Ipv4Addr,
        /// The station that sent the answer, where that is known.
        station: Option<Mac>,
    },
    /// It gives an address where this one gives them.
    Gives {
        /// The server.
        server: Ipv4Addr,
        /// The station that sent the answer, where that is known.
        station: Option<Mac>,
        /// The address that it gives.
        address: Ipv4Addr,
    },
    /// Within an hour one station caused as many of these events as it may.
    TooMany {
        /// The server in its last answer.
        server: Ipv4Addr,
        /// The station, where that is known.
        station: Option<Mac>,
        /// How many it may cause.
        most: u32,
    },
}

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// Directly, on the event's interface.
    Link,
    /// A relay sent it on.
    Relay(Ipv4Addr),
}

/// What a DECLINE led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decline {
    /// There were more of its subnet than are looked into: it is ignored.
    TooMany {
        /// So many are.
        most: u64,
    },
    /// Only the machine itself uses the address.
    OnlyItself,
    /// It is reserved for the machine, and this was found there.
    Reserved(Option<String>),
    /// A quarter of the pool is kept from everybody because of DECLINEs already; this was found there.
    Enough(String),
    /// The machine gets another one; this was found there.
    Taken(Option<String>),
}

/// What was sent in a machine's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// DECLINE.
    Declined,
    /// RELEASE.
    Released,
}

/// Why a message does not come from where the lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It names no server.
    NamesNoServer,
    /// It came in on an interface that the subnet is not on.
    OtherLink,
    /// It comes from another address than it should.
    Source {
        /// From here.
        from: Ipv4Addr,
        /// From here it should.
        should: Ipv4Addr,
    },
    /// The subnet is behind relays, and none sent it.
    NoRelay,
    /// The relay is not in the subnet.
    OtherRelay(Ipv4Addr),
    /// It comes neither from the machine nor from the relay that it names.
    SourceOrRelay {
        /// From here.
        from: Ipv4Addr,
        /// From here it should.
        should: Ipv4Addr,
        /// Or from here.
        relay: Ipv4Addr,
    },
}

/// What is wrong with a message that has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client, or a relay, writes it wrong.
    Malformed,
    /// The client takes too short answers.
    NoRoom,
    /// It is BOOTP of a machine that nothing is reserved for.
    Bootp,
    /// A relay names an address that no relay, link or server can have.
    Relay {
        /// The relay's address as it says (giaddr).
        relay: Ipv4Addr,
        /// The relay's station. Looked up by the daemon, and only if somebody reads the event.
        station: Option<Mac>,
    },
}

/// Who got no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// This machine.
    One(Mac),
    /// So many.
    Many(usize),
}

/// Where there is no subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSubnet {
    /// On the event's interface.
    OnLink,
    /// Behind a relay.
    Behind {
        /// The relay.
        relay: Ipv4Addr,
        /// The link that it selects: itself, mostly.
        selects: Ipv4Addr,
        /// Who sent the request.
        from: Ipv4Addr,
        /// The sender's station. Looked up by the daemon, and only if somebody reads the event.
        station: Option<Mac>,
    },
}
