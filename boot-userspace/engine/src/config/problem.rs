//! What is wrong with a file, for the person who wrote it.

use std::fmt;

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line it is on, from 1; none if it is about something that is not there at all.
    pub line: Option<usize>,
    /// The path of the key, such as `subnet[0].pool[1]`, counting from 0; empty if it is about the whole file or
    /// about text that is not TOML.
    pub key: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// All mistakes in a configuration, in the order of their lines; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>, String);

impl Problems {
    pub(super) fn new(origin: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.line);
        Self(problems, origin.to_owned())
    }

    /// A single mistake; without a line, one of the whole file.
    #[must_use]
    pub fn one(origin: &str, line: Option<usize>, message: String) -> Self {
        Self::new(origin, vec![Problem { line, key: String::new(), message }])
    }

    /// The name of the file, as it was given to [`parse`](super::parse).
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.1
    }
}

impl fmt::Display for Problems {
    /// One line for each problem, such as `xpxe.toml:12: interface[0].dhcp: …`, without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(problems, origin) = self;
        for (position, Problem { line, key, message }) in problems.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            f.write_str(origin)?;
            if let Some(line) = line {
                write!(f, ":{line}")?;
            }
            if !key.is_empty() {
                write!(f, ": {key}")?;
            }
            write!(f, ": {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_one_line_each_in_order() {
        let problem =
            |line, key: &str, message: &str| Problem { line, key: key.into(), message: message.into() };
        let problems = Problems::new(
            "xpxe.toml",
            vec![
                problem(Some(12), "interface[0].dhcp", "wrong"),
                problem(Some(3), "", "not TOML"),
                problem(None, "interface", "missing"),
            ],
        );
        let expected =
            "xpxe.toml: interface: missing\nxpxe.toml:3: not TOML\nxpxe.toml:12: interface[0].dhcp: wrong";
        assert_eq!(problems.to_string(), expected);
        assert_eq!(problems.origin(), "xpxe.toml");
    }
}
