//! What a transfer wants of the world outside, and what it gets.

use super::*;

/// Names an [`Action::Open`] until [`Transfers::opened`] answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub(super) u64);

/// An open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// The number that whoever opened it knows it by.
    pub id: u64,
    /// Its size, which holds for the whole transfer.
    pub size: u64,
    /// Where the kernel half finds it, if it does.
    pub place: Option<Place>,
    /// What tells its content from others, also after a restart.
    pub content: u64,
}

/// Where the kernel half finds an image and the sums of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// First chunk in `IMAGES`.
    pub chunk: u32,
    /// First entry in `SUMS`.
    pub sums: u32,
}

/// Why a file is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// There is no such file.
    NotFound,
    /// There is something, but it may not be served.
    Forbidden,
    /// It is there and could not be opened.
    Failed,
    /// There is no room for one more transfer.
    Busy,
}

impl OpenError {
    pub(super) fn answer(self) -> Option<(u16, &'static str)> {
        match self {
            Self::NotFound => Some((code::NOT_FOUND, "no such file")),
            Self::Forbidden => Some((code::ACCESS, "this may not be served")),
            Self::Failed => Some((code::UNDEFINED, "the file cannot be read")),
            // An ERROR ends a boot for good, silence makes the client ask again.
            Self::Busy => None,
        }
    }
}

/// What has to be done for the transfers, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a file and call [`Transfers::opened`].
    Open {
        /// For the answer.
        token: Token,
        /// Who asks.
        peer: Peer,
        /// The name as asked, without trailing 0xFF.
        name: String,
        /// How it is to be sent.
        mode: Mode,
        /// Bytes of the blocks it will be sent in.
        block_size: u16,
    },
    /// The kernel half may answer this transfer's acknowledgements from now on.
    Publish {
        /// Whose transfer.
        key: TransferKey,
        /// Its flight.
        slot: u32,
    },
    /// The kernel half is to leave this transfer alone.
    Withdraw {
        /// Whose transfer.
        key: TransferKey,
    },
    /// Send a packet.
    Send {
        /// To and from whom.
        peer: Peer,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// Send a DATA packet with a piece of a file; if it cannot be read, call [`Transfers::unreadable`].
    Block {
        /// To and from whom.
        peer: Peer,
        /// The file.
        image: u64,
        /// Where the piece begins.
        offset: u64,
        /// Its length; 0 for the block that ends a file of full blocks.
        len: usize,
        /// The block number on the wire.
        block: u16,
    },
    /// The transfer no longer needs this file.
    Close {
        /// The file.
        image: u64,
    },
    /// How a transfer ended, for the log.
    Tell(Told),
}
