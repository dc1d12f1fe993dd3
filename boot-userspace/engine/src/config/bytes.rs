//! Texts that stand for bytes: hexadecimal digits, UUIDs, vendors' prefixes and what relays tell.

use super::value::quoted;

/// A sub-option of option 82, whose own 255 bytes are all that there is.
const MAX_RELAY_VALUE: usize = 253;

/// Pairs of hexadecimal digits, with nothing or one kind of separator between them.
pub(crate) fn pairs(text: &str) -> Option<Vec<u8>> {
    let digits = match text.chars().find(|c| matches!(c, ':' | '-' | ' ')) {
        Some(separator) if text.split(separator).all(|pair| pair.len() == 2) => text.replace(separator, ""),
        Some(_) => return None,
        None => text.to_owned(),
    };
    let digits: Vec<u32> = digits.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(high * 16 + low).ok(),
            _ => None,
        })
        .collect()
}

/// Without the `0x` in front, if there is one.
fn after_0x(text: &str) -> Option<&str> {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
}

/// Bytes such as `00:ff`; none are fine.
pub(super) fn hex(text: &str) -> Result<Vec<u8>, String> {
    pairs(after_0x(text).unwrap_or(text)).ok_or_else(|| {
        format!("{} is not hexadecimal; write pairs of digits, such as \"00:ff\"", quoted(text))
    })
}

/// What a relay tells of a port or of itself: a text, or bytes as `0x…`.
pub(super) fn relay_value(text: &str) -> Result<Vec<u8>, String> {
    let bytes = match after_0x(text) {
        Some(digits) => pairs(digits).ok_or_else(|| {
            format!(
                "{} is not hexadecimal behind 0x; write pairs of digits, such as \"0x0004000a\"",
                quoted(text)
            )
        })?,
        None if text.contains(|c: char| c.is_control()) => {
            return Err(format!("{} contains a control character; write the bytes as \"0x…\"", quoted(text)));
        }
        None => text.as_bytes().to_vec(),
    };
    match bytes.len() {
        0 => Err("is empty; write what the relay tells, such as \"Ethernet1/7\"".to_owned()),
        1..=MAX_RELAY_VALUE => Ok(bytes),
        length => Err(format!("has {length} bytes; a relay tells at most {MAX_RELAY_VALUE}")),
    }
}

/// The vendor's half of MAC addresses.
pub(super) fn oui(text: &str) -> Result<[u8; 3], String> {
    let bytes = pairs(text).unwrap_or_default();
    if let [a, b, c, _, _, _] = bytes.as_slice() {
        return Err(format!(
            "{} is a whole MAC address; write only its vendor's half, \"{a:02x}:{b:02x}:{c:02x}\"",
            quoted(text)
        ));
    }
    let oui: [u8; 3] = bytes.try_into().map_err(|_| {
        format!(
            "{} is not the beginning of MAC addresses; write three pairs of hexadecimal digits, such as \"b8:27:eb\"",
            quoted(text)
        )
    })?;
    if oui[0] & 1 == 1 {
        return Err(format!(
            "{} begins group addresses, which no network card has; write the first half of a card's address",
            quoted(text)
        ));
    }
    Ok(oui)
}

/// How MAC addresses begin: one to six bytes.
pub(super) fn mac_prefix(text: &str) -> Result<Vec<u8>, String> {
    pairs(text).filter(|bytes| (1..=6).contains(&bytes.len())).ok_or_else(|| {
        format!(
            "{} is not how MAC addresses begin; write one to six pairs of hexadecimal digits, such as \"52:54:00\"",
            quoted(text)
        )
    })
}

/// A UUID in the canonical form; the bytes are in the order of the digits.
///
/// # Errors
/// One sentence that says what to write.
pub fn uuid(text: &str) -> Result<[u8; 16], String> {
    let groups = text.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    let bare = text.trim_start_matches("urn:uuid:").replace(['-', '{', '}'], "");
    let Some(uuid) = pairs(&bare).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()) else {
        return Err(format!(
            "{} is not a UUID; write it like \"4c4c4544-0042-3510-8052-b4c04f4e3132\"",
            quoted(text)
        ));
    };
    if !groups {
        return Err(format!(
            "{} is not how a UUID is written here; write {:?}",
            quoted(text),
            uuid_text(uuid)
        ));
    }
    // What SMBIOS says when there is no UUID (section 7.2.1), so many machines may have it.
    if uuid == [0; 16] || uuid == [0xff; 16] {
        return Err(format!(
            "{text} is what machines say that have no UUID; write mac or relay_port to tell this one from others"
        ));
    }
    if is_placeholder(uuid) {
        return Err(format!(
            "{text} is what a maker writes into many boards; write mac or relay_port to tell this machine from others"
        ));
    }
    Ok(uuid)
}

/// Whether makers write this UUID into boards that they give none of their own, or firmware says it that has none (SMBIOS
/// section 7.2.1), whatever the order of its bytes.
#[must_use]
pub fn is_placeholder(uuid: [u8; 16]) -> bool {
    const KNOWN: [u128; 3] = [
        // Reference boards of firmware makers.
        0x0300_0200_0400_0500_0006_0007_0008_0009,
        0x1234_5678_1234_5678_90ab_cdde_efaa_bbcc,
        // Made of a serial number that is empty.
        0x4c4c_4544_0000_2010_8020_80c0_4f20_2020,
    ];
    let known = KNOWN.map(|known| in_either_order(known.to_be_bytes()));
    uuid == [0; 16] || uuid == [0xff; 16] || known.contains(&in_either_order(uuid))
}

/// A UUID as it is written.
#[must_use]
pub fn uuid_text(uuid: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A UUID and the same with its first three fields in the other byte order (SMBIOS against RFC 4122) are one machine's:
/// firmware disagrees about the order. This is one of both, whichever is given.
#[must_use]
pub fn in_either_order(uuid: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = uuid;
    uuid.min([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::tests::refused;

    #[test]
    fn hexadecimal() {
        for text in ["00:ff:0a", "00-FF-0A", "00 ff 0a", "00ff0a", "0x00ff0a", "0x00:ff:0a"] {
            assert_eq!(hex(text), Ok(vec![0, 255, 10]), "{text}");
        }
        assert_eq!(hex(""), Ok(vec![]));
        for text in
            ["0", "0:ff", "00:ff:", ":", "00:ff-0a", "00::ff", "+1", "gg", "é", "00:é", "0x0", "00ff0"]
        {
            refused(hex, &[(text, "is not hexadecimal; write pairs")]);
        }
    }

    #[test]
    fn what_relays_tell() {
        assert_eq!(relay_value("Ethernet1/7"), Ok(b"Ethernet1/7".to_vec()));
        assert_eq!(relay_value("0x00:04:00:0a"), Ok(vec![0, 4, 0, 10]));
        assert_eq!(relay_value("0x0004000A"), Ok(vec![0, 4, 0, 10]));
        assert_eq!(relay_value("0X07"), Ok(vec![7]));
        assert_eq!(relay_value(&"x".repeat(253)).map(|bytes| bytes.len()), Ok(253));
        refused(
            relay_value,
            &[
                ("", "is empty"),
                ("0x", "is empty"),
                ("0x0", "is not hexadecimal"),
                ("0xport", "is not hexadecimal"),
                ("a\0", "write the bytes as \"0x…\""),
                (&"x".repeat(254), "has 254 bytes"),
            ],
        );
    }

    #[test]
    fn vendors() {
        for text in ["b8:27:eb", "B8-27-EB", "b827eb"] {
            assert_eq!(oui(text), Ok([0xb8, 0x27, 0xeb]));
        }
        refused(
            oui,
            &[
                ("", "is not the beginning"),
                ("b8:27", "is not the beginning"),
                ("b8:27:eg", "is not the beginning"),
                ("b8:27:eb:00:00:01", "write only its vendor's half, \"b8:27:eb\""),
                ("01:00:5e", "group addresses"),
            ],
        );
    }

    #[test]
    fn uuids() {
        let bytes =
            [0x4c, 0x4c, 0x45, 0x44, 0, 0x42, 0x35, 0x10, 0x80, 0x52, 0xb4, 0xc0, 0x4f, 0x4e, 0x31, 0x32];
        for text in ["4c4c4544-0042-3510-8052-b4c04f4e3132", "4C4C4544-0042-3510-8052-B4C04F4E3132"] {
            assert_eq!(uuid(text), Ok(bytes));
        }
        let meant = "write \"4c4c4544-0042-3510-8052-b4c04f4e3132\"";
        refused(
            uuid,
            &[
                ("4c4c4544004235108052b4c04f4e3132", meant),
                ("{4C4C4544-0042-3510-8052-B4C04F4E3132}", meant),
                ("urn:uuid:4c4c4544-0042-3510-8052-b4c04f4e3132", meant),
                ("4c4c45440-042-3510-8052-b4c04f4e3132", meant),
                ("", "is not a UUID"),
                ("4c4c4544-0042-3510-8052-b4c04f4e313", "is not a UUID"),
                ("4c4c4544-0042-3510-8052-b4c04f4e313g", "is not a UUID"),
                ("00000000-0000-0000-0000-000000000000", "have no UUID"),
                ("ffffffff-ffff-ffff-ffff-FFFFFFFFFFFF", "have no UUID"),
            ],
        );
    }

    proptest! {
        #[test]
        fn bytes_survive_being_written(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            for separator in ["", ":", "-", " "] {
                prop_assert_eq!(hex(&pairs.join(separator)), Ok(bytes.clone()));
            }
        }

        #[test]
        fn uuids_survive_being_written(bytes: [u8; 16]) {
            prop_assume!(bytes != [0; 16] && bytes != [0xff; 16]);
            prop_assert_eq!(uuid(&uuid_text(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_answered(text in "(0x)?[0-9a-f:é -]{0,20}|.{0,40}") {
            for why in [
                hex(&text).err(),
                relay_value(&text).err(),
                oui(&text).err(),
                uuid(&text).err(),
            ].into_iter().flatten() {
                prop_assert!(!why.is_empty() && !why.contains(char::is_control), "{why}");
            }
        }
    }
}
