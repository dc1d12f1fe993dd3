//! What is wrong with a configuration, for the person who wrote it.

use std::fmt;

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The name of the file that it is in.
    pub file: String,
    /// The line it is on, from 1; none if it is about something that is not there at all.
    pub line: Option<usize>,
    /// The path of the key, such as `subnet[0].pool[1]`, counting from 0; empty if it is about the whole file or
    /// about text that is not TOML.
    pub key: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// All mistakes in a configuration, file by file in the order in which they are read, and there in the order of their
/// lines; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        let mut files: Vec<String> = Vec::new();
        for problem in &problems {
            if !files.contains(&problem.file) {
                files.push(problem.file.clone());
            }
        }
        let order = |file: &String| files.iter().position(|other| other == file);
        problems.sort_by_key(|problem| (order(&problem.file), problem.line));
        Self(problems)
    }

    /// A single mistake; without a line, one of the whole file.
    #[must_use]
    pub fn one(origin: &str, line: Option<usize>, message: String) -> Self {
        Self(vec![Problem { file: origin.to_owned(), line, key: String::new(), message }])
    }
}

impl fmt::Display for Problems {
    /// One line for each problem, such as `xpxe.toml:12: interface[0].dhcp: …`, without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, Problem { file, line, key, message }) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            f.write_str(file)?;
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
        let problem = |file: &str, line, key: &str, message: &str| Problem {
            file: file.into(),
            line,
            key: key.into(),
            message: message.into(),
        };
        let problems = Problems::new(vec![
            problem("xpxe.toml", Some(12), "interface[0].dhcp", "wrong"),
            problem("a.toml", Some(7), "machine[0].mac", "wrong"),
            problem("xpxe.toml", Some(3), "", "not TOML"),
            problem("xpxe.toml", None, "interface", "missing"),
        ]);
        let expected = "xpxe.toml: interface: missing\nxpxe.toml:3: not TOML\nxpxe.toml:12: interface[0].dhcp: \
            wrong\na.toml:7: machine[0].mac: wrong";
        assert_eq!(problems.to_string(), expected);
    }
}
