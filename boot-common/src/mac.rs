//! MAC addresses, by which machines are known.

use core::hash::{Hash, Hasher};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An Ethernet address: it identifies a machine from its ROM to its operating system.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct Mac(pub [u8; 6]);

/// As one number, which hashers take at once.
impl Hash for Mac {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f] = self.0;
        state.write_u64(u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
    }
}

impl Mac {
    /// ff:ff:ff:ff:ff:ff
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// True for an address that one station can have: not multicast, not broadcast, not all zeros.
    #[inline(always)]
    #[must_use]
    pub fn is_station(self) -> bool {
        let Self([a, b, c, d, e, f]) = self;
        a & 1 == 0 && (a | b | c | d | e | f) != 0
    }

    /// True for an address from the blocks that IEEE assigned to Raspberry Pi.
    #[inline(always)]
    #[must_use]
    pub fn is_raspberry_pi(self) -> bool {
        let [a, b, c, ..] = self.0;
        is_raspberry_pi([a, b, c])
    }
}

/// True for the first half of a Raspberry Pi's addresses.
#[inline(always)]
#[must_use]
pub fn is_raspberry_pi(oui: [u8; 3]) -> bool {
    let [a, b, c] = oui;
    matches!(
        u32::from_be_bytes([0, a, b, c]),
        0xb8_27eb | 0xdc_a632 | 0xe4_5f01 | 0x28_cdc1 | 0xd8_3add | 0x2c_cf67 | 0x88_a29e
    )
}

#[cfg(any(test, feature = "user"))]
mod text {
    use std::fmt;
    use std::str::FromStr;

    use super::Mac;

    impl fmt::Display for Mac {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            // Every log line has one, and the formatter's own numbers take ten times as long.
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            let digit = |half: u8| DIGITS.get(usize::from(half & 15)).copied().unwrap_or_default();
            let mut text = [b':'; 17];
            for (pair, byte) in text.chunks_mut(3).zip(self.0) {
                if let [high, low, ..] = pair {
                    (*high, *low) = (digit(byte >> 4), digit(byte));
                }
            }
            f.write_str(str::from_utf8(&text).map_err(|_| fmt::Error)?)
        }
    }

    /// Text that is not six pairs of hexadecimal digits.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct NotAMac;

    impl fmt::Display for NotAMac {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(
                "not a MAC address (expected six pairs of hexadecimal digits, like 52:54:00:00:00:01)",
            )
        }
    }

    impl std::error::Error for NotAMac {}

    impl FromStr for Mac {
        type Err = NotAMac;

        /// Reads `52:54:00:00:00:01`, `52-54-00-00-00-01` (iPXE's hexhyp) and `525400000001`.
        fn from_str(text: &str) -> Result<Self, NotAMac> {
            let mut digits = [0u8; 12];
            let mut count = 0;
            for (position, c) in text.bytes().enumerate() {
                if matches!(c, b':' | b'-') && position % 3 == 2 && text.len() == 17 {
                    continue;
                }
                let value = char::from(c).to_digit(16).ok_or(NotAMac)?;
                *digits.get_mut(count).ok_or(NotAMac)? = u8::try_from(value).map_err(|_| NotAMac)?;
                count += 1;
            }
            if count != 12 || !matches!(text.len(), 12 | 17) {
                return Err(NotAMac);
            }
            let mut mac = [0u8; 6];
            for (byte, pair) in mac.iter_mut().zip(digits.chunks(2)) {
                if let [high, low] = pair {
                    *byte = high << 4 | low;
                }
            }
            Ok(Self(mac))
        }
    }

    #[cfg(test)]
    mod tests {
        use std::string::ToString;

        use super::*;

        #[test]
        fn reads_the_three_spellings_and_nothing_else() {
            let mac = Mac([0x52, 0x54, 0, 0, 0xab, 1]);
            for text in ["52:54:00:00:ab:01", "52-54-00-00-AB-01", "52540000ab01"] {
                assert_eq!(text.parse(), Ok(mac), "{text}");
            }
            assert_eq!(mac.to_string(), "52:54:00:00:ab:01");
            for text in [
                "",
                "52:54:00:00:ab",
                "52:54:00:00:ab:0g",
                "52:54:00:00:ab:01:02",
                "5:254:00:00:ab:01",
                "52540000ab0",
            ] {
                assert_eq!(text.parse::<Mac>(), Err(NotAMac), "{text}");
            }
        }
    }
}
#[cfg(any(test, feature = "user"))]
pub use text::NotAMac;
