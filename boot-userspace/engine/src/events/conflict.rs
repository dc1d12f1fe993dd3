//! Two machines that have something that only one can have.

use std::fmt;

use boot_common::Mac;

/// What a machine has that another one has, too, and what happens meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What, and the other party.
    pub what: Shared,
    /// What happens to the machine until a person has decided.
    pub meanwhile: Meanwhile,
}

/// What two machines have, or one that were two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shared {
    /// It shows the UUID of another one.
    Uuid {
        /// The UUID.
        uuid: Box<str>,
        /// The other machine.
        other: Box<str>,
    },
    /// It shows a UUID that makers write into many boards.
    Placeholder {
        /// The UUID.
        uuid: Box<str>,
    },
    /// It shows another UUID than its own.
    OtherUuid {
        /// What it shows.
        shown: Box<str>,
        /// What is written of it.
        written: Box<str>,
    },
    /// It reports a network card of another one.
    Card {
        /// The card.
        mac: Mac,
        /// The other machine.
        other: Box<str>,
    },
    /// It asks from two switch ports in turn.
    Ports([Box<str>; 2]),
    /// It reports what a machine with other MACs has reported.
    Board {
        /// Such as `the serial number CZ1234`.
        mark: Box<str>,
        /// The other machine.
        other: Box<str>,
    },
    /// It says a serial number that somebody has written of another one.
    Serial {
        /// The serial number.
        serial: Box<str>,
        /// The other machine.
        other: Box<str>,
    },
    /// It reports another board than before.
    NewBoard {
        /// What the board was.
        before: Box<str>,
        /// What it is.
        now: Box<str>,
    },
    /// Something that is written of it is another one's, which goes before it.
    Shadowed(Box<str>),
}

/// What happens to a machine until a person has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meanwhile {
    /// It is known by its MAC.
    ByMac,
    /// Nothing.
    Nothing,
    /// It boots nothing.
    Held,
    /// No rule accepts it.
    Waits,
    /// It is the other machine from now on.
    Followed,
    /// It is not served.
    Unserved,
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid { uuid, other } => write!(
                f,
                "it shows the UUID {uuid}, which is that of {other}: a virtual machine was cloned, or a maker wrote one UUID into several boards"
            ),
            Self::Placeholder { uuid } => {
                write!(f, "it shows the UUID {uuid}, which its maker writes into many boards")
            }
            Self::OtherUuid { shown, written } => write!(
                f,
                "it shows the UUID {shown}, and {written} is written of it: two machines have its MAC, or its board was swapped"
            ),
            Self::Card { mac, other } => write!(
                f,
                "it reports the network card {mac}, which is that of {other}: it is that machine by another card, or the card was moved"
            ),
            Self::Ports([first, second]) => write!(
                f,
                "it asks from {first} and from {second} in turn: two machines have its MAC, or somebody moves it to and fro"
            ),
            Self::Board { mark, other } => write!(
                f,
                "it reports {mark}, as {other} has done, and has other MACs: the board of that machine was swapped"
            ),
            Self::Serial { serial, other } => write!(
                f,
                "it says the serial number {serial}, which is written of {other}, and is not that machine by its MAC: it is that machine by another card, or the number is written of the wrong one; xpxe machines set {other} --mac MAC says which card is its own, --mac '' that none is"
            ),
            Self::NewBoard { before, now } => write!(
                f,
                "it reports {now} instead of {before}: its board was swapped, or two machines have its MAC"
            ),
            Self::Shadowed(why) => write!(f, "it is not served: {why}"),
        }
    }
}

impl fmt::Display for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ByMac => "It is known by its MAC",
            Self::Nothing => "It is served as before",
            Self::Held => "It boots nothing: mend it, then xpxe machines resume",
            Self::Waits => "No rule accepts it: accept it, or delete one of the two",
            Self::Unserved => "Change one of the two",
            Self::Followed => "It is that machine from now on",
        })
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.what, self.meanwhile)
    }
}
