//! Lengths and offsets that the verifier can follow.

use core::hint::black_box;

/// `length`, known to the verifier to be 1 to `most`, which is below 16,384; nothing when it is not.
///
/// The mask is on `length - 1`: verifiers before Linux 6.8 do not learn from a comparison with 0 that a length is not
/// 0, and refuse a helper a length that may be.
#[inline(always)]
pub(crate) fn length(length: u32, most: u32) -> Option<u32> {
    let before_last = masked::<16_383>(length.wrapping_sub(1));
    if before_last >= most { None } else { Some(before_last + 1) }
}

/// `offset` below `MASK + 1`, a power of two.
#[inline(always)]
pub(crate) fn offset<const MASK: u32>(offset: u32) -> usize {
    masked::<MASK>(offset) as usize
}

/// The bits of `MASK`. LLVM must not know what follows from where the value is from: it would leave out masks and
/// comparisons that the verifier has to see.
#[inline(always)]
fn masked<const MASK: u32>(value: u32) -> u32 {
    black_box(value) & MASK
}
