//! Serial numbers of machines (SMBIOS type 1).

/// Whether a text tells one machine from others. Makers that write no serial number leave one of a few texts.
#[must_use]
pub fn is_serial(text: &str) -> bool {
    let text = serial_key(text);
    let nothing = [
        "to be filled by o.e.m.",
        "default string",
        "system serial number",
        "base board serial number",
        "chassis serial number",
        "not specified",
        "not applicable",
        "not available",
        "unknown",
        "invalid",
        "empty",
        "none",
        "n/a",
        "0123456789",
        "123456789",
        "1234567890",
    ];
    let is_one_letter = text.chars().all(|c| text.starts_with(c) || ".-_ ".contains(c));
    !text.is_empty() && !is_one_letter && !nothing.contains(&text.as_str())
}

/// A serial number as it is compared: firmware pads it, and people write small letters.
#[must_use]
pub fn serial_key(text: &str) -> String {
    text.trim().to_lowercase()
}

/// A serial number as somebody writes it of a machine.
///
/// # Errors
/// What is wrong with it.
pub(super) fn serial(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.chars().count() > LONGEST || text.chars().any(char::is_control) {
        return Err(format!("a serial number is one line of at most {LONGEST} characters"));
    }
    if !is_serial(text) {
        return Err(format!(
            "{text:?} is what boards say that have no serial number, so it tells no machine from others: write its MAC or uuid"
        ));
    }
    Ok(text.to_owned())
}

/// Characters, as inventories have them.
const LONGEST: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makers_that_write_nothing_tell_no_boards_apart() {
        for text in ["", "  ", "0", "0000000", "........", "Default string", "To Be Filled By O.E.M.", "N/A"]
        {
            assert!(!is_serial(text), "{text:?}");
            assert!(serial(text).unwrap_err().contains("no serial number"), "{text:?}");
        }
        for text in ["CZ1234", "7", "10", "J9X2K53"] {
            assert_eq!(is_serial(text), text != "7", "{text:?}");
        }
        assert_eq!((serial(" CZ12 ").as_deref(), serial_key(" Cz12")), (Ok("CZ12"), "cz12".to_owned()));
        assert!(serial("CZ\n12").is_err() && serial(&"7x".repeat(99)).is_err());
    }
}
