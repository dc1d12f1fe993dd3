//! Clients' own words, as they may go to a log.

/// A text on one line, without anything that a terminal would follow and nobody would see (U+202E has a name read backwards).
/// Backslashes stay: firmware writes them in names of files.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '\'' | '"' => line.push(character),
            _ => line.extend(character.escape_debug()),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_and_nothing_in_it_is_hidden() {
        assert_eq!(shown("\\EFI\\grub\u{e4} \"x'.cfg"), "\\EFI\\grub\u{e4} \"x'.cfg");
        assert_eq!(shown("a\u{202e}gfc.b\n\u{1b}[31m\u{200b}"), "a\\u{202e}gfc.b\\n\\u{1b}[31m\\u{200b}");
    }
}
