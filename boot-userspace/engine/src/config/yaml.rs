//! YAML, as far as documents are looked at. References are not followed: a few lines of them can stand for gigabytes.

use saphyr_parser::{Event, Parser};

use super::value::quoted;

/// What YAML is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    /// A reference to something before.
    Reference,
}

/// How deep lists and mappings may be in each other.
const DEEPEST: usize = 100;

impl Node {
    /// What a mapping has under a key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(pairs) = self else { return None };
        pairs.iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// What is not complete yet.
enum Open {
    List(Vec<Node>),
    /// With the key whose value comes next.
    Map(Vec<(Node, Node)>, Option<Node>),
}

/// The documents in a text.
pub(super) fn read(text: &str) -> Result<Vec<Node>, (Option<usize>, String)> {
    let mut documents = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            (Some(error.marker().line()), format!("is no YAML: {}; correct it", error.info()))
        })?;
        let line = Some(span.start.line());
        let complete = match event {
            Event::Scalar(text, ..) => Node::Text(text.into_owned()),
            Event::Alias(_) => Node::Reference,
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= DEEPEST => {
                return Err((
                    line,
                    "has too many lists and mappings in each other; write it flatter".to_owned(),
                ));
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(items)) => Node::List(items),
                Some(Open::Map(pairs, _)) => Node::Map(pairs),
                None => continue,
            },
            _ => continue,
        };
        match open.last_mut() {
            None => documents.push(complete),
            Some(Open::List(items)) => items.push(complete),
            Some(Open::Map(pairs, key)) => match key.take() {
                Some(name) => pairs.push((name, complete)),
                None => {
                    if let Some(name) = complete.text().filter(|name| *name != "<<")
                        && pairs.iter().any(|(other, _)| other.text() == Some(name))
                    {
                        return Err((line, format!("has the key {} twice; remove one", quoted(name))));
                    }
                    *key = Some(complete);
                }
            },
        }
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_and_what_is_wrong_has_its_line() {
        let documents = read("a: 1\nb: [x, {c: d}]\n---\n- *ref\n").map_err(|(line, _)| line);
        assert_eq!(documents, Err(Some(4)), "what it refers to is not there");
        let documents = read("a: &ref 1\nb: [x, {c: *ref}]\n--- |\n  text\n").unwrap();
        assert_eq!(documents.len(), 2);
        let Some(Node::List(list)) = documents[0].get("b") else { panic!() };
        assert_eq!(list[1].get("c"), Some(&Node::Reference));
        assert_eq!(documents[1].text(), Some("text\n"));
        for (text, line, what) in [
            ("a: 1\nb: 2\na: 3\n", 3, "has the key \"a\" twice"),
            ("a:\n  b: 1\n c: 2\n", 3, "is no YAML"),
            ("a: [1\n", 2, "is no YAML"),
            ("a: 'x\n", 2, "is no YAML"),
            ("a:\n\tb: 1\n", 2, "is no YAML"),
        ] {
            let (found, said) = read(text).expect_err(text);
            assert!(
                said.contains(what) && found.is_some_and(|found| found.abs_diff(line) <= 1),
                "{text}: {found:?} {said}"
            );
        }
        let deep = format!("{}{}", "[".repeat(101), "]".repeat(101));
        assert!(read(&deep).is_err_and(|(_, said)| said.contains("flatter")));
        assert!(read(&"[".repeat(100_000)).is_err());
        assert_eq!(read("").unwrap(), []);
    }
}
