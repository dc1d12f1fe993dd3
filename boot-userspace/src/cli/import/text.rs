//! Lines of the other server's files, and values as the configuration writes them.

use std::fmt;
use std::rc::Rc;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: Rc<str>,
    /// From 1.
    pub(super) line: usize,
}

impl Place {
    pub(super) fn new(file: &str, line: usize) -> Self {
        Self { file: file.into(), line }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    let mut toml = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => toml += "\\\"",
            '\\' => toml += "\\\\",
            c if c.is_control() => toml += &format!("\\u{:04X}", u32::from(c)),
            c => toml.push(c),
        }
    }
    toml + "\""
}

/// A text in which xpxe finds no template.
pub(in crate::cli) fn literal(text: &str) -> String {
    let (mut whole, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('{') {
        let (before, behind) = rest.split_at(at);
        whole += before;
        let mark = behind.get(..2).filter(|mark| ["{{", "{%", "{#"].contains(mark));
        whole += &mark.map_or_else(|| "{".to_owned(), |mark| format!("{{{{ '{mark}' }}}}"));
        rest = behind.get(mark.map_or(1, str::len)..).unwrap_or_default();
    }
    whole + rest
}

/// A TOML array of values.
pub(super) fn list(values: &[String]) -> String {
    format!("[{}]", values.join(", "))
}

/// Seconds as the configuration has times.
pub(super) fn time(seconds: u64) -> String {
    match seconds {
        0 => "0s".to_owned(),
        s if s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// A name for a table, of the characters that all names may have.
pub(super) fn name_of(text: &str) -> String {
    let good = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = text.chars().map(good).take(63).collect();
    match name.trim_matches('-') {
        "" => "unnamed".to_owned(),
        name => name.to_owned(),
    }
}
