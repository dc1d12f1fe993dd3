//! Lengths and offsets that the verifier can follow.

use core::hint::black_box;

/// `length`, if it is 1 to `most` (below 16,384), in a form whose bounds the verifier knows; otherwise nothing.
///
/// The mask is on `length - 1`: verifiers before Linux 6.8 do not learn from a comparison with 0 that a length is not 0, and
/// refuse to pass a helper a length that may be 0.
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

/// The bits of `MASK`. LLVM must not see where the value comes from: it would leave out masks and comparisons that the
/// verifier has to see.
#[inline(always)]
fn masked<const MASK: u32>(value: u32) -> u32 {
    black_box(value) & MASK
}
