//! The transfer mode for texts: eight-bit ASCII as network terminals exchange it (RFC 764, as RFC 1350 section 1
//! takes it up), where a line ends with CR LF and a CR that does not end one has NUL behind it.

/// A file as it is sent in netascii mode: LF → CR LF, CR → CR NUL. At most twice as long.
#[must_use]
pub fn netascii(bytes: &[u8]) -> Vec<u8> {
    let longer = bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    let mut sent = Vec::with_capacity(bytes.len() + longer);
    for byte in bytes {
        match byte {
            b'\n' => sent.extend(b"\r\n"),
            b'\r' => sent.extend(b"\r\0"),
            other => sent.push(*other),
        }
    }
    sent
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a client makes of it; `None` if a CR has something else behind it.
    fn decode(sent: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = sent.iter().copied();
        let mut file = Vec::new();
        while let Some(byte) = bytes.next() {
            file.push(match byte {
                b'\r' => match bytes.next()? {
                    b'\n' => b'\n',
                    0 => b'\r',
                    _ => return None,
                },
                other => other,
            });
        }
        Some(file)
    }

    #[test]
    fn lines_end_as_on_the_network() {
        for (file, sent) in [
            (&b""[..], &b""[..]),
            (b"a\nb\n", b"a\r\nb\r\n"),
            (b"a\r\n", b"a\r\0\r\n"),
            (b"\r", b"\r\0"),
            (b"\0\xff", b"\0\xff"),
        ] {
            assert_eq!(netascii(file), sent);
        }
    }

    /// Mostly of the bytes that matter.
    fn files() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(b'\r'), Just(b'\n'), Just(0), any::<u8>()];
        proptest::collection::vec(byte, 0..300)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_sent_is_read_back(file in files()) {
            let sent = netascii(&file);
            prop_assert!(sent.len() <= 2 * file.len());
            prop_assert_eq!(decode(&sent), Some(file));
        }
    }
}
