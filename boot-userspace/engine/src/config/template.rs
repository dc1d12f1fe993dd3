//! Texts with variables in them.

/// How many characters are taken of what a client says of itself.
const LONGEST_SAID: usize = 64;

/// What a client says of itself, so that nothing that reads it takes it for more than a word: not iPXE, no shell, no boot
/// loader and no parser. Everything but letters, digits, `.`, `_` and `-` becomes `_`.
#[must_use]
pub fn tame(said: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    said.chars().take(LONGEST_SAID).map(|c| if is_plain(c) { c } else { '_' }).collect()
}
