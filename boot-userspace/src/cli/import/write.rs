//! The configuration as text, and the check that xpxe accepts it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use boot_engine::config::{self, Config, Source};

use super::setup::{Key, Left, Place, Setup, Table};
use crate::cli::configuration;

/// A configuration that `xpxe check` accepts, and everything that is not in it.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) toml: String,
    pub(super) config: Config,
    pub(super) left: Vec<Left>,
}

/// What a line of the text is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Table(usize),
    Key(usize, usize),
    Option(usize, usize),
}

/// How much of what was left out is told where nothing remains.
const MOST_LEFT: usize = 20;

/// Writes the set-up. What the configuration's own check refuses is left out, with the sentence of the check.
///
/// # Errors
/// A sentence if nothing acceptable remains.
pub(super) fn write(mut setup: Setup, origin: &str) -> Result<Written, String> {
    let (notes, mut left) = (std::mem::take(&mut setup.notes), std::mem::take(&mut setup.left));
    let mut tables = setup.tables();
    loop {
        let (text, parts) = lines(&tables);
        let source = Source { name: "the result".to_owned(), bytes: text.clone().into_bytes() };
        let read = |name: &str| configuration::text_file(Path::new("/xpxe.toml"), name);
        let problems = match config::parse_files_with(&[source], &read) {
            Err(problems) => problems,
            Ok(config) => {
                left.sort();
                left.dedup();
                return Ok(Written { toml: whole(&text, &notes, &left, origin), config, left });
            }
        };
        let found = problems.0.iter().filter_map(|problem| {
            let part = problem.line.and_then(|line| *parts.get(line.checked_sub(1)?)?)?;
            Some((part, problem.message.clone()))
        });
        let found: Vec<(Part, String)> = found.collect();
        let Some((first, _)) = found.first() else {
            // Perhaps because of what could not be read.
            let left: String = left.iter().take(MOST_LEFT).map(|left| format!("{left}\n")).collect();
            return Err(format!("{left}{problems}"));
        };
        // Those of another kind of table may follow from these: a machine without its subnet, for example.
        let kind = tables[first.table()].head;
        let mut together: BTreeMap<Part, String> = BTreeMap::new();
        for (part, why) in found.into_iter().filter(|(part, _)| tables[part.table()].head == kind) {
            together.entry(part).or_insert(why);
        }
        let whole: HashSet<usize> = together.keys().filter_map(|part| part.whole()).collect();
        // From the end, so that what is not removed yet stays where it is.
        for (part, why) in together.into_iter().rev() {
            if part.whole().is_some() || !whole.contains(&part.table()) {
                left.push(remove(&mut tables, part, why));
            }
        }
    }
}

impl Part {
    const fn table(self) -> usize {
        match self {
            Self::Table(table) | Self::Key(table, _) | Self::Option(table, _) => table,
        }
    }

    /// The table, if it is all of it.
    const fn whole(self) -> Option<usize> {
        match self {
            Self::Table(table) => Some(table),
            Self::Key(..) | Self::Option(..) => None,
        }
    }

    /// Its position in the text.
    const fn order(self) -> (usize, usize, usize) {
        match self {
            Self::Table(table) => (table, 0, 0),
            Self::Key(table, key) => (table, 1, key),
            Self::Option(table, option) => (table, 2, option),
        }
    }
}

impl PartialOrd for Part {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Part {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

fn remove(tables: &mut Vec<Table>, part: Part, why: String) -> Left {
    let somewhere = || Place::new("the result", 0);
    match part {
        Part::Table(at) => {
            let table = tables.remove(at);
            let what = table.keys.iter().map(|key| format!("{} = {}", key.name, key.value));
            let what = format!("{} {}", table.head, what.collect::<Vec<_>>().join(", "));
            Left { place: table.place.unwrap_or_else(somewhere), what, why }
        }
        Part::Key(table, key) => {
            let table = &mut tables[table];
            let Key { name, value, place, .. } = table.keys.remove(key);
            let place = place.or_else(|| table.place.clone()).unwrap_or_else(somewhere);
            Left { place, what: format!("{name} = {value}"), why }
        }
        Part::Option(table, option) => {
            let option = tables[table].options.remove(option);
            Left { place: option.place.clone(), what: option.to_string(), why }
        }
    }
}

/// The tables as text, and what each line is of.
fn lines(tables: &[Table]) -> (String, Vec<Option<Part>>) {
    let (mut text, mut parts) = (String::new(), Vec::new());
    let mut line = |line: &str, part: Option<Part>| {
        text += line;
        text.push('\n');
        parts.push(part);
    };
    for (number, table) in tables.iter().enumerate() {
        if number > 0 {
            line("", None);
        }
        for note in &table.notes {
            line(&comment(note), None);
        }
        if !table.head.is_empty() {
            line(table.head, Some(Part::Table(number)));
        }
        for (at, Key { name, value, note, .. }) in table.keys.iter().enumerate() {
            let note = note.as_ref().map(|note| format!("  {}", comment(note))).unwrap_or_default();
            line(&format!("{name} = {value}{note}"), Some(Part::Key(number, at)));
        }
        if !table.options.is_empty() {
            line("options = [", Some(Part::Table(number)));
            for (at, option) in table.options.iter().enumerate() {
                line(&format!("    {option},"), Some(Part::Option(number, at)));
            }
            line("]", Some(Part::Table(number)));
        }
    }
    (text, parts)
}

fn whole(text: &str, notes: &[String], left: &[Left], origin: &str) -> String {
    let mut all = comment(&format!("xpxe's configuration, imported from {origin}.")) + "\n";
    for note in notes {
        all += &(comment(note) + "\n");
    }
    all += "\n";
    all += text;
    if !left.is_empty() {
        all += "\n# Not carried over:\n";
        for one in left {
            all += &(comment(&one.to_string()) + "\n");
        }
    }
    all
}

/// No character of another file may end a comment.
fn comment(text: &str) -> String {
    let tame: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("# {tame}")
}
