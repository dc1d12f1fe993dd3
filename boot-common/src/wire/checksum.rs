//! The internet checksum (RFC 1071).

use core::hint::black_box;

use crate::wire::IP_UDP;

/// A running ones' complement sum of big-endian 16-bit words.
///
/// The carry is folded in at the end only: a `u32` holds the sum of 65,536 words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum(u32);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// A sum that [`folded`](Self::folded) returned before.
    #[inline(always)]
    #[must_use]
    pub const fn of(folded: u16) -> Self {
        Self(folded as u32)
    }

    /// The sum of a UDP packet's pseudo header (RFC 768), `udp_length` bytes with the UDP header.
    #[inline(always)]
    #[must_use]
    pub const fn pseudo(source: [u8; 4], destination: [u8; 4], udp_length: u16) -> Self {
        Self::ZERO.address(source).address(destination).word(IP_UDP as u16).word(udp_length)
    }

    /// With one more word.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0.wrapping_add(word as u32))
    }

    /// With the two words of an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn address(self, [a, b, c, d]: [u8; 4]) -> Self {
        self.word(u16::from_be_bytes([a, b])).word(u16::from_be_bytes([c, d]))
    }

    /// With all bytes, the last one of an odd number padded with zero.
    ///
    /// For lengths that are constant, or on the host: see [`range`](Self::range) for the others.
    #[inline(always)]
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        for pair in bytes.chunks(2) {
            let high = pair.first().copied().unwrap_or(0);
            let low = pair.get(1).copied().unwrap_or(0);
            self = self.word(u16::from_be_bytes([high, low]));
        }
        self
    }

    /// With `length` bytes of a buffer from an even offset, at most `MAX_WORDS` words.
    ///
    /// `N` has to be a power of two: offsets are masked with it, and the verifier can follow a mask.
    #[inline(always)]
    #[must_use]
    pub fn range<const N: usize, const MAX_WORDS: u32>(
        self,
        buffer: &[u8; N],
        from: u32,
        length: u32,
    ) -> Self {
        let at = |offset: u32| buffer.get(offset as usize & (N - 1)).copied().unwrap_or(0);
        let mut sum = self.0;
        let mut word = 0;
        while word < MAX_WORDS {
            let offset = word * 2;
            if offset + 1 >= length {
                break;
            }
            let (high, low) = (at(from + offset), at(from + offset + 1));
            sum = sum.wrapping_add(u32::from(high) << 8 | u32::from(low));
            word += 1;
        }
        // Behind the loop: inside it the verifier would follow two cases for each word.
        if length & 1 != 0 {
            sum = sum.wrapping_add(u32::from(at(black_box(from + length - 1))) << 8);
        }
        Self(sum)
    }

    /// The sum with all carries folded in; 0xffff over data that contains its own checksum.
    #[inline(always)]
    #[must_use]
    pub const fn folded(self) -> u16 {
        let once = (self.0 & 0xffff) + (self.0 >> 16);
        let twice = (once & 0xffff) + (once >> 16);
        twice as u16
    }

    /// The checksum to write into a header.
    #[inline(always)]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.folded()
    }

    /// The checksum to write into a UDP header, where 0 would mean "none" (RFC 768).
    #[inline(always)]
    #[must_use]
    pub const fn udp_checksum(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            sum => sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_1071_example() {
        let sum = Sum::ZERO.bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), 0xddf2);
        assert_eq!(sum.checksum(), 0x220d);
    }

    #[test]
    fn range_equals_bytes() {
        let mut buffer = [0u8; 64];
        for (i, byte) in buffer.iter_mut().enumerate() {
            *byte = u8::try_from(i * 7 % 251).unwrap();
        }
        for length in 0..=40 {
            let whole = Sum::ZERO.bytes(&buffer[10..10 + length]);
            assert_eq!(
                Sum::ZERO.range::<64, 32>(&buffer, 10, u32::try_from(length).unwrap()),
                whole,
                "{length}"
            );
        }
    }
}
