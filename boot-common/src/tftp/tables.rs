//! What the halves share of transfers: their slots, the images, the sums of blocks, and the look-ups.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::flight::{Flight, TransferKey};
use super::word::Word;

/// How many transfers there can be at once, and a second after their end.
pub const MAX_FLIGHTS: u32 = 1 << 14;

/// Bytes of an image that a chunk stands for.
pub const CHUNK: usize = 1 << 18;
/// The longest block that is read in one piece: what an Ethernet frame of 9,216 bytes could hold, and more.
pub const LONGEST_BLOCK: usize = 9216;

/// A piece of an image. The first bytes of the next piece stand in this one too, so no block has to be put
/// together from two.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Chunk {
    /// [`CHUNK`] bytes and the first [`LONGEST_BLOCK`] of the next chunk.
    pub bytes: [u8; CHUNK + LONGEST_BLOCK],
}

/// How many sums stand together.
pub const SUMS: usize = 1 << 12;

/// Folded sums of blocks, in the order of an image's blocks at one block size.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sums {
    /// As [`Sum::folded`](crate::wire::Sum::folded) gives them.
    pub folded: [u16; SUMS],
}

/// The look-ups that a block depends on. A table without transfers leaves all to the daemon.
pub trait Transfers {
    /// The slot of a transfer.
    fn slot(&self, _key: &TransferKey) -> Option<u32> {
        None
    }
    /// What is in a slot.
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
    /// Boot-clock nanoseconds of the daemon's last sign of life.
    fn heartbeat(&self) -> u64 {
        u64::MAX
    }
    /// Puts `to` where `from` is; false when something else is there.
    fn exchange(&self, _word: &Word, _from: u64, _to: u64) -> bool {
        false
    }
}
