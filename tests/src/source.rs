//! Rust source as the tests of the architecture read it: code without comments and tests, and its imports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A path of names: `crate::bindings::Bindings` is `["crate", "bindings", "Bindings"]`.
pub type Names = Vec<String>;

/// The lines of code, without comments and items for tests only.
pub fn code(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut source = text.lines();
    while let Some(line) = source.next() {
        if line.trim() == "#[cfg(test)]" {
            skip_item(&mut source);
            continue;
        }
        let line = line.split("//").next().unwrap_or_default();
        if !line.trim().is_empty() {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// An item ends with its first line that ends with `;` before any block began, or where its block ends: at the
/// indentation at which it began, as rustfmt writes it.
fn skip_item<'t>(source: &mut impl Iterator<Item = &'t str>) {
    let mut indent = None;
    for line in source {
        let width = line.len() - line.trim_start().len();
        let began = *indent.get_or_insert(width);
        let last = line.trim_end();
        let is_attribute = line.trim_start().starts_with("#[");
        let ends_whole = width == began && last.ends_with([';', '}']) && !is_attribute;
        if ends_whole || (width == began && last.ends_with(',') && !last.ends_with("(,")) {
            return;
        }
    }
}

/// Every path in the code that begins with one of `roots`, groups (`a::{b, c}`) taken apart.
pub fn paths(code: &[String], roots: &BTreeSet<String>) -> BTreeSet<Names> {
    let tokens = tokens(code);
    let mut found = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        let starts = roots.contains(&tokens[at])
            && tokens.get(at + 1).is_some_and(|next| next == "::")
            && (at == 0 || tokens[at - 1] != "::");
        if starts {
            at = path(&tokens, at, &mut Vec::new(), &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path, or one branch of a group, behind `before`. Returns its end.
fn path(tokens: &[String], mut at: usize, before: &mut Names, found: &mut BTreeSet<Names>) -> usize {
    let depth = before.len();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = if tokens[at] == "," { at + 1 } else { path(tokens, at, before, found).max(at + 1) };
                }
                at += 1;
                break;
            }
            Some(name) if is_name(name) => {
                before.push(name.to_owned());
                at += 1;
            }
            _ => {
                found.insert(before.clone());
                break;
            }
        }
        if tokens.get(at).is_some_and(|token| token == "::") {
            at += 1;
        } else {
            found.insert(before.clone());
            if tokens.get(at).is_some_and(|token| token == "as") {
                at += 2;
            }
            break;
        }
    }
    before.truncate(depth);
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_') && token != "as"
}

fn tokens(code: &[String]) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    for line in code {
        let mut rest = line.as_str();
        while let Some(first) = rest.chars().next() {
            let length = if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (token, after) = rest.split_at(length);
            if !first.is_whitespace() {
                tokens.push(token.to_owned());
            }
            rest = after;
        }
    }
    tokens
}

/// The modules of one crate and their imports of each other.
#[derive(Debug, Default)]
pub struct Crate {
    /// Module path (without `crate`) → file.
    pub modules: BTreeMap<Names, PathBuf>,
    /// File → files whose items it names. A module's file may name its own submodules; that does not count as an import.
    pub imports: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

impl Crate {
    /// Reads the crate with this `src`.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn read(src: &Path) -> Result<Self> {
        let mut modules = BTreeMap::new();
        for file in rust_files(src)? {
            modules.insert(module_of(src, &file), file);
        }
        let mut imports: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        for (module, file) in &modules {
            let code = code(&fs::read_to_string(file).with_context(|| file.display().to_string())?);
            let mut roots: BTreeSet<String> = ["crate", "super", "self"].map(String::from).into();
            let children =
                modules.keys().filter(|other| other.len() == module.len() + 1 && other.starts_with(module));
            roots.extend(children.filter_map(|child| child.last().cloned()));
            for names in paths(&code, &roots) {
                let Some(target) = resolve(&modules, module, &names) else { continue };
                if target != module && !target.starts_with(module) {
                    imports.entry(file.clone()).or_default().insert(modules[target].clone());
                }
            }
        }
        Ok(Self { modules, imports })
    }

    /// Files that import each other, directly or by way of others: each circle once, as a sorted list.
    pub fn circles(&self) -> BTreeSet<BTreeSet<PathBuf>> {
        let reach: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
            self.imports.keys().map(|file| (file, self.reachable(file))).collect();
        let mut circles = BTreeSet::new();
        for (file, reached) in &reach {
            if reached.contains(file) {
                let back = |other: &&&PathBuf| reach.get(*other).is_some_and(|from| from.contains(file));
                circles.insert(reached.iter().filter(back).map(|path| (*path).clone()).collect());
            }
        }
        circles
    }

    fn reachable(&self, from: &PathBuf) -> BTreeSet<&PathBuf> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&PathBuf> = self.imports.get(from).into_iter().flatten().collect();
        while let Some(file) = open.pop() {
            if reached.insert(file) {
                open.extend(self.imports.get(file).into_iter().flatten());
            }
        }
        reached
    }
}

/// The longest beginning of the path that is a module.
fn resolve<'m>(
    modules: &'m BTreeMap<Names, PathBuf>,
    module: &[String],
    names: &[String],
) -> Option<&'m Names> {
    let mut at: Names = match names.first().map(String::as_str) {
        Some("crate") => Vec::new(),
        _ => module.to_vec(),
    };
    let mut rest = names;
    while let Some(first) = rest.first() {
        match first.as_str() {
            "crate" | "self" => {}
            "super" => drop(at.pop()),
            _ => break,
        }
        rest = &rest[1..];
    }
    at.extend(rest.iter().cloned());
    (0..=at.len()).rev().find_map(|length| modules.get_key_value(&at[..length]).map(|(key, _)| key))
}

/// `engine/dhcp/mod.rs` is `["engine", "dhcp"]`, and `lib.rs` and `main.rs` are `[]`.
fn module_of(src: &Path, file: &Path) -> Names {
    let inside = file.strip_prefix(src).unwrap_or(file).with_extension("");
    let mut names: Names = inside.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if names.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        names.pop();
    }
    names
}

/// Every Rust file in a directory and below it, or the file itself, without files of tests.
///
/// # Errors
/// If a directory cannot be listed.
pub fn rust_files(place: &Path) -> Result<Vec<PathBuf>> {
    let mut files = all_rust_files(place)?;
    let is_test = |path: &Path| {
        let names = path.strip_prefix(place).unwrap_or(path).with_extension("");
        names.iter().any(|name| name == "tests" || name.to_string_lossy().ends_with("_tests"))
    };
    files.retain(|path| !is_test(path));
    Ok(files)
}

/// Every Rust file in a directory and below it, or the file itself.
///
/// # Errors
/// If a directory cannot be listed.
pub fn all_rust_files(place: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![place.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            // `target` has what build scripts wrote.
            let entries = fs::read_dir(&path)?.collect::<Result<Vec<_>, _>>()?;
            open.extend(entries.into_iter().filter(|entry| entry.file_name() != "target").map(|e| e.path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        code(text)
    }

    #[test]
    fn comments_and_tests_are_not_code_and_what_follows_a_test_is() {
        let text = "//! aya\nuse std::fmt; // aya\n#[cfg(test)]\nmod tests;\nmod tftp;\n\
                    #[cfg(test)]\nmod more {\n    use aya;\n}\nfn last() {}\n";
        assert_eq!(lines(text), ["use std::fmt; ", "mod tftp;", "fn last() {}"]);
        let text = "impl X {\n    #[cfg(test)]\n    fn a(\n        b: u8,\n    ) {\n        c();\n    }\n    fn d() {}\n}\n";
        assert_eq!(lines(text), ["impl X {", "    fn d() {}", "}"]);
        let text = "struct X {\n    #[cfg(test)]\n    a: u8,\n    b: u8,\n}\n";
        assert_eq!(lines(text), ["struct X {", "    b: u8,", "}"]);
    }

    #[test]
    fn groups_are_taken_apart() {
        let roots = ["crate", "super"].map(String::from).into();
        let code = lines("use crate::{a::{B, c as d}, e};\nfn f() { super::g::h(crate::i) }\n");
        let found: Vec<String> = paths(&code, &roots).iter().map(|names| names.join("::")).collect();
        assert_eq!(found, ["crate::a::B", "crate::a::c", "crate::e", "crate::i", "super::g::h"]);
    }

    #[test]
    fn a_circle_is_found_over_three_files() -> Result<()> {
        let dir = tempfile::tempdir()?;
        for (file, text) in [
            ("lib.rs", "mod a;\nmod b;\nmod c;\nmod d;\npub use a::A;\n"),
            ("a.rs", "use crate::b::B;\n"),
            ("b.rs", "use super::c::C;\n"),
            ("c.rs", "fn f(a: crate::a::A) {}\n"),
            ("d.rs", "use crate::a::A;\n#[cfg(test)]\nmod tests;\n"),
        ] {
            fs::write(dir.path().join(file), text)?;
        }
        let circles = Crate::read(dir.path())?.circles();
        let files = ["a.rs", "b.rs", "c.rs"].map(|file| dir.path().join(file));
        assert_eq!(circles, [files.into()].into());
        Ok(())
    }
}
