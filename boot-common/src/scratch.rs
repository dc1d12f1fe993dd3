//! The memory in which a request is read and a reply is put together.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::facts::OptionScan;
use crate::tftp::DataHead;
use crate::wire::{Head, Request};

/// Working memory: too large for the kernel's stack, so each CPU has one in a map.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Scratch {
    /// The state of the option scan.
    pub scan: OptionScan,
    /// The request.
    pub request: Request,
    /// The reply scratch.
    pub reply: ReplyScratch,
}

/// The parts of a reply that depend on the client.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReplyScratch {
    /// Options that are returned unaltered, END, and padding.
    pub tail: [u8; 1024],
    /// A DHCP answer's headers.
    pub head: Head,
    reserved: [u8; 2],
    /// A TFTP block's headers.
    pub data: DataHead,
    /// Bytes of the tail.
    pub tail_length: u32,
}

impl Scratch {
    /// Empty working memory.
    #[must_use]
    pub fn new() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}
