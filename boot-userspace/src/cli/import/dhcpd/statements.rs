//! dhcpd.conf as a tree of statements (dhcpd.conf(5)).

use std::iter::Peekable;
use std::path::Path;
use std::str::Chars;

use super::super::setup::{Bad, Place, Setup};

/// A word of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) is_quoted: bool,
}

/// A statement, with its block if it has one.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) place: Place,
    pub(super) words: Vec<Word>,
    pub(super) block: Option<Vec<Statement>>,
}

impl Statement {
    /// The words without their quotes.
    pub(super) fn texts(&self) -> Vec<&str> {
        self.words.iter().map(|word| word.text.as_str()).collect()
    }

    pub(super) fn text(&self) -> String {
        let word = |word: &Word| if word.is_quoted { format!("{:?}", word.text) } else { word.text.clone() };
        let words: Vec<String> = self.words.iter().map(word).collect();
        let words = words.join(" ").replace(" ,", ",").replace("( ", "(").replace(" )", ")");
        if self.block.is_some() { format!("{words} {{…}}") } else { words }
    }
}

/// Blocks or files in each other, at most.
const DEEPEST: usize = 20;

/// The statements of a file, and of those that it includes.
///
/// # Errors
/// The file that cannot be read.
pub(super) fn read(path: &Path, setup: &mut Setup, depth: usize) -> Result<Vec<Statement>, String> {
    let name = path.display().to_string();
    let text = setup.read(path)?;
    let mut reader = Reader { rest: text.chars().peekable(), line: 1, file: &name };
    let parsed = match reader.block(0) {
        Ok(parsed) => parsed,
        Err(bad) => {
            setup.bad.push(bad);
            return Ok(Vec::new());
        }
    };
    let mut statements = Vec::new();
    for statement in parsed {
        include(path, statement, setup, depth, &mut statements);
    }
    Ok(statements)
}

fn include(
    from: &Path,
    mut statement: Statement,
    setup: &mut Setup,
    depth: usize,
    into: &mut Vec<Statement>,
) {
    if let ["include", name] = statement.texts().as_slice() {
        let path = from.parent().unwrap_or(Path::new("")).join(name);
        let read =
            if depth < DEEPEST { read(&path, setup, depth + 1) } else { Err("includes itself".to_owned()) };
        match read {
            Ok(found) => into.extend(found),
            Err(why) => setup.left(&statement.place, statement.text(), why),
        }
        return;
    }
    if let Some(block) = statement.block.take() {
        let mut whole = Vec::new();
        for inner in block {
            include(from, inner, setup, depth, &mut whole);
        }
        statement.block = Some(whole);
    }
    into.push(statement);
}

struct Reader<'t> {
    rest: Peekable<Chars<'t>>,
    line: usize,
    file: &'t str,
}

impl Reader<'_> {
    fn bad(&self, line: usize, why: &str) -> Bad {
        Bad { place: Place::new(self.file, line), why: why.to_owned() }
    }

    fn take(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    /// The statements up to the block's end, or the file's if this is no block.
    fn block(&mut self, depth: usize) -> Result<Vec<Statement>, Bad> {
        let (begin, mut statements) = (self.line, Vec::new());
        let (mut words, mut line) = (Vec::new(), self.line);
        while let Some(c) = self.rest.peek().copied() {
            if words.is_empty() {
                line = self.line;
            }
            match c {
                '#' => while self.rest.next_if(|c| *c != '\n').is_some() {},
                c if c.is_whitespace() => {
                    self.take();
                }
                '{' => {
                    self.take();
                    if depth >= DEEPEST {
                        return Err(self.bad(line, "too many blocks in each other"));
                    }
                    let block = Some(self.block(depth + 1)?);
                    let place = Place::new(self.file, line);
                    statements.push(Statement { place, words: std::mem::take(&mut words), block });
                }
                '}' => {
                    self.take();
                    if !words.is_empty() {
                        return Err(self.bad(line, "a statement without ; at its end"));
                    }
                    return match depth {
                        0 => Err(self.bad(self.line, "a } without its {")),
                        _ => Ok(statements),
                    };
                }
                ';' => {
                    self.take();
                    if !words.is_empty() {
                        let place = Place::new(self.file, line);
                        statements.push(Statement { place, words: std::mem::take(&mut words), block: None });
                    }
                }
                '"' => words.push(Word { text: self.quoted()?, is_quoted: true }),
                ',' | '(' | ')' | '=' => {
                    self.take();
                    words.push(Word { text: c.to_string(), is_quoted: false });
                }
                _ => {
                    let mut text = String::new();
                    let is_in = |c: &char| !c.is_whitespace() && !"{};\"#,()=".contains(*c);
                    while let Some(c) = self.rest.next_if(is_in) {
                        text.push(c);
                    }
                    words.push(Word { text, is_quoted: false });
                }
            }
        }
        match (depth, words.is_empty()) {
            (0, true) => Ok(statements),
            (0, false) => Err(self.bad(line, "a statement without ; at its end")),
            _ => Err(self.bad(begin, "a { without its }")),
        }
    }

    fn quoted(&mut self) -> Result<String, Bad> {
        let line = self.line;
        let mut text = String::new();
        self.take();
        while let Some(c) = self.take() {
            match c {
                '"' => return Ok(text),
                '\\' => text.extend(self.take()),
                _ => text.push(c),
            }
        }
        Err(self.bad(line, "a quotation without its end"))
    }
}
