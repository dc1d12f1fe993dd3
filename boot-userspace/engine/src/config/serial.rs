//! Serial numbers of machines (SMBIOS type 1).

/// Whether a text tells one machine from others. Makers that write no serial number leave one of a few texts, each in their way
/// of dots, blanks and capitals.
#[must_use]
pub fn is_serial(text: &str) -> bool {
    let letters = text.chars().filter(|c| c.is_alphanumeric());
    let text: String = letters.flat_map(char::to_lowercase).collect();
    let nothing = [
        "default",
        "defaultstring",
        "empty",
        "invalid",
        "na",
        "none",
        "notapplicable",
        "notavailable",
        "notspecified",
        "null",
        "oem",
        "sn",
        "systemproductname",
        "unknown",
    ];
    // "To be filled by O.E.M." and "Type2 - Board Serial Number" among others.
    let is_form = text.contains("filledbyo") || text.ends_with("serialnumber");
    let is_one_letter = text.chars().all(|c| text.starts_with(c));
    !(is_one_letter || is_form || is_counted(&text) || nothing.contains(&text.as_str()))
}

/// Whether the letters of a text follow each other from the first one on, as in 12345678, 0123456789abcdef and abcdefgh.
fn is_counted(text: &str) -> bool {
    let follows = |(before, after): (char, char)| {
        u32::from(after) == u32::from(before) + 1 || matches!((before, after), ('9', '0' | 'a') | ('f', '0'))
    };
    text.len() >= SHORTEST_COUNTED
        && text.starts_with(['0', '1', 'a'])
        && text.chars().zip(text.chars().skip(1)).all(follows)
}

/// What is shorter may be a number that somebody gave.
const SHORTEST_COUNTED: usize = 4;

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
        let forms = ["Serial Number", "System Serial Number", "Type2 - Board Serial Number", "Filled by OEM"];
        let filled = ["To Be Filled By O.E.M.", "To be filled by O.E.M", "Default string", "Default", "OEM"];
        let short = ["", "  ", "0", "0000000", "........", "00:00:00:00", "N/A", "N.A.", "NA", "SN"];
        let counted = ["0123456789", "123456789", "1234567890", "12345678", "0123456789ABCDEF", "ABCDEFGH"];
        for text in short.into_iter().chain(filled).chain(forms).chain(counted).chain(["System Product Name"])
        {
            assert!(!is_serial(text), "{text:?}");
            assert!(serial(text).unwrap_err().contains("no serial number"), "{text:?}");
        }
        for text in ["CZ1234", "7", "10", "123", "4567", "123457", "SN1", "NAB12", "J9X2K53"] {
            assert_eq!(is_serial(text), text != "7", "{text:?}");
        }
        assert_eq!((serial(" CZ12 ").as_deref(), serial_key(" Cz12")), (Ok("CZ12"), "cz12".to_owned()));
        assert!(serial("CZ\n12").is_err() && serial(&"7x".repeat(99)).is_err());
    }
}
