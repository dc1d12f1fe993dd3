//! JSON and YAML as a tree that knows its lines.

use std::fmt;

use saphyr_parser::{Event, Parser};

use super::setup::{Bad, Place};

/// A value, and its line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Also null and false.
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.pairs().iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    pub(super) fn pairs(&self) -> &[(String, Node)] {
        match &self.value {
            Value::Map(pairs) => pairs,
            _ => &[],
        }
    }

    pub(super) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// A text that is not empty; numbers and `true` are texts.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// The text of a key.
    pub(super) fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }

    /// The texts of a list.
    pub(super) fn texts(&self, key: &str) -> Vec<&str> {
        self.get(key).map(|list| list.items().iter().filter_map(Node::text).collect()).unwrap_or_default()
    }

    /// Whether it says nothing: null, empty, false.
    pub(super) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Text(text) => text.is_empty() || text == "false",
            Value::List(items) => items.is_empty(),
            Value::Map(pairs) => pairs.iter().all(|(_, node)| node.is_empty()),
        }
    }
}

/// In one line, shortened. What has keys of its own is not shown: among them are passwords and tokens, and the text goes
/// into logs and into the configuration.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Text(text) if text.chars().count() > 100 => {
                write!(f, "{}…", text.chars().take(100).collect::<String>())
            }
            Value::Text(text) => f.write_str(text),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Value::Map(_) => f.write_str("{…}"),
        }
    }
}

/// Lists and maps in each other, at most.
const DEEPEST: usize = 100;

/// JSON with the comments that Kea allows: `#`, `//`, `/* */`; a comma behind the last value is none.
///
/// # Errors
/// The line that is wrong.
pub(super) fn json(text: &str, file: &str) -> Result<Node, Bad> {
    let mut reader = Json { rest: text, line: 1, file };
    let node = reader.value(0)?;
    reader.blank();
    match reader.rest.is_empty() {
        true => Ok(node),
        false => Err(reader.bad("more behind the end")),
    }
}

struct Json<'t> {
    rest: &'t str,
    line: usize,
    file: &'t str,
}

impl<'t> Json<'t> {
    fn bad(&self, why: &str) -> Bad {
        Bad { place: Place::new(self.file, self.line), why: format!("is no JSON: {why}") }
    }

    fn skip(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.line += taken.matches('\n').count();
        self.rest = rest;
    }

    fn blank(&mut self) {
        loop {
            let end = |mark: &str| self.rest.find(mark).unwrap_or(self.rest.len());
            let length = match self.rest {
                rest if rest.starts_with(char::is_whitespace) => rest.len() - rest.trim_start().len(),
                rest if rest.starts_with('#') || rest.starts_with("//") => end("\n"),
                rest if rest.starts_with("/*") => end("*/") + 2,
                _ => return,
            };
            self.skip(length);
        }
    }

    fn take(&mut self, mark: char) -> bool {
        self.blank();
        let is_there = self.rest.starts_with(mark);
        if is_there {
            self.skip(mark.len_utf8());
        }
        is_there
    }

    fn value(&mut self, depth: usize) -> Result<Node, Bad> {
        if depth > DEEPEST {
            return Err(self.bad("too many lists and objects in each other"));
        }
        self.blank();
        let line = self.line;
        let value = if self.take('{') {
            let mut pairs = Vec::new();
            while !self.take('}') {
                self.blank();
                let key = self.string()?;
                if !self.take(':') {
                    return Err(self.bad("no : behind a key"));
                }
                pairs.push((key, self.value(depth + 1)?));
                if !self.take(',') && !self.rest.starts_with('}') {
                    return Err(self.bad("neither , nor } behind a value"));
                }
            }
            Value::Map(pairs)
        } else if self.take('[') {
            let mut items = Vec::new();
            while !self.take(']') {
                items.push(self.value(depth + 1)?);
                if !self.take(',') && !self.rest.starts_with(']') {
                    return Err(self.bad("neither , nor ] behind a value"));
                }
            }
            Value::List(items)
        } else if self.rest.starts_with('"') {
            Value::Text(self.string()?)
        } else {
            let length = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
            let word = self.rest.get(..length.unwrap_or(self.rest.len())).unwrap_or_default().to_owned();
            let is_number = word.parse::<f64>().is_ok();
            if !is_number && !["true", "false", "null"].contains(&word.as_str()) {
                return Err(self.bad("no value"));
            }
            self.skip(word.len());
            Value::Text(if word == "null" { String::new() } else { word })
        };
        Ok(Node { line, value })
    }

    fn string(&mut self) -> Result<String, Bad> {
        let mut end = 1;
        let bytes = self.rest.as_bytes();
        if bytes.first() != Some(&b'"') {
            return Err(self.bad("no text in quotes"));
        }
        while bytes.get(end).is_some_and(|byte| *byte != b'"') {
            end += if bytes.get(end) == Some(&b'\\') { 2 } else { 1 };
        }
        let whole = self.rest.get(..=end).ok_or_else(|| self.bad("a text without its end"))?;
        let text = serde_json::from_str(whole).map_err(|wrong| self.bad(&wrong.to_string()))?;
        self.skip(end + 1);
        Ok(text)
    }
}

/// The documents of a YAML file. References are not followed.
///
/// # Errors
/// The line that is wrong.
pub(super) fn yaml(text: &str, file: &str) -> Result<Vec<Node>, Bad> {
    enum Open {
        List(usize, Vec<Node>),
        Map(usize, Vec<(String, Node)>, Option<String>),
    }
    let bad =
        |line: usize, why: &str| Bad { place: Place::new(file, line), why: format!("is no YAML: {why}") };
    let (mut documents, mut open) = (Vec::new(), Vec::<Open>::new());
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| bad(error.marker().line(), error.info()))?;
        let line = span.start.line();
        let node = match event {
            Event::Scalar(text, ..) => Node { line, value: Value::Text(text.into_owned()) },
            Event::Alias(_) => return Err(bad(line, "references are not followed")),
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() > DEEPEST => {
                return Err(bad(line, "too many lists and mappings in each other"));
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(line, Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(line, Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(line, items)) => Node { line, value: Value::List(items) },
                Some(Open::Map(line, pairs, _)) => Node { line, value: Value::Map(pairs) },
                None => continue,
            },
            _ => continue,
        };
        match open.last_mut() {
            None => documents.push(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, pairs, key)) => match key.take() {
                Some(key) => pairs.push((key, node)),
                None => *key = Some(node.text().unwrap_or_default().to_owned()),
            },
        }
    }
    Ok(documents)
}
