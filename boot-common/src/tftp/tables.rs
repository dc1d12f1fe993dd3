//! The tables of TFTP that the halves share: slots of transfers, images, sums of blocks, and their look-ups.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::flight::{Flight, TransferKey};
use super::word::Word;

/// The most transfers at once, counting each until a second after its end.
pub const MAX_FLIGHTS: u32 = 1 << 14;

/// Bytes of an image in a chunk.
pub const CHUNK: usize = 1 << 18;
/// The longest block that is read in one piece: what an Ethernet frame of 9,216 bytes could hold, and more.
pub const LONGEST_BLOCK: usize = 9216;

/// A piece of an image. It also has the first bytes of the next piece, so that no block has to be put together from two.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Chunk {
    /// [`CHUNK`] bytes and the first [`LONGEST_BLOCK`] of the next chunk.
    pub bytes: [u8; CHUNK + LONGEST_BLOCK],
}

/// The number of sums in an entry.
pub const SUMS: usize = 1 << 12;

/// Folded sums of blocks, in the order of an image's blocks at one block size.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sums {
    /// Results of [`Sum::folded`](crate::wire::Sum::folded).
    pub folded: [u16; SUMS],
}

/// The look-ups that a block depends on. Without transfers in the tables the daemon answers everything.
pub trait Transfers {
    /// The slot of a transfer.
    fn slot(&self, _key: &TransferKey) -> Option<u32> {
        None
    }
    /// The flight in a slot.
    fn flight(&self, _slot: u32) -> Option<&Flight> {
        None
    }
    /// A piece of an image.
    fn chunk(&self, _index: u32) -> Option<&Chunk> {
        None
    }
    /// Sums of blocks.
    fn sums(&self, _index: u32) -> Option<&Sums> {
        None
    }
    /// Boot-clock nanoseconds.
    fn now(&self) -> u64 {
        0
    }
    /// Boot-clock nanoseconds of the daemon's last heartbeat.
    fn heartbeat(&self) -> u64 {
        u64::MAX
    }
    /// Replaces `from` by `to`; false if the word has another value.
    fn exchange(&self, _word: &Word, _from: u64, _to: u64) -> bool {
        false
    }
}
