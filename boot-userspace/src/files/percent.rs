//! Percent-encoded names (RFC 3986 section 2.1).

/// Undoes the encoding, once. None if it is incomplete, or if what comes out is not UTF-8 or has control characters: no
/// file that is served is called so.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(u8::try_from(digit()? << 4 | digit()?).ok()?);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

/// A text as one segment of a path, or as the value of a parameter.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_nothing_that_means_something_in_a_url() {
        assert_eq!(encode("52:54 a/b?c=d&\u{e4}~"), "52%3A54%20a%2Fb%3Fc%3Dd%26%C3%A4~");
    }

    #[test]
    fn names_are_decoded_once() {
        for (text, decoded) in [
            ("a/b.c", Some("a/b.c")),
            ("a%2fb%2Ec%5Cd%20e", Some("a/b.c\\d e")),
            ("%252e", Some("%2e")),
            ("%c3%a4", Some("ä")),
            ("%e4", None),
            ("%c0%ae", None),
            ("a%00", None),
            ("a%0a", None),
            ("a%7f", None),
            ("100%", None),
            ("%4", None),
            ("%zz", None),
            ("%+1", None),
        ] {
            assert_eq!(decode(text).as_deref(), decoded, "{text}");
            if let Some(decoded) = decoded {
                assert_eq!(decode(&encode(decoded)).as_deref(), Some(decoded));
            }
        }
    }
}
