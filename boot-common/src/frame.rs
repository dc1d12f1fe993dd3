//! The interface of a frame: an XDP buffer, an skb, or bytes on the host.

use crate::facts::OptionScan;
use crate::tftp::tables::Chunk;
use crate::wire::Request;

/// A frame at a hook. Offsets count from the Ethernet header.
pub trait Frame {
    /// Whether this is a driver's buffer.
    const IS_XDP: bool;
    /// Whether copies of the frame can be sent.
    const COPIES: bool;

    /// Whether a UDP checksum may be unfinished because the sender left it to an offload: a virtual network card passes such
    /// packets on, and only an skb marks them.
    const MAY_BE_UNFINISHED: bool;

    /// Whether a packet without a UDP checksum is not summed. In the kernel it is, because the verifier would check what
    /// follows once for each case.
    const SUMS_IF_NEEDED: bool;

    /// Bytes in the frame.
    fn length(&self) -> u32;

    /// Copies the first `length` bytes into the buffer, at most [`MAX_FRAME`](crate::wire::MAX_FRAME).
    /// False if the frame is shorter.
    fn load(&self, length: u32, to: &mut Request) -> bool;

    /// Copies `length` bytes (1–511) from `offset` to `to[at..]`, `at` below 512. False if the frame is shorter.
    fn load_part(&self, offset: u32, length: u32, to: &mut [u8; 1024], at: u32) -> bool;

    /// Makes the frame `length` bytes long. If the hook cannot, returns false and changes nothing.
    #[must_use]
    fn resize(&mut self, length: u32) -> bool;

    /// Writes the first `length` bytes of `from` at `offset`.
    #[must_use]
    fn store<const N: usize>(&mut self, offset: u32, from: &[u8; N], length: u32) -> bool;

    /// Writes `length` bytes (1 to [`LONGEST_BLOCK`](crate::tftp::LONGEST_BLOCK)) of a chunk from `from` at `offset`.
    #[must_use]
    fn store_chunk(&mut self, offset: u32, chunk: &Chunk, from: u32, length: u32) -> bool;

    /// Sends a copy of the frame as it is now back through its interface.
    #[must_use]
    fn send_copy(&mut self) -> bool;

    /// Calls [`OptionScan::step`] until it is done, at most [`MAX_STEPS`](crate::facts::MAX_STEPS) times.
    fn scan(&self, request: &Request, scan: &mut OptionScan);
}

#[cfg(any(test, feature = "user"))]
mod host {
    use std::vec::Vec;

    use zerocopy::IntoBytes;

    use super::Frame;
    use crate::facts::{MAX_STEPS, OptionScan};
    use crate::tftp::tables::Chunk;
    use crate::wire::{MAX_FRAME, Request};

    /// A frame in the host's memory.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Bytes(pub Vec<u8>);

    impl Frame for Bytes {
        const IS_XDP: bool = false;
        const COPIES: bool = false;
        const MAY_BE_UNFINISHED: bool = false;
        const SUMS_IF_NEEDED: bool = true;

        fn length(&self) -> u32 {
            u32::try_from(self.0.len()).unwrap_or(u32::MAX)
        }

        fn load(&self, length: u32, to: &mut Request) -> bool {
            let length = length as usize;
            if length > MAX_FRAME {
                return false;
            }
            match (self.0.get(..length), to.as_mut_bytes().get_mut(..length)) {
                (Some(from), Some(to)) => {
                    to.copy_from_slice(from);
                    true
                }
                _ => false,
            }
        }

        fn load_part(&self, offset: u32, length: u32, to: &mut [u8; 1024], at: u32) -> bool {
            let (offset, length, at) = (offset as usize, length as usize, at as usize);
            if length == 0 || length > 511 || at > 511 {
                return false;
            }
            match (self.0.get(offset..offset + length), to.get_mut(at..at + length)) {
                (Some(from), Some(to)) => {
                    to.copy_from_slice(from);
                    true
                }
                _ => false,
            }
        }

        fn resize(&mut self, length: u32) -> bool {
            self.0.resize(length as usize, 0);
            true
        }

        fn store<const N: usize>(&mut self, offset: u32, from: &[u8; N], length: u32) -> bool {
            let (offset, length) = (offset as usize, length as usize);
            match (self.0.get_mut(offset..offset + length), from.get(..length)) {
                (Some(to), Some(from)) => {
                    to.copy_from_slice(from);
                    true
                }
                _ => false,
            }
        }

        fn store_chunk(&mut self, offset: u32, chunk: &Chunk, from: u32, length: u32) -> bool {
            let (offset, from, length) = (offset as usize, from as usize, length as usize);
            match (self.0.get_mut(offset..offset + length), chunk.bytes.get(from..from + length)) {
                (Some(to), Some(from)) => {
                    to.copy_from_slice(from);
                    true
                }
                _ => false,
            }
        }

        fn send_copy(&mut self) -> bool {
            false
        }

        fn scan(&self, request: &Request, scan: &mut OptionScan) {
            for _ in 0..MAX_STEPS {
                if scan.step(request) {
                    break;
                }
            }
        }
    }

    /// A frame of which copies can be sent, as at TC.
    #[derive(Clone, Debug, Default)]
    pub struct Copies {
        /// The frame itself.
        pub frame: Bytes,
        /// Copies of it, as it stood when they were sent.
        pub sent: Vec<Vec<u8>>,
    }

    impl Frame for Copies {
        const IS_XDP: bool = false;
        const COPIES: bool = true;
        const MAY_BE_UNFINISHED: bool = true;
        const SUMS_IF_NEEDED: bool = false;

        fn length(&self) -> u32 {
            self.frame.length()
        }
        fn load(&self, length: u32, to: &mut Request) -> bool {
            self.frame.load(length, to)
        }
        fn load_part(&self, offset: u32, length: u32, to: &mut [u8; 1024], at: u32) -> bool {
            self.frame.load_part(offset, length, to, at)
        }
        fn resize(&mut self, length: u32) -> bool {
            self.frame.resize(length)
        }
        fn store<const N: usize>(&mut self, offset: u32, from: &[u8; N], length: u32) -> bool {
            self.frame.store(offset, from, length)
        }
        fn store_chunk(&mut self, offset: u32, chunk: &Chunk, from: u32, length: u32) -> bool {
            self.frame.store_chunk(offset, chunk, from, length)
        }
        fn send_copy(&mut self) -> bool {
            self.sent.push(self.frame.0.clone());
            true
        }
        fn scan(&self, request: &Request, scan: &mut OptionScan) {
            self.frame.scan(request, scan);
        }
    }
}
#[cfg(any(test, feature = "user"))]
pub use host::{Bytes, Copies};
