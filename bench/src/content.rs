//! The bytes of the files that servers serve.

/// Bytes of which no two blocks or pages are alike, the same every time (xorshift64).
#[must_use]
pub fn content(length: usize) -> Vec<u8> {
    let mut state = 0x5850_5845_u64;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_ne_bytes()
    });
    words.flatten().take(length).collect()
}
