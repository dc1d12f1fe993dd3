//! What the clients in the kernel and the process that starts them agree on.
//!
//! A client's state is one word: in the lower half the number of the block that it waits for, counted from 1
//! without end, above it its port.
#![no_std]

/// Client 0's address; the others have those after it.
pub const FIRST: u32 = u32::from_be_bytes([10, 16, 1, 0]);
/// How many clients there can be.
pub const MOST: u32 = 1024;
/// Bytes of a block.
pub const BLOCK: u32 = 1432;
/// How many blocks a file can have: their numbers must not roll over.
pub const MOST_BLOCKS: u32 = 65_535;
/// Every which block goes to the process, which looks at the whole of it.
pub const LOOK_AT: u32 = 8192;

/// What the clients count.
pub mod count {
    /// Blocks taken, each once.
    pub const BLOCKS: u32 = 0;
    /// Their bytes.
    pub const BYTES: u32 = 1;
    /// Blocks with another length or beginning than the file's.
    pub const WRONG: u32 = 2;
    /// The block before the one that is waited for, which is acknowledged again.
    pub const REPEATED: u32 = 3;
    /// Any other block.
    pub const STRAY: u32 = 4;
    /// Frames that could not be made shorter.
    pub const STUCK: u32 = 5;
    /// How many counters.
    pub const ALL: u32 = 6;
}

/// A client that begins to wait for block 1.
#[must_use]
pub const fn waiting(port: u16) -> u64 {
    (port as u64) << 32 | 1
}
